// Follows the fleet by server-sent events, and says at once when what the page shows is not current any more.

import { showMoment } from "./times.js";

const LATE_MS = 5000; // how much later than it is due something may come
const JUMP_MS = 4000; // a timer of one second that took so long: this machine slept
const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 5000;
const REST_MS = 30_000; // a page that is hidden for so long keeps no stream: over HTTP/1.1 a browser has six connections to
const LOOK_MS = 10_000; // a host, for all of its tabs. So often it asks what it missed
const { dataset, classList } = document.body;

let source = null;
let { position } = dataset; // the last event that is known
let at = Number(dataset.at); // the time of the server, in epoch seconds, at `shownAt`
let shownAt = performance.now();
let heardAt = performance.now(); // when the last event came
let dueMs = 2000; // the time between two signs of life; each says when the next one comes
let lateAt = heardAt + dueMs + LATE_MS; // when one has to be there at the latest; infinity while none is asked for
let isPast = true; // what comes happened before the connection
let isBehind = false; // and the page does not show it yet
let why = "";
let retryMs = FIRST_RETRY_MS;
let retry = 0;
let resting = 0; // the timer after which a hidden page rests
let isResting = false; // whether it has a stream only while it catches up
let handlers = {};

const isStale = () => dataset.link === "stale";

// The time of the server, in epoch seconds; it stands still while the page is stale.
export function now() {
  return at + ((isStale() ? heardAt : performance.now()) - shownAt) / 1000;
}

// Call `happened(delta)` after each event, with what changed, or with null for an event of the alert log, `bring(rows)` with
// the HTML of rows that turned, and `ticked()` every second while the page is current. `reload()` makes the page show
// everything anew: it resolves to whether it does.
export function follow({ happened = () => {}, bring = () => {}, ticked = () => {}, reload = () => true }) {
  handlers = { happened, bring, ticked, reload };
  document.getElementById("zone").textContent = `Times are in ${Intl.DateTimeFormat().resolvedOptions().timeZone}.`;
  connect();
  let last = Date.now();
  setInterval(() => {
    const slept = Date.now() - last > 1000 + JUMP_MS && document.visibilityState === "visible";
    last = Date.now();
    if (slept) lose("This machine slept", true);
    else if (performance.now() > lateAt) lose("The board does not answer", !isStale());
    if (isStale()) showStale();
    else handlers.ticked();
  }, 1000);
  addEventListener("offline", connect); // the board may be on this very machine: only a failure tells
  addEventListener("online", connect);
  addEventListener("pageshow", (event) => event.persisted && lose("This page was put away", true));
  addEventListener("pagehide", () => source?.close());
  addEventListener("visibilitychange", () => {
    if (isResting && document.visibilityState === "visible") last = Date.now(); // a hidden page's timers may be rare
    restIfHidden();
  });
  restIfHidden();
}

function restIfHidden() {
  clearTimeout(resting);
  if (document.visibilityState !== "visible") {
    resting = setTimeout(() => {
      isResting = true;
      if (!isPast) rest(); // else `begin` does it, once nothing is missing
    }, REST_MS);
  } else if (isResting) {
    isResting = false;
    connect();
  }
}

// Give the stream back until the page has to be looked after again.
function rest() {
  source.close();
  [isPast, lateAt] = [true, Infinity];
  clearTimeout(retry);
  retry = setTimeout(connect, LOOK_MS);
}

// A connection, also one that the browser makes again by itself, begins with what was missed and `resumed`, or with
// `reset` if the board does not have that any more.
function connect() {
  clearTimeout(retry);
  source?.close();
  isPast = true;
  lateAt = Math.min(lateAt, performance.now() + dueMs + LATE_MS);
  const mine = source = new EventSource(`${dataset.stream}?after=${encodeURIComponent(position)}`);
  const on = (name, take) => source.addEventListener(name, (event) => {
    if (mine !== source) return;
    position = event.lastEventId || position;
    take(event);
  });
  on("reset", () => begin(mine, true));
  on("resumed", () => begin(mine, isBehind || isStale()));
  on("delta", (event) => take(JSON.parse(event.data)));
  on("alert", () => take(null));
  on("rows", (event) => isPast || handlers.bring(JSON.parse(event.data)));
  on("tick", (event) => {
    if (isPast) return;
    setClock(JSON.parse(event.data));
    hear();
  });
  on("error", () => {
    isPast = true;
    const isRefused = source.readyState === EventSource.CLOSED;
    if (!isRefused || !isStale()) lose(navigator.onLine ? "The board does not answer" : "This machine is offline", false);
    if (!isRefused) return;
    explain(mine);
    retryLater();
  });
}

function retryLater() {
  clearTimeout(retry);
  retry = setTimeout(connect, retryMs);
  retryMs = Math.min(LAST_RETRY_MS, retryMs * 1.7);
}

// EventSource does not tell scripts why a stream was refused: the same request does.
async function explain(mine) {
  const answer = await fetch(dataset.stream).catch(() => null);
  answer?.body?.cancel();
  if (mine === source) lose(answer?.status === 401 ? "You are not signed in any more" : "The board does not answer", false);
}

async function begin(mine, isLacking) {
  const isShown = !isLacking || await handlers.reload();
  if (mine !== source) return;
  if (isShown) {
    [isPast, isBehind] = [false, false];
    hear();
    if (isResting) rest();
  } else {
    lose("The board does not answer", false);
    source.close();
    retryLater();
  }
}

function take(delta) {
  if (delta) setClock(delta);
  if (isPast) isBehind = true;
  else hear();
  handlers.happened(delta);
}

// Note that the board lives: what the page shows is current.
function hear() {
  heardAt = performance.now();
  lateAt = heardAt + dueMs + LATE_MS;
  retryMs = FIRST_RETRY_MS;
  if (dataset.link !== "live") showCurrent();
}

function setClock(data) {
  if (typeof data.at === "number") [at, shownAt] = [data.at, performance.now()];
  if (typeof data.every_sec === "number") dueMs = 1000 * data.every_sec;
}

function lose(reason, reconnect) {
  setLink("stale", "live");
  why = reason;
  showStale();
  if (reconnect) connect();
}

// The page could not be fetched, though the stream may go on. A page that is stale already is fetched by `begin` alone: at
// the pace of its retries.
export function fallBehind() {
  if (!isStale()) lose("The board does not answer", true);
}

function setLink(link, before) {
  dataset.link = link;
  classList.add(link);
  classList.remove(before);
}

function showStale() {
  const banner = document.getElementById("banner");
  const text = `${why}. This page shows how things were at `;
  if (banner.dataset.why !== why || banner.hidden) {
    const time = document.createElement("time");
    time.dateTime = new Date(now() * 1000).toISOString();
    showMoment(time, now());
    const ago = document.createElement("span");
    ago.ariaHidden = "true";
    banner.replaceChildren(text, time, ". It keeps trying. ", ago);
    banner.dataset.why = why;
    banner.hidden = false;
  }
  banner.lastChild.textContent = `${Math.round((performance.now() - heardAt) / 1000)} s ago`;
  document.getElementById("link").textContent = "not current";
}

function showCurrent() {
  setLink("live", "stale");
  const banner = document.getElementById("banner");
  banner.hidden = true;
  banner.replaceChildren();
  document.getElementById("link").textContent = "live";
}
