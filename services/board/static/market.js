// Keeps the tiles of the market current: prices by WebSocket, the ages of all numbers by the clock.

import { follow, now, showMoments } from "./stream.js";
import { listenToKeys } from "./keys.js";
import { followMarket } from "./market_socket.js";
import { renewPage, showPrice, tickAges } from "./market_tile.js";

const tiles = new Map();
let stop = null;

function followTiles() {
  stop?.();
  tiles.clear();
  for (const tile of document.querySelectorAll(".tile[data-symbol]")) {
    tiles.set(tile.dataset.symbol, [...(tiles.get(tile.dataset.symbol) ?? []), tile]);
  }
  const topics = document.getElementById("tiles")?.dataset.topics.split(" ").filter(Boolean) ?? [];
  stop = followMarket(topics, { take, begin });
}

function take(topic, data) {
  const [kind, rest] = [topic.slice(0, topic.indexOf(":")), topic.slice(topic.indexOf(":") + 1)];
  const symbol = kind === "bars" ? rest.slice(0, rest.lastIndexOf(":")) : rest;
  const last = Array.isArray(data) ? data.at(-1) : data;
  if (!last) return;
  const price = kind === "bars" ? last.close : last.price;
  const at = kind === "bars" ? last.start : last.at;
  for (const tile of tiles.get(symbol) ?? []) showPrice(tile, price, at, last.source, last.replay);
}

// A page with more symbols than one client may have topics follows all of them: `quotes`, and `bars:1m`.
function begin(topic, data) {
  if (topic === "quotes") for (const quote of data) take(`quotes:${quote.symbol}`, quote);
  else if (topic === "bars:1m") for (const [symbol, bar] of Object.entries(data)) take(`bars:${symbol}:1m`, bar);
  else take(topic, data);
}

async function tick() {
  tickAges(now());
  if (await renewPage()) followTiles();
}

showMoments();
listenToKeys();
follow({ changed: tick, ticked: tick });
followTiles();
