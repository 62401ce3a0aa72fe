// Keeps any page current but the fleet's: fetches it again when something happened, and replaces what changed.

import { fleet, follow, now, showMoments } from "./stream.js";
import { formatAge } from "./words.js";
import { listenToKeys } from "./keys.js";

const QUIET = new Set(["last_beat_at", "recent", "uptime"]); // changes that don't matter on these pages
const PAUSE_MS = 400;

let waiting = 0;
let isFetching = false;
let first = true;
let fetchedAt = Date.now();

function isNews(fields, services, alert) {
  if (alert) return true;
  if (Object.keys(fields).some((name) => name !== "at")) return true;
  return Object.values(services ?? {}).some((changed) => Object.keys(changed).some((name) => !QUIET.has(name)));
}

async function refresh() {
  waiting = 0;
  if (isFetching || document.activeElement?.matches?.("main input, main select, main textarea")) return plan();
  isFetching = true;
  fetchedAt = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok) replaceMain(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch {
    plan(); // the stream says by itself that the board is gone
  } finally {
    isFetching = false;
  }
}

function plan() {
  waiting ||= setTimeout(refresh, PAUSE_MS);
}

function replaceMain(fresh) {
  const main = document.getElementById("main");
  const parts = [...main.children];
  const focused = main.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const typed = [...main.querySelectorAll("form [id]")].filter((each) => each.value !== each.defaultValue);
  const opened = [...main.querySelectorAll("details:not([id])")].map((each) => each.open);
  const others = [...fresh.getElementById("main").children];
  for (const part of fresh.querySelectorAll("#main")) showMoments(part);
  // before the comparison: a form in which somebody types is not replaced if it is the same otherwise
  for (const each of fresh.querySelectorAll("#main details[id]")) {
    each.open = document.getElementById(each.id)?.open ?? each.open;
  }
  if (parts.length === others.length) {
    parts.forEach((part, index) => part.isEqualNode(others[index]) || part.replaceWith(others[index]));
  } else main.replaceChildren(...others);
  for (const each of typed) {
    const field = each.isConnected ? null : document.getElementById(each.id);
    if (field) field.value = each.value;
  }
  main.querySelectorAll("details:not([id])").forEach((each, index) => { each.open = opened[index] ?? each.open; });
  if (focused && !main.contains(document.activeElement)) {
    main.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

function tick() {
  const soon = document.querySelector("main [data-every]"); // what changes without a change of the fleet
  if (soon && Date.now() - fetchedAt > 1000 * soon.dataset.every) plan();
  for (const each of document.querySelectorAll("[data-silence]")) {
    const one = fleet.services.get(each.dataset.silence);
    const text = formatAge(one && one.last_beat_at !== null ? now() - one.last_beat_at : null);
    if (one && each.textContent !== text) each.textContent = text;
  }
}

showMoments();
listenToKeys();
follow({
  changed: (_names, fields, services, alert) => {
    if (first) {
      first = false;
      if (fleet.position !== document.body.dataset.position) plan(); // it happened while this page was on its way
    } else if (isNews(fields, services, alert)) plan();
    tick();
  },
  ticked: tick,
});
