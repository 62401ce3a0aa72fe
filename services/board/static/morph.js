// Makes a part of a page what the server made of it now. What is still there stays, with its focus, what was typed into it
// and whether it is open: an element is the same one if it has the same key, or no key and the same name and place.
// What has `data-own` is not the server's any more, and stays as it is.

const OWN = new Set(["open", "selected", "style", "data-turned"]); // attributes that are the reader's, or a script's

export function morph(mine, fresh) {
  const focused = document.activeElement;
  change(mine, fresh);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
}

function findKey(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return "";
  const { svc, row, symbol, key } = node.dataset;
  return node.id || svc || row || symbol || key || (node.localName === "option" ? node.value : "");
}

const isPlaced = (mine, fresh) => mine.nodeName === fresh.nodeName && findKey(mine) === findKey(fresh) && !isOwn(mine);
const isOwn = (node) => node.nodeType === Node.ELEMENT_NODE && "own" in node.dataset;

function change(mine, fresh) {
  if (mine.isEqualNode(fresh) || isOwn(mine)) return;
  if (mine.nodeType !== Node.ELEMENT_NODE) {
    mine.nodeValue = fresh.nodeValue;
  } else {
    copyAttributes(mine, fresh);
    changeChildren(mine, [...fresh.childNodes]);
  }
}

function copyAttributes(mine, fresh) {
  if (mine.dataset.svc && mine.className !== fresh.className) mine.dataset.turned = ""; // its state is another one
  const isShown = mine.classList.contains("needs-script");
  const isKept = (name) => OWN.has(name) || (isShown && name === "hidden");
  for (const { name } of [...mine.attributes]) if (!isKept(name) && !fresh.hasAttribute(name)) mine.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (!isKept(name) && mine.getAttribute(name) !== value) mine.setAttribute(name, value);
  }
}

// Moves as few as possible: what moves loses its focus, and is drawn anew.
function changeChildren(mine, wanted) {
  const there = [...mine.childNodes];
  if (there.length === wanted.length && there.every((each, at) => isPlaced(each, wanted[at]))) {
    there.forEach((each, at) => change(each, wanted[at])); // the most often
    return;
  }
  const keys = new Set(wanted.map(findKey));
  for (const each of [...mine.children]) if (findKey(each) && !keys.has(findKey(each)) && !isOwn(each)) each.remove();
  const known = new Map([...mine.children].map((each) => [findKey(each), each]));
  let next = mine.firstChild;
  const skip = () => {
    const skipped = next;
    next = next.nextSibling;
    if (!isOwn(skipped)) skipped.remove();
  };
  for (const each of wanted) {
    const key = findKey(each);
    const same = key ? known.get(key) : findAlike(next, each);
    known.delete(key);
    while (same && next && next !== same && isInWay(next, same, key)) skip(); // if it has a key, its place comes later
    if (!same || same !== next) mine.insertBefore(same ?? each, next);
    else next = next.nextSibling;
    if (same) change(same, each);
  }
  while (next) skip();
}

function findAlike(next, fresh) {
  let found = next;
  if (fresh.nodeType !== Node.ELEMENT_NODE) return found?.nodeType === fresh.nodeType ? found : null;
  while (found && (found.nodeName !== fresh.nodeName || findKey(found) || isOwn(found))) found = found.nextSibling;
  return found;
}

function isInWay(node, same, key) {
  return !key || node.nodeType !== Node.ELEMENT_NODE || node.nextElementSibling === same;
}
