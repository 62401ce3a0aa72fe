// The keys of every page. A page adds its own to `keys`: functions by key.

const PAGES = [...document.querySelectorAll(".top nav a")];

export const keys = {
  "?": () => document.getElementById("keys").showModal(),
  "/": () => {
    const search = document.querySelector("input[type=search]");
    if (search) search.select();
    else location.assign("/");
    search?.focus();
  },
  j: () => step(1),
  k: () => step(-1),
  Escape: () => false,
  ...Object.fromEntries(PAGES.map((page, index) => [String(index + 1), () => page.click()])),
};

// Move the focus to the next or the previous link of a list.
function step(by) {
  const links = [...document.querySelectorAll("main .list tbody a, main .cards h2 a, #rows a")];
  const at = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, at < 0 ? 0 : at + by))]?.focus();
}

for (const hint of document.querySelectorAll(".needs-script")) hint.hidden = false;
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return; // the browser's
  if (document.querySelector("dialog[open]")) return; // closes itself on Escape
  const writes = event.target.closest?.("input, textarea, select");
  if (writes && event.key !== "Escape") return;
  const act = keys[event.key];
  if (act && act(event) !== false) event.preventDefault();
});
