// Shows a price on a tile: with its change, where it came from, and how old it is.

import { findDirection, formatChange, formatDay, formatPercent, formatPrice, formatRecency } from "./market_words.js";

// A price that is older than the one on the tile changes nothing. `isDaily`: it is that of the day that begins at `at`.
export function showPrice(tile, price, at, source, replay, isDaily = false) {
  const shown = tile.querySelector("[data-price]");
  if (!shown || (tile.dataset.time && at < Number(tile.dataset.time))) return;
  tile.dataset.time = at;
  setText(shown, formatPrice(price));
  const change = tile.querySelector("[data-change]");
  if (change && tile.dataset.base) {
    const base = Number(tile.dataset.base);
    change.className = `change ${findDirection(price - base)}`;
    setText(change.firstChild, `${formatChange(price - base, price)} `);
    setText(change.querySelector("[data-percent]"), `(${formatPercent(base ? (100 * (price - base)) / Math.abs(base) : null)})`);
  }
  setText(tile.querySelector("[data-source]"), source);
  const mark = tile.querySelector("[data-replay]");
  if (mark) mark.hidden = !replay;
  const age = tile.querySelector("[data-age]");
  if (!age) return;
  age.dataset.at = at;
  age.toggleAttribute("data-day", isDaily);
  if (isDaily) setText(age, formatDay(at));
}

export function tickAges(nowSec) {
  for (const age of document.querySelectorAll("[data-age]:not([data-day])")) { // a price of a day has its date
    setText(age, formatRecency(Number(age.dataset.at), nowSec));
  }
}

function setText(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}
