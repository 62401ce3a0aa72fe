// Formats numbers of the market as services/board/market/pictures.py does for a page without JavaScript.

import { formatAge, formatClock, formatDate } from "./words.js";

const NONE = "–";
const EVENING_MS = 4 * 3600000;
const OLD_SEC = 172800; // from this age on the time itself says more than the age

export function formatPrice(price, like = price) {
  if (price === null || price === undefined) return NONE;
  const size = Math.abs(like ?? price);
  if (size >= 100 || size === 0) return group(price.toFixed(2));
  if (size >= 1) return trim(group(price.toFixed(4)));
  return Math.abs(price) >= 1e-4 || price === 0 ? `${Number(price.toPrecision(6))}` : trim(price.toFixed(10));
}

function group(text) {
  const [whole, decimals] = text.split(".");
  return `${whole.replace(/\B(?=(\d{3})+$)/g, ",")}.${decimals}`;
}

// Zeros at the end say nothing beyond two decimals.
function trim(text) {
  const [whole, decimals] = text.split(".");
  return `${whole}.${decimals.slice(0, 2)}${decimals.slice(2).replace(/0+$/, "")}`;
}

export function formatChange(change, price = null) {
  if (change === null || change === undefined) return NONE;
  const text = formatPrice(Math.abs(change), price);
  const lacking = countDecimals(formatPrice(price)) - countDecimals(text);
  return (change > 0 ? "+" : change < 0 ? "−" : "") + text + "0".repeat(Math.max(0, lacking));
}

const countDecimals = (text) => text.split(".")[1]?.length ?? 0;

// How long ago something was, or its time in UTC if that is days ago.
export function formatRecency(atMs, nowSec) {
  if (atMs === null || atMs === undefined) return NONE;
  const age = nowSec - atMs / 1000;
  if (age < OLD_SEC) return `${formatAge(age)} ago`;
  return `${new Date(atMs).toISOString().slice(0, 16).replace("T", " ")} UTC`.replace(/ 00:00 UTC$/, "");
}

// The minute of a time in the zone of this browser.
export function formatMinute(ms) {
  const at = new Date(ms);
  return `${formatDate(at)} ${formatClock(at)}`;
}

// The date of a trading day that begins at a time, as the market calls it: that of forex begins on the evening before.
export function formatDay(startMs) {
  return new Date(startMs + EVENING_MS).toISOString().slice(0, 10);
}

export function formatPercent(percent) {
  if (percent === null || percent === undefined) return NONE;
  const rounded = Math.round(percent * 100) / 100;
  return `${rounded > 0 ? "+" : rounded < 0 ? "−" : ""}${Math.abs(rounded).toFixed(2)} %`;
}

export function findDirection(change) {
  if (!change) return "flat";
  return change > 0 ? "rise" : "fall";
}
