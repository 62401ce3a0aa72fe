// Follows the prices of a page of the market. The server writes what is shown of each, and here it is put in place; all else
// of the page is fetched again somewhat later.

import { plan, shown } from "./page.js";
import { followMarket } from "./market_socket.js";
import { setText } from "./times.js";

const LATER_MS = 5000; // the pause until the page is fetched for the rest, once its prices are in place

const PAGE_MS = 1000; // for so long the board may give the same page to several readers

const latest = new Map(); // by series, what came last of its price, and when
let followed = "";
let stop = null;

// Returns whether the page has a place for all of it. `at` is no version: it stays the same while a bar goes on, is corrected
// or divided for a split. So what the page has of the same time is replaced only if it may have been made before this.
function put({ series, at, cells }, isLater = true) {
  const places = [...document.querySelectorAll(`[data-priced="${CSS.escape(series)}"]`)];
  const isOlder = (shownAt) => shownAt < at || (shownAt === at && isLater);
  const older = places.filter((each) => isOlder(Number(each.dataset.priceAt)));
  return Object.keys(cells).length > 0 && places.length > 0 && older.every((place) => {
    place.dataset.priceAt = at;
    return Object.entries(cells).every(([name, cell]) => putCell(place.querySelector(`[data-cell="${name}"]`), cell));
  });
}

function putCell(element, { text, mark, since, after }) {
  if (!element) return false;
  if (mark) element.className = mark;
  if (since === null) delete element.dataset.since;
  else Object.assign(element.dataset, { since, after });
  setText(element, text);
  return true;
}

export function takeCells(data) {
  latest.set(data.series, { data, heardAt: performance.now() });
  plan(put(data) ? LATER_MS : undefined);
}

function followTopics() {
  const { topics = "" } = document.querySelector("[data-topics]")?.dataset ?? {};
  if (topics === followed) return;
  followed = topics;
  stop?.();
  const take = (topic, data) => (topic.startsWith("cells:") ? takeCells(data) : plan());
  stop = followMarket(topics.split(" ").filter(Boolean), { take, begin: () => {}, joined: () => plan() });
}

// A page may have been on its way for longer than a price.
function putAgain(askedAt) {
  for (const { data, heardAt } of latest.values()) put(data, heardAt > askedAt - PAGE_MS);
}

shown.push(putAgain, followTopics);
followTopics();
