// Keeps the page for the public current: it has no stream, and is fetched again now and then.

import { showMoments } from "./times.js";

const EVERY_MS = 30000;

function showTimes() {
  showMoments(document, Date.now() / 1000);
  for (const zone of document.querySelectorAll(".zone")) zone.hidden = true;
}

async function refresh() {
  try {
    const answer = await fetch(location.href);
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.getElementById("main").replaceWith(fresh.getElementById("main"));
    document.title = fresh.title;
    showTimes();
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
    document.getElementById("lost").hidden = false;
  }
}

showTimes();
setInterval(refresh, EVERY_MS);
