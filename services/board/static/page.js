// Keeps a page current: fetches it again when something happened, and changes what differs. Rows that turned come with the
// stream before that. The server writes all of it.

import "./forms.js";
import { keys } from "./keys.js";
import { morph } from "./morph.js";
import { fallBehind, follow, now } from "./stream.js";
import { showAges, showMoments } from "./times.js";

const QUIET = new Set(["last_beat_at", "recent", "uptime"]); // changes that are seen with the next others, or by the clock
const SLOW_MS = 2000; // the pause after news that are only what a service says of itself
const LEAST_MS = 200; // from one request to the next, unless the reader asks
const HIDDEN_MS = 10_000; // the same while the page is hidden: of it only the title and the icon may be seen
const SPREAD_MS = 50; // many browsers do not all ask at once
const HELD_MS = 10_000; // how long news wait for a reader who is in a form, so that nothing moves while one types
export const ANSWER_MS = 15_000; // the most that a request may take: a connection may hang, or the browser may have none to spare
const TOO_MANY = 429; // the status of a request that the board puts off

const main = document.getElementById("main");
const { pause } = document.body.dataset;
const beats = new Map(); // by service, the last beat that the stream told of

export const page = { find: () => location.href }; // the address of what is shown
export const shown = []; // what is called when the page has been changed, with the time at which it was asked for

let waiting = 0; // a timer
let dueAt = Infinity;
let fetchedAt = -Infinity;
let heldAt = null; // since when news wait for a reader who is in a form
let flight = null; // the request that is under way
let current = null; // and its result
let isBehind = false; // something happened since it was sent
const brought = new Map(); // by service, the rows that came with the stream since then

export function plan(pauseMs = Number(pause)) {
  const leastMs = document.visibilityState === "visible" ? LEAST_MS : HIDDEN_MS;
  const at = Math.max(performance.now() + pauseMs, fetchedAt + leastMs);
  if (at >= dueAt) return;
  clearTimeout(waiting);
  dueAt = at;
  waiting = setTimeout(fetchIfFree, at - performance.now());
}

function fetchIfFree() {
  dueAt = Infinity;
  if (flight) isBehind = true;
  else if (isTyping() && performance.now() - (heldAt ??= performance.now()) < HELD_MS) plan();
  else refresh();
}

const isTyping = () => document.activeElement?.matches("main form:not([role=search]) :is(input, select, textarea)");

// Fetch the page now, in place of a request that is under way. Resolves to whether the board had an answer: without one,
// the page says that it is not current. A page of what is gone stays as it was.
export function refresh() {
  clearTimeout(waiting);
  [dueAt, fetchedAt, heldAt, isBehind] = [Infinity, performance.now(), null, false];
  brought.clear();
  flight?.abort();
  flight = new AbortController();
  main.ariaBusy = "true";
  current = fetchPage(flight);
  return current;
}

async function fetchPage(mine) {
  let isAnswered = false;
  const limit = setTimeout(() => mine.abort(), ANSWER_MS);
  try {
    const answer = await fetch(page.find(), { headers: { accept: "text/html" }, signal: mine.signal });
    const text = await answer.text();
    if (mine !== flight) return current; // the reader asked for something else meanwhile
    isAnswered = !answer.redirected && answer.status < 500 && answer.status !== TOO_MANY;
    if (isAnswered && answer.ok) show(new DOMParser().parseFromString(text, "text/html"));
  } catch {
    if (mine !== flight) return current;
  } finally {
    clearTimeout(limit);
  }
  [flight, main.ariaBusy] = [null, null];
  if (!isAnswered) fallBehind(); // which has it fetched again
  else if (isBehind) plan(0);
  return isAnswered;
}

function show(fresh) {
  const made = fresh.getElementById("main");
  showTimes(made);
  for (const row of brought.values()) putRow(row, made);
  morph(main, made);
  document.title = fresh.title;
  for (const id of ["icon", "revision"]) morph(document.getElementById(id), fresh.getElementById(id));
  for (const each of shown) each(fetchedAt);
}

function showTimes(within) {
  showMoments(within, now());
  showAges(within, now(), beats);
}

// Returns the pause before the page is fetched again; infinity if it shows nothing of what happened.
function judge({ services, removed, order, fleet }) {
  if (removed.length || order || Object.keys(fleet).length) return Number(pause);
  const names = new Set(Object.values(services).flatMap(Object.keys).filter((name) => !QUIET.has(name)));
  const isSaid = names.delete("detail");
  return names.size ? Number(pause) : isSaid ? SLOW_MS : Infinity;
}

function take(delta) {
  for (const [svc, fields] of Object.entries(delta?.services ?? {})) {
    if (fields.last_beat_at) beats.set(svc, fields.last_beat_at);
  }
  const pauseMs = delta === null ? Number(pause) : judge(delta);
  if (pauseMs < Infinity) plan(pauseMs + SPREAD_MS * Math.random());
}

// Show at once what the stream brought; the page that is fetched next has its order, and all else that depends on it.
function bring(rows) {
  const made = new DOMParser().parseFromString(`<table>${rows}</table>`, "text/html");
  showTimes(made);
  for (const row of made.querySelectorAll("tr")) {
    brought.set(row.dataset.svc, row);
    putRow(row, main);
  }
}

function putRow(row, within) {
  const old = within.querySelector(`#rows > tr[data-svc="${CSS.escape(row.dataset.svc)}"]`);
  if (!old) return;
  row.ariaRowIndex = old.ariaRowIndex;
  morph(old, row.cloneNode(true));
}

function tick() {
  const everySec = main.querySelector("[data-every]")?.dataset.every; // what changes without a change of the fleet
  if (everySec && performance.now() - fetchedAt > 1000 * everySec) plan();
  showAges(main, now(), beats);
}

function reload() {
  beats.clear();
  return refresh();
}

addEventListener("visibilitychange", () => dueAt < Infinity && plan(0));
fetchedAt = performance.now();
showTimes(document);
follow({ happened: take, bring, ticked: tick, reload });
