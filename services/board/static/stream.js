// Follows the fleet by server-sent events, and says at once when what the page shows is not current any more.

import { showMoment, writeHeadline } from "./words.js";

const LATE_MS = 5000; // how much later than it is due something may come
const JUMP_MS = 4000; // a timer of one second that took so long: this machine slept
const FIRST_RETRY_MS = 300;
const LAST_RETRY_MS = 5000;

export const fleet = {
  at: Number(document.body.dataset.at), fleet: "", revision: null, services: new Map(), buses: [], healers: [],
  incidents: [], silences: [], pending: [], dead: 0, notes: [],
};

let source = null;
let isStale = false;
let why = "";
let heardAt = performance.now(); // when the last event came
let dueMs = 2000; // the time between two signs of life; each says when the next one comes
let shownAt = performance.now(); // when `fleet.at` was the time
let retryMs = FIRST_RETRY_MS;
let retry = 0;
let early = null; // deltas that come while the snapshot is on its way; null while no snapshot is on its way
let handlers = {};

// The time of the server, in epoch seconds; it stands still while the page is stale.
export function now() {
  return fleet.at + ((isStale ? heardAt : performance.now()) - shownAt) / 1000;
}

// Call `changed(names, fields, services, alert)` after each event: the names of the changed services (null: all), the
// fields of the fleet that changed, those of each service, and the event of the alert log if it is one.
// Call `ticked()` every second while the page is current.
export function follow({ changed, ticked }) {
  handlers = { changed, ticked };
  connect();
  let last = Date.now();
  setInterval(() => {
    const slept = Date.now() - last > 1000 + JUMP_MS && document.visibilityState === "visible";
    last = Date.now();
    if (slept) lose("This machine slept", true);
    else if (performance.now() - heardAt > dueMs + LATE_MS) lose("The board does not answer", !isStale);
    if (isStale) showStale();
    else handlers.ticked?.();
  }, 1000);
  addEventListener("offline", connect); // the board may be on this very machine: only a failure tells
  addEventListener("online", connect);
  addEventListener("pageshow", (event) => event.persisted && lose("This page was put away", true));
  addEventListener("pagehide", () => source?.close());
}

// A new connection begins with `reset`, which asks for a snapshot. One that the browser makes again by itself begins
// with what was missed and `resumed`, if the board still has that.
function connect() {
  clearTimeout(retry);
  source?.close();
  const mine = source = new EventSource(document.body.dataset.stream);
  const on = (name, take) => source.addEventListener(name, (event) => mine === source && take(event));
  on("reset", () => load(mine));
  on("resumed", hear);
  on("delta", (event) => take(JSON.parse(event.data)));
  on("alert", (event) => hear() || handlers.changed?.([], {}, {}, JSON.parse(event.data)));
  on("tick", (event) => early === null && (hear() || takeTick(JSON.parse(event.data))));
  on("error", () => {
    const isRefused = source.readyState === EventSource.CLOSED;
    if (!isRefused || !isStale) lose(navigator.onLine ? "The board does not answer" : "This machine is offline", false);
    if (!isRefused) return;
    explain(mine);
    clearTimeout(retry);
    retry = setTimeout(connect, retryMs);
    retryMs = Math.min(LAST_RETRY_MS, retryMs * 1.7);
  });
}

// EventSource does not tell scripts why a stream was refused: the same request does.
async function explain(mine) {
  const answer = await fetch(document.body.dataset.stream).catch(() => null);
  answer?.body?.cancel();
  if (mine === source) lose(answer?.status === 401 ? "You are not signed in any more" : "The board does not answer", false);
}

