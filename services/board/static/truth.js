// The pages on which the truth is edited: shows what is wrong with a document as somebody types. Never replaces it.

import "./keys.js";
import { follow, now } from "./stream.js";
import { showMoments } from "./times.js";

const PAUSE_MS = 350; // after the last key, until the document is checked
const text = document.getElementById("text");
const verdict = document.getElementById("verdict");
const list = document.getElementById("problems");

let planned = 0;
let asked = 0; // the number of the last request: an answer to an earlier one is old

async function check() {
  const mine = ++asked;
  let answer;
  try {
    answer = await fetch("/api/v1/truth/check", {
      method: "POST", headers: { "content-type": "application/json" }, body: `${text.value.trim()}\n`,
    });
    if (!answer.ok) throw new Error((await answer.json()).detail);
    answer = await answer.json();
  } catch (error) {
    if (mine === asked) show(`Not checked: ${error.message}. Your text is checked when you send it.`, [], false);
    return;
  }
  if (mine !== asked) return;
  const { errors, warnings, changes, same } = answer;
  const count = errors.length === 1 ? "1 problem" : `${errors.length} problems`;
  if (errors.length) show(count, errors, true);
  else if (same) show("This document is in force.", [], false);
  else show(`Valid. It changes: ${changes.join("; ") || "nothing but how it is written"}`, warnings, false);
}

function show(words, problems, isBad) {
  verdict.textContent = words;
  verdict.classList.toggle("ill", isBad);
  text.setAttribute("aria-invalid", String(isBad));
  list.replaceChildren(...problems.map(describe));
}

function describe({ path, message, line }) {
  const item = document.createElement("li");
  const where = document.createElement("code");
  where.textContent = path;
  item.append(where, `: ${message}`);
  if (line === null) return item;
  const jump = document.createElement("button");
  jump.type = "button";
  jump.className = "line";
  jump.textContent = `line ${line}`;
  jump.addEventListener("click", () => selectLine(line));
  item.prepend(jump, " ");
  return item;
}

function selectLine(number) {
  const lines = text.value.split("\n");
  const start = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
  text.focus();
  text.setSelectionRange(start, start + (lines[number - 1] ?? "").length);
  text.scrollTop = Math.max(0, (text.scrollHeight * (number - 4)) / lines.length);
}

function plan() {
  clearTimeout(planned);
  planned = setTimeout(check, PAUSE_MS);
}

text?.addEventListener("input", plan);
if (text && text.value !== text.defaultValue) plan(); // somebody typed while this script was on its way
showMoments(document, now());
follow({
  happened: (delta) => {
    if (delta && "revision" in delta.fleet) document.getElementById("revision").textContent = delta.fleet.revision ?? "unknown";
  },
});
