// Shows a price on a tile: with its change, where it came from, and how old it is.

import { findDirection, formatChange, formatPercent, formatPrice, formatRecency } from "./market_words.js";

const DAY_MS = 86400000;
const RENEW_MS = 30_000; // the board keeps what its page says of the past for 20 s
let dayEndedAt = null; // when a price of another day came than the page was made for

// A price that is older than the one on the tile changes nothing. `day` is its date if it is the price of a whole day.
export function showPrice(tile, price, at, source, replay, day = null) {
  const shown = tile.querySelector("[data-price]");
  const before = Number(tile.dataset.time);
  if (!shown || (tile.dataset.time && at < before)) return;
  if (tile.dataset.time && Math.floor(at / DAY_MS) !== Math.floor(before / DAY_MS)) dayEndedAt ??= performance.now();
  tile.dataset.time = at;
  tile.dataset.last = price;
  setText(shown, formatPrice(price));
  showChange(tile, price);
  setText(tile.querySelector("[data-source]"), source);
  const mark = tile.querySelector("[data-replay]");
  if (mark) mark.hidden = !replay;
  const age = tile.querySelector("[data-age]");
  if (!age) return;
  age.dataset.at = at;
  age.toggleAttribute("data-day", day !== null);
  if (day !== null) setText(age, day);
}

function showChange(tile, price) {
  const change = tile.querySelector("[data-change]");
  if (!change || !tile.dataset.base) return;
  const base = Number(tile.dataset.base);
  change.className = `change ${findDirection(price - base)}`;
  setText(change.firstChild, `${formatChange(price - base, price)} `);
  setText(change.querySelector("[data-percent]"), `(${formatPercent(base ? (100 * (price - base)) / Math.abs(base) : null)})`);
}

export function tickAges(nowSec) {
  for (const age of document.querySelectorAll("[data-age]:not([data-day])")) { // a price of a day has its date
    setText(age, formatRecency(Number(age.dataset.at), nowSec));
  }
}

// A change counts from the close of the day before. On a new day the page is read again for the closes of the last one.
export async function renewCloses() {
  if (dayEndedAt === null || performance.now() - dayEndedAt < RENEW_MS || document.visibilityState !== "visible") return;
  dayEndedAt = null;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok || answer.redirected) throw new Error(answer.statusText);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = new Map([...page.querySelectorAll("[data-symbol][data-base]")].map((one) => [one.dataset.symbol, one]));
    for (const tile of document.querySelectorAll("[data-symbol][data-base]")) takeClose(tile, fresh.get(tile.dataset.symbol));
  } catch {
    dayEndedAt = performance.now(); // the line above the page says that the board is away
  }
}

function takeClose(tile, fresh) {
  if (!fresh || !tile.dataset.last) return;
  tile.dataset.base = fresh.dataset.base;
  showChange(tile, Number(tile.dataset.last));
}

function setText(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}
