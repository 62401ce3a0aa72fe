// Follows the prices of a page of the market. The server writes what is shown of each, and here it is put in place; all else
// of the page is fetched again somewhat later.

import { plan, shown } from "./page.js";
import { followMarket } from "./market_socket.js";
import { setText } from "./times.js";

const LATER_MS = 5000; // the pause until the page is fetched for the rest, once its prices are in place

const latest = new Map(); // by series, what came last of its price
let followed = "";
let stop = null;

// Returns whether the page has a place for all of it.
function put({ series, at, cells }) {
  const places = [...document.querySelectorAll(`[data-priced="${CSS.escape(series)}"]`)];
  const older = places.filter((each) => Number(each.dataset.priceAt) <= at);
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
  latest.set(data.series, data);
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

shown.push(() => latest.forEach(put), followTopics); // a page may have been on its way for longer than a price
followTopics();
