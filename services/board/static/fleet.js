// The page of the fleet: what its reader asks for, and which rows of a large fleet are asked for. The server selects, sorts
// and writes them.

import { keys } from "./keys.js";
import { page, refresh, shown } from "./page.js";

const ALL_ROWS = 300; // up to so many rows are all in the page
const AROUND = 15; // rows are asked for in steps of so many, and as many above and below the sight
const NOT_UP = "down,failed,unwatchable,silent,unknown";

const body = document.getElementById("rows");
const table = document.getElementById("fleet");
const form = document.getElementById("find");
const isWall = () => document.body.classList.contains("wall");
const total = () => table.ariaRowCount - 1;
let near = 0; // the row in sight of which the server was told

function rowHeight() {
  const style = getComputedStyle(document.documentElement);
  return parseFloat(style.getPropertyValue("--row")) * parseFloat(style.fontSize);
}

function findNear() {
  const hidden = Math.max(0, -body.getBoundingClientRect().top) / rowHeight();
  return table.classList.contains("many") ? Math.floor(hidden / AROUND) * AROUND : 0;
}

function write() {
  const entries = [...new FormData(form)].map(([name, value]) => [name, String(value).trim()]);
  const wanted = entries.filter(([name, value]) => value && !(name === "sort" && value === "state"));
  if (isWall()) wanted.push(["wall", "1"]);
  return wanted;
}

page.find = () => {
  near = findNear();
  const rows = AROUND * Math.ceil(innerHeight / rowHeight() / AROUND + 3);
  return `?${new URLSearchParams([...write(), ["near", near], ["rows", rows]])}`;
};

// The rows that are not in the page have their height as a space.
function lay() {
  const isPart = total() > ALL_ROWS && !isWall();
  table.classList.toggle("many", isPart);
  const above = (body.firstElementChild?.ariaRowIndex ?? 2) - 2;
  const below = total() - above - body.children.length;
  body.style.paddingTop = isPart ? `${above * rowHeight()}px` : "";
  body.style.paddingBottom = isPart ? `${below * rowHeight()}px` : "";
}

function ask() {
  const text = new URLSearchParams(write()).toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  refresh();
}

function choose(name, value, other) {
  const choice = form.elements[name];
  choice.value = choice.value === value ? other : value;
  ask();
}

function toggleWall() {
  document.body.classList.toggle("wall");
  ask();
}

function leave() {
  if (isWall()) return toggleWall();
  form.elements.text.value = "";
  form.elements.text.blur();
  return ask();
}

function follow(event) {
  const { sort, group } = event.target.closest("a")?.dataset ?? {};
  if ((!sort && group === undefined) || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  if (sort) choose("sort", sort, sort);
  else choose("group", "host", "");
}

let isLooking = false;
function look() {
  if (isLooking) return;
  isLooking = true;
  requestAnimationFrame(() => {
    isLooking = false;
    if (findNear() !== near) refresh();
  });
}

form.addEventListener("input", ask);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
table.tHead.addEventListener("click", follow);
document.getElementById("by-host").addEventListener("click", follow);
addEventListener("scroll", look, { passive: true });
addEventListener("resize", look, { passive: true });
Object.assign(keys, { w: toggleWall, p: () => choose("states", NOT_UP, ""), Escape: leave });

shown.push(lay, look);
document.getElementById("pages")?.remove();
lay();
const given = new URLSearchParams(location.search);
if (`${given}` !== `${new URLSearchParams(write())}`) ask(); // somebody may have chosen something before this script came
else if (total() > body.children.length && total() <= ALL_ROWS) refresh();
