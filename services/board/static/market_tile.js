// Shows a price on a tile: with its change, where it came from, and how old it is.

import { showMoments } from "./stream.js";
import { readPage, replacePart } from "./market_page.js";
import { findDirection, formatChange, formatPercent, formatPrice, formatRecency } from "./market_words.js";

const EVERY_MS = 60_000; // the board keeps what its page says of the past for 20 s
const UNFILLED_MS = 15_000;
const AWAITED_MS = 2_000;
let readAt = performance.now();
let isAwaited = false; // a first price has come, for which this page has no place yet

// A price that is older than the one on the tile changes nothing. `day` is its date if it is the price of a whole day.
export function showPrice(tile, price, at, source, replay, day = null) {
  const shown = tile.querySelector("[data-price]");
  const before = Number(tile.dataset.time);
  isAwaited ||= !shown;
  if (!shown || (tile.dataset.time && at < before)) return;
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

// What the board may show by now that no stream brings: series and first prices that came after the page was made, the
// values of economic series, the closes from which a new day counts.
// Returns true if other tiles are there than before.
export async function renewPage() {
  const boxes = ["tiles", "quote"].map((id) => document.getElementById(id)).filter(Boolean);
  const everyMs = boxes.every(isFilled) ? EVERY_MS : isAwaited ? AWAITED_MS : UNFILLED_MS;
  if (!boxes.length || performance.now() - readAt < everyMs || document.visibilityState !== "visible") return false;
  readAt = performance.now();
  isAwaited = false;
  const page = await readPage();
  if (page === null) return false;
  const others = boxes.map((box) => renewTiles(box, page.getElementById(box.id)));
  const fresh = new Map([...page.querySelectorAll("[data-symbol][data-base]")].map((one) => [one.dataset.symbol, one]));
  for (const tile of document.querySelectorAll("[data-symbol][data-base]")) takeClose(tile, fresh.get(tile.dataset.symbol));
  return others.some(Boolean);
}

const findTiles = (box) => (box.dataset.symbol ? [box] : [...box.querySelectorAll("[data-symbol]")]);
const hasPrice = (tile) => tile.querySelector("[data-price]") !== null;

function isFilled(box) {
  const tiles = findTiles(box);
  return tiles.length > 0 && tiles.every(hasPrice);
}

function renewTiles(mine, fresh) {
  if (!fresh || describeTiles(mine) === describeTiles(fresh)) return false;
  replacePart(mine, fresh);
  showMoments(mine);
  return true;
}

// The symbols of a part of the page, and whether each has a price and a close before it; where no prices are followed,
// the time of each as well.
function describeTiles(box) {
  const isFollowed = box.dataset.topics !== "";
  return findTiles(box).map((tile) => (
    [tile.dataset.symbol, hasPrice(tile), "base" in tile.dataset, isFollowed ? "" : tile.dataset.time].join(" ")
  )).join("\n");
}

// A change counts from the close of the day before.
function takeClose(tile, fresh) {
  if (!fresh || !tile.dataset.last) return;
  tile.dataset.base = fresh.dataset.base;
  showChange(tile, Number(tile.dataset.last));
}

function setText(node, text) {
  if (node && node.textContent !== text) node.textContent = text;
}
