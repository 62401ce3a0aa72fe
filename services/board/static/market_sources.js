// Keeps the page of the sources current: when a series changes, and now and then, the page is read again, and what
// differs is put in.

import { follow, showMoments } from "./stream.js";
import { listenToKeys } from "./keys.js";
import { readPage, replacePart } from "./market_page.js";
import { followMarket } from "./market_socket.js";

const EVERY_MS = 2000; // the least time between two reads
const IDLE_MS = 30_000; // the most: not all that stands here is a change of a series
const PARTS = ["gate", "sources", "cascade", "quarantine", "requests"];
let isReading = false;
let isChanged = false;
let readAt = performance.now() - EVERY_MS;

// A part as the board sent it (times are shown in another way later): its HTML, and the cells of its table by the name of
// their row; empty if it has no table, or its rows have no names.
function readPart(page, name) {
  const rows = [...page.querySelectorAll(`#${name} tbody tr[data-row]`)];
  const cells = rows.map((row) => [row.dataset.row, [...row.cells].map((cell) => cell.innerHTML)]);
  return { html: page.getElementById(`part-${name}`).innerHTML, rows: new Map(cells) };
}

const known = new Map(PARTS.map((name) => [name, readPart(document, name)]));

function update(name, page) {
  const [before, after] = [known.get(name), readPart(page, name)];
  if (before.html === after.html) return;
  if (before.rows.size && after.rows.size) {
    updateRows(document.getElementById(name), page.getElementById(name), before.rows, after.rows);
  } else {
    const part = document.getElementById(`part-${name}`);
    if (part.querySelector("details[open]") || part.contains(document.activeElement)) return; // somebody reads it
    replacePart(part, page.getElementById(`part-${name}`));
  }
  known.set(name, after);
}

// A cell that says the same stays, and with it a link that has the focus.
function updateRows(table, fresh, before, after) {
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
  const sinceMs = performance.now() - readAt;
  if (isReading || document.visibilityState !== "visible" || sinceMs < (isChanged ? EVERY_MS : IDLE_MS)) return;
  [isReading, isChanged, readAt] = [true, false, performance.now()];
  const page = await readPage();
  isReading = false;
  if (page === null) isChanged = true;
  else show(page);
}

function show(page) {
  for (const name of PARTS) update(name, page);
  const [said, fresh] = [document, page].map((each) => each.getElementById("fallbacks"));
  if (said && fresh && said.innerHTML !== fresh.innerHTML) said.innerHTML = fresh.innerHTML;
  showMoments();
}

showMoments();
listenToKeys();
follow({ changed: read, ticked: read });
followMarket(["series"], { take: () => { isChanged = true; } });
