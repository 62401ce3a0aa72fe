// The page of the fleet: a row for each service, patched as events come. Only the rows in sight are in the page
// when there are many.

import { fleet, follow, now, showMoments } from "./stream.js";
import { listenToKeys } from "./keys.js";
import {
  URGENCY, WINDOWS, describeBar, describeService, drawPaths, findKnownPart, findMark, findWord, formatAge, formatInstances, formatWindowShare,
  listWatchers, make, makeState, writeMoment,
} from "./words.js";

const ALL_ROWS = 300; // up to so many rows are all in the page
const AROUND = 12; // rows above and below the sight
const KEPT_ROWS = 100; // from so many on, rows out of sight are forgotten, and made again when they are seen again
const BARS_SEC = 10; // a bar moves by less than a pixel meanwhile
const WALL_ROWS = 60; // a wall with more services shows only those that are not up
const NOT_UP = "down,failed,unwatchable,silent,unknown";
const SVG = "http://www.w3.org/2000/svg";
const BAR_CLASSES = { unknown: "n", up: "u", down: "d" };

const body = document.getElementById("rows");
const table = document.getElementById("fleet");
const form = document.getElementById("find");
const byHost = document.getElementById("by-host");
const above = make("tr", "gap");
const below = make("tr", "gap");
for (const each of [above, below]) each.ariaHidden = "true";

let rows = new Map(); // by service: its row, as far as it was drawn
let items = []; // what the query has, in order: a service, or the name of a group
let at = null; // the service on which the keys stand
let seconds = 0;

// -- one row

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function cell(name, ...parts) {
  const made = make("td", name, ...parts);
  made.setAttribute("role", "cell");
  return made;
}

class Row {
  constructor(one) {
    this.link = make("a", "", one.svc);
    this.link.href = `/services/${encodeURIComponent(one.svc)}`;
    const head = make("th", "svc", this.link);
    head.scope = "row";
    head.setAttribute("role", "rowheader");
    this.state = cell("v");
    this.bar = svg("svg", { class: "bar", viewBox: "0 0 3600 20", preserveAspectRatio: "none", role: "img" });
    this.silence = cell("num si quiet");
    this.uptime = Object.keys(WINDOWS).map((_, index) => cell(`num quiet w${index}`));
    this.instances = cell("num in quiet");
    this.rev = cell("num rv quiet");
    this.restarts = cell("num rs quiet");
    this.says = cell("says");
    this.element = make("tr", "", head, this.state, cell("h", this.bar), this.silence, ...this.uptime,
      this.instances, this.rev, this.restarts, this.says);
    this.element.setAttribute("role", "row");
    this.element.dataset.svc = one.svc;
    this.draw(one);
  }

  draw(one) {
    const word = findWord(one);
    if (this.shown !== word) {
      this.element.className = findMark(one) + (this.shown ? " new" : "") + (at === one.svc ? " at" : "");
      this.state.replaceChildren(makeState(findMark(one), word));
      this.shown = word;
    }
    setText(this.instances, formatInstances(one));
    setText(this.rev, String(one.rev ?? "–"));
    setText(this.restarts, String(one.restarts ?? "–"));
    Object.keys(WINDOWS).forEach((name, index) => drawUptime(this.uptime[index], one.uptime[name], name));
    this.says.classList.toggle("ill", one.status !== null && one.status !== "ok");
    const pieces = describeService(one);
    const key = JSON.stringify(pieces);
    if (this.key !== key) {
      this.key = key;
      this.says.replaceChildren(...pieces.flatMap(([text, ts], index) => [
        `${index ? " · " : ""}${text}`, ...(ts === undefined || ts === null ? [] : [" ", writeMoment(ts, now())]),
      ]));
    }
    this.drawBar(one);
    this.drawSilence(one);
  }

  drawBar(one) {
    const moment = now();
    const paths = drawPaths(one.recent, moment);
    const key = Object.values(paths).join();
    if (this.paths === key) return;
    this.paths = key;
    const drawn = Object.entries(paths).filter(([, path]) => path);
    this.bar.replaceChildren(...drawn.map(([state, path]) => svg("path", { class: BAR_CLASSES[state], d: path })));
    this.bar.setAttribute("aria-label", describeBar(one.recent, moment));
  }