async function load(mine) {
  early = [];
  try {
    const answer = await fetch(document.body.dataset.snapshot, { cache: "no-cache" });
    if (!answer.ok) throw new Error(answer.statusText);
    const { position, fleet: data } = await answer.json();
    if (mine !== source) return;
    const missed = early.filter((delta) => delta.at > data.at);
    early = null;
    hear();
    fleet.position = position;
    takeSnapshot(data);
    missed.forEach(takeDelta);
  } catch {
    if (mine !== source) return;
    early = null;
    lose("The board does not answer", false);
    source.close();
    clearTimeout(retry);
    retry = setTimeout(connect, retryMs);
    retryMs = Math.min(LAST_RETRY_MS, retryMs * 1.7);
  }
}

function take(delta) {
  if (early) early.push(delta);
  else {
    hear();
    takeDelta(delta);
  }
}

// Note that the board lives: what the page shows is current.
function hear() {
  heardAt = performance.now();
  retryMs = FIRST_RETRY_MS;
  if (!isStale && document.body.dataset.link === "live") return;
  isStale = false;
  showCurrent();
}

function setClock(data) {
  if (typeof data.at !== "number") return;
  fleet.at = data.at;
  shownAt = heardAt;
}

function takeTick(data) {
  setClock(data);
  if (typeof data.every_sec === "number") dueMs = 1000 * data.every_sec;
}

// A service has the fields that are not the usual ones, and places in the lists of what most services share.
function unpack(one, { usual, recent, uptime }) {
  return { ...usual, ...one, recent: recent[one.recent], uptime: uptime[one.uptime] };
}

function takeSnapshot(data) {
  setClock(data);
  for (const name of Object.keys(fleet)) if (name !== "services" && name in data) fleet[name] = data[name];
  fleet.services = new Map(data.services.map((one) => [one.svc, unpack(one, data)]));
  show();
  handlers.changed?.(null, data, {}, null);
}

function takeDelta(data) {
  setClock(data);
  for (const [svc, fields] of Object.entries(data.services)) {
    const one = fleet.services.get(svc);
    if (one) Object.assign(one, fields);
    else fleet.services.set(svc, fields);
  }
  for (const svc of data.removed) fleet.services.delete(svc);
  if (data.order) {
    fleet.services = new Map(data.order.map((svc) => [svc, fleet.services.get(svc)]).filter(([, one]) => one));
  }
  Object.assign(fleet, data.fleet);
  show();
  const names = data.removed.length || data.order ? null : Object.keys(data.services);
  handlers.changed?.(names, data.fleet, data.services, null);
}

// The parts of the frame that every page has: title, icon, revision.
function show() {
  const services = [...fleet.services.values()];
  const headline = writeHeadline(services);
  const heading = document.getElementById("headline");
  const before = heading?.textContent;
  if (heading && before !== headline) heading.textContent = headline;
  const isDown = services.some((one) => one.state === "down");
  heading?.classList.toggle("down", isDown);
  const title = document.body.dataset.title ?? headline;
  document.title = `${title} · ${fleet.fleet || "MarketSwarm"}`;
  const icon = document.getElementById("icon");
  const file = isDown ? "bad.svg" : "good.svg";
  if (!icon.href.endsWith(file)) icon.href = icon.href.replace(/[a-z]+\.svg$/, file);
  document.getElementById("revision").textContent = fleet.revision ?? "unknown";
}

function lose(reason, reconnect) {
  if (!isStale) {
    isStale = true;
    document.body.classList.add("stale");
    document.body.classList.remove("live");
    document.body.dataset.link = "stale";
  }
  why = reason;
  showStale();
  if (reconnect) connect();
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
  if (isStale) return;
  document.body.classList.add("live");
  document.body.classList.remove("stale");
  document.body.dataset.link = "live";
  const banner = document.getElementById("banner");
  banner.hidden = true;
  banner.replaceChildren();
  document.getElementById("link").textContent = "live";
}

// Show every time of the page in the zone of this browser.
export function showMoments(within = document) {
  for (const time of within.querySelectorAll("time[datetime]")) showMoment(time, now());
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.getElementById("zone").textContent = `Times are in ${zone}.`;
}
