// Keeps the tables of the sources current: when a series changes, the page is read again, and what differs is put in.

import { follow, showMoments } from "./stream.js";
import { listenToKeys } from "./keys.js";
import { followMarket } from "./market_socket.js";

const EVERY_MS = 2000; // the least time between two reads
const PARTS = ["sources", "cascade"];
let isReading = false;
let isChanged = false;
let readAt = -EVERY_MS;

// The cells of a table as the board sent them, by the name of their row: times are shown in another way later.
function readRows(table) {
  return new Map([...table.tBodies[0].rows].map((row) => [row.dataset.row, [...row.cells].map((cell) => cell.innerHTML)]));
}

const known = new Map();
for (const name of PARTS) {
  const table = document.getElementById(name);
  if (table) known.set(name, readRows(table));
}

// A cell that says the same stays, and with it a link that has the focus.
function update(name, fresh) {
  const table = document.getElementById(name);
  const [before, after] = [known.get(name), readRows(fresh)];
  known.set(name, after);
  if ([...before.keys()].join("\n") !== [...after.keys()].join("\n")) {
    table.tBodies[0].replaceWith(document.adoptNode(fresh.tBodies[0]));
    return;
  }
  for (const row of table.tBodies[0].rows) {
    const [old, now] = [before.get(row.dataset.row), after.get(row.dataset.row)];
    now.forEach((html, index) => {
      if (html !== old[index]) row.cells[index].innerHTML = html; // of our own page: texts in it are escaped
    });
  }
}

async function read() {
  if (isReading || !isChanged || document.visibilityState !== "visible" || performance.now() - readAt < EVERY_MS) return;
  [isReading, isChanged, readAt] = [true, false, performance.now()];
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const name of known.keys()) {
      const fresh = page.getElementById(name);
      if (fresh) update(name, fresh);
    }
    const [said, fresh] = [document, page].map((each) => each.getElementById("fallbacks"));
    if (said && fresh && said.innerHTML !== fresh.innerHTML) said.innerHTML = fresh.innerHTML;
    showMoments();
  } catch {
    isChanged = true; // the line above the page says that the board is away
  } finally {
    isReading = false;
  }
}

showMoments();
listenToKeys();
follow({ changed: read, ticked: read });
followMarket(["series"], { take: () => { isChanged = true; } });
