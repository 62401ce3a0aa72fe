// Reads a page of the market again, for what no stream brings.

const TEXTS = ["gate", "market-notes"]; // what every page has: how far the gate is, and what is away
const sent = new Map(TEXTS.map((id) => [id, document.getElementById(id)?.innerHTML]));

// Put in the texts that changed, and return the page as the board makes it now; null if the board does not answer, which
// the line above the page says.
export async function readPage() {
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return null;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of TEXTS) renewText(id, page.getElementById(id));
    return page;
  } catch {
    return null;
  }
}

function renewText(id, fresh) {
  const mine = document.getElementById(id);
  if (!mine || !fresh || fresh.innerHTML === sent.get(id)) return;
  sent.set(id, fresh.innerHTML);
  replacePart(mine, fresh);
}

// Put a part of a page that was read in place of ours; its texts are escaped.
export function replacePart(mine, fresh) {
  mine.innerHTML = fresh.innerHTML;
  Object.assign(mine.dataset, fresh.dataset);
}
