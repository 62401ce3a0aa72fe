// Fetches a page of the market again when a symbol or a series on it has news.

import { plan, shown } from "./page.js";
import { followMarket } from "./market_socket.js";

let followed = "";
let stop = null;

export function hear() {
  if (document.visibilityState === "visible") plan();
}

function followTopics() {
  const { topics = "" } = document.querySelector("[data-topics]")?.dataset ?? {};
  if (topics === followed) return;
  followed = topics;
  stop?.();
  stop = followMarket(topics.split(" ").filter(Boolean), { take: hear, begin: () => {}, joined: hear });
}

shown.push(followTopics);
addEventListener("visibilitychange", hear);
followTopics();