  drawSilence(one) {
    setText(this.silence, formatAge(one.last_beat_at === null ? null : now() - one.last_beat_at));
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function drawUptime(element, uptime, name) {
  const part = findKnownPart(uptime, name, now());
  const text = formatWindowShare(uptime, name, now());
  if (element.drawn === `${text} ${part}`) return;
  element.drawn = `${text} ${part}`;
  element.classList.toggle("part", part !== null);
  element.replaceChildren(make("span", "", text));
  element.removeAttribute("title");
  if (part === null) return;
  element.title = `somebody listened for ${part} % of this time`;
  element.append(make("span", "unseen", ` in the ${part} % of the time in which somebody listened`));
}

// -- which rows, in which order

function query() {
  const data = new FormData(form);
  return Object.fromEntries([...data].map(([name, value]) => [name, String(value).trim()]));
}

function matches(one, wanted, text) {
  if (wanted.states && !wanted.states.split(",").includes(one.state)) return false;
  if (wanted.tag && !one.tags.includes(wanted.tag)) return false;
  return !text || [one.svc, one.description, ...one.tags].some((each) => each.toLowerCase().includes(text));
}

// Those that are equal stay in the order of the truth.
const ORDERS = {
  state: (one, two) => URGENCY[one.state] - URGENCY[two.state],
  name: (one, two) => (one.svc < two.svc ? -1 : one.svc > two.svc ? 1 : 0),
  silence: (one, two) => (one.last_beat_at ?? 0) - (two.last_beat_at ?? 0),
  uptime: (one, two) => (one.uptime["24h"]?.share ?? 2) - (two.uptime["24h"]?.share ?? 2),
  restarts: (one, two) => (two.restarts ?? 0) - (one.restarts ?? 0),
};
const groupOf = {
  state: (one) => one.state, bus: (one) => one.bus, tag: (one) => one.tags[0] ?? "", host: (one) => one.hosts.join(", "),
};
const NO_NAMES = { tag: "without a tag", host: "no known host" };

function select() {
  const wanted = query();
  const text = wanted.text.toLowerCase();
  const order = ORDERS[wanted.sort] ?? ORDERS.state;
  const found = [...fleet.services.values()]
    .filter((one) => matches(one, wanted, text))
    .sort(order);
  setText(form.querySelector("output"), `${found.length} of ${fleet.services.size}`);
  document.getElementById("empty").hidden = found.length > 0;
  items = wanted.group ? group(found, wanted.group) : found;
  const others = document.getElementById("others");
  const isFull = document.body.classList.contains("wall") && found.length > WALL_ROWS;
  if (isFull) items = found.filter((one) => one.state !== "up");
  others.hidden = !isFull;
  others.textContent = isFull ? `${found.length - items.length} others are up.` : "";
}

function group(found, kind) {
  const groups = new Map();
  for (const one of found) {
    const name = groupOf[kind](one) || NO_NAMES[kind];
    if (!groups.has(name)) groups.set(name, [name]);
    groups.get(name).push(one);
  }
  return [...groups.values()].flat();
}

// -- what of it is in the page

function sight() {
  const isWall = document.body.classList.contains("wall");
  if (isWall) return [0, Math.min(items.length, ALL_ROWS), 0];
  if (items.length <= ALL_ROWS) return [0, items.length, 0];
  const height = rowHeight();
  const top = Math.max(0, -body.getBoundingClientRect().top);
  const first = Math.max(0, Math.floor(top / height) - AROUND);
  return [first, Math.min(items.length, Math.ceil((top + innerHeight) / height) + AROUND), height];
}

function rowHeight() {
  return parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"))
    * parseFloat(getComputedStyle(document.documentElement).fontSize);
}

function elementOf(item, index) {
  if (typeof item === "string") {
    const head = make("th", "", item);
    head.setAttribute("role", "columnheader");
    const made = make("tr", "group", head);
    made.setAttribute("role", "row");
    return made;
  }
  let row = rows.get(item.svc);
  if (row) row.draw(item);
  else rows.set(item.svc, row = new Row(item));
  row.element.setAttribute("aria-rowindex", index + 2);
  return row.element;
}

function draw() {
  const [first, end, height] = sight();
  table.classList.toggle("many", height > 0);
  const focused = document.activeElement;
  const wanted = items.slice(first, end).map((item, index) => elementOf(item, first + index));
  above.style.height = `${first * height}px`;
  below.style.height = `${(items.length - end) * height}px`;
  if (height) wanted.splice(0, 0, above), wanted.push(below);
  table.setAttribute("aria-rowcount", items.length + 1);
  place(wanted);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  if (height && rows.size > KEPT_ROWS) {
    for (const [svc, row] of rows) if (!row.element.isConnected) rows.delete(svc);
  }
  drawn = `${first} ${end}`;
}
let drawn = "";

// Make these the rows of the table, moving as few as possible.
function place(wanted) {
  const keep = new Set(wanted);
  for (const each of [...body.children]) if (!keep.has(each)) each.remove();
  let next = body.firstElementChild;
  for (const each of wanted) {
    if (each === next) next = next.nextElementSibling;
    else body.insertBefore(each, next);
  }
}

function rowsInSight() {
  const [first, end] = sight();
  return items.slice(first, end).filter((item) => typeof item !== "string" && rows.has(item.svc));
}

// -- what happens

function changed(names, fields) {
  if (names === null) {
    for (const svc of rows.keys()) if (!fleet.services.has(svc)) rows.delete(svc);
    document.getElementById("pages")?.remove();
    listTags();
  }
  if (names === null || "buses" in fields || "healers" in fields || "pending" in fields || "dead" in fields
    || names.includes("sentinel") || names.includes("notifier")) drawParts();
  if (names === null || "notes" in fields) {
    document.getElementById("notes").replaceChildren(...fleet.notes.map((note) => make("li", "", note)));
  }
  plan();
}

let planned = false;
function plan() {
  if (planned) return;
  planned = true;
  queueMicrotask(() => {
    planned = false;
    select();
    draw();
  });
}

function drawParts() {
  document.getElementById("parts").replaceChildren(...listWatchers(fleet).map(([name, state, text]) =>
    make("li", "", makeState(state, name), make("span", "unseen", ` ${state}`), make("span", "soft", text))));
}

function listTags() {
  const tags = [...new Set([...fleet.services.values()].flatMap((one) => one.tags))].sort();
  const chosen = form.elements.tag.value;
  const any = make("option", "", "any");
  any.value = "";
  form.elements.tag.replaceChildren(any, ...tags.map((tag) => make("option", "", tag)));
  form.elements.tag.value = tags.includes(chosen) ? chosen : "";
}

function tick() {
  seconds += 1;
  for (const one of rowsInSight()) {
    rows.get(one.svc).drawSilence(one);
    if (seconds % BARS_SEC === 0) rows.get(one.svc).drawBar(one);
  }
}

function asked() {
  const wanted = Object.entries(query()).filter(([name, value]) => value && !(name === "sort" && value === "state"));
  if (document.body.classList.contains("wall")) wanted.push(["wall", "1"]);
  const text = new URLSearchParams(wanted).toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  for (const head of table.querySelectorAll("thead th[aria-sort]")) head.removeAttribute("aria-sort");
  const link = table.querySelector(`thead a[data-sort="${CSS.escape(form.elements.sort.value)}"]`);
  link?.parentElement.setAttribute("aria-sort", link.dataset.sort === "name" ? "ascending" : "descending");
  setText(byHost, form.elements.group.value === "host" ? "Without groups" : "By host");
  if (fleet.services.size) plan();
}

function step(by) {
  const places = items.map((item, index) => (typeof item === "string" ? -1 : index)).filter((index) => index >= 0);
  if (!places.length) return;
  const here = places.findIndex((index) => items[index].svc === at);
  const index = places[Math.max(0, Math.min(places.length - 1, here < 0 ? 0 : here + by))];
  rows.get(at)?.element.classList.remove("at");
  at = items[index].svc;
  const [, , height] = sight();
  if (height) {
    const top = body.getBoundingClientRect().top + scrollY + index * height;
    if (top < scrollY + 3 * height || top > scrollY + innerHeight - 3 * height) scrollTo(0, top - innerHeight / 2);
    draw();
  }
  rows.get(at)?.element.classList.add("at");
  rows.get(at)?.link.focus({ preventScroll: Boolean(height) });
}

function toggleWall() {
  document.body.classList.toggle("wall");
  asked();
}

function toggleProblems() {
  const choice = form.elements.states;
  choice.value = choice.value === NOT_UP ? "" : NOT_UP;
  asked();
}

function leave() {
  if (document.body.classList.contains("wall")) return toggleWall();
  form.elements.text.value = "";
  form.elements.text.blur();
  return asked();
}

function toggleByHost(event) {
  if (event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  form.elements.group.value = form.elements.group.value === "host" ? "" : "host";
  asked();
}

form.addEventListener("input", asked);
byHost.addEventListener("click", toggleByHost);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  asked();
});
table.tHead.addEventListener("click", (event) => {
  const sort = event.target.closest("a")?.dataset.sort;
  if (!sort || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  form.elements.sort.value = sort;
  asked();
});
let scrolled = false;
function look() {
  if (scrolled) return;
  scrolled = true;
  requestAnimationFrame(() => {
    scrolled = false;
    const [first, end, height] = sight();
    if (height && drawn !== `${first} ${end}`) draw();
  });
}
addEventListener("scroll", look, { passive: true });
addEventListener("resize", look, { passive: true });
body.addEventListener("focusin", (event) => {
  const svc = event.target.closest("tr")?.dataset.svc;
  if (svc) at = svc;
});

showMoments();
asked(); // somebody may have chosen something while this script was on its way
listenToKeys({ j: () => step(1), k: () => step(-1), w: toggleWall, p: toggleProblems, Escape: leave });
follow({ changed, ticked: tick });
