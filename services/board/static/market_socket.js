// Follows topics of the market by a WebSocket: a snapshot, then numbered updates; after a break it continues where it was.
// Beside the state of the page stands whether prices are followed, and why not: the page itself may be live without them.

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;
const CHECK_MS = 1000;
const QUIET_MS = 5000; // after so long without a message the board is asked whether it is there
const ANSWER_MS = 10_000; // the most that it may take to answer
const TOPICS_MS = 60_000; // an address that names many topics at once waits longer for their snapshot
const QUESTION = "{}"; // subscribes to nothing; the answer is a snapshot without topics

// Call `take(topic, data)` for each update, `begin(topic, data)` for what a topic is like when it is followed again, and
// `joined()` after each such snapshot, and when it continues: what happened before may be unknown.
// Returns a function that ends it.
export function followMarket(topics, { take, begin = take, joined = () => {} }) {
  let socket = null;
  let retryMs = FIRST_RETRY_MS;
  let position = null; // boot and number up to which everything is known
  let retry = 0;
  let heardAt = 0;
  let dueAt = null; // when the next message has to be there at the latest; null if none is due
  const ended = new AbortController();

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const mine = socket = new WebSocket(`${scheme}://${location.host}/ws`);
    dueAt = performance.now() + ANSWER_MS;
    socket.addEventListener("message", (event) => mine === socket && handleMessage(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => mine === socket && lose(event.reason || "the connection is lost"));
  }

  function disconnect() {
    clearTimeout(retry);
    const mine = socket;
    socket = null;
    mine?.close();
  }

  function lose(problem) {
    disconnect();
    showState(problem);
    retry = setTimeout(connect, retryMs);
    retryMs = Math.min(LAST_RETRY_MS, retryMs * 1.7);
  }

  // A connection that broke on its way sends nothing and is never closed; a browser shows no pings to scripts.
  function check() {
    if (socket === null) return;
    const at = performance.now();
    if (dueAt !== null && at > dueAt) {
      lose("the board does not answer");
    } else if (dueAt === null && at - heardAt > QUIET_MS) {
      socket.send(QUESTION);
      dueAt = at + ANSWER_MS;
    }
  }

  function handleMessage(message) {
    heardAt = performance.now();
    dueAt = null;
    if (message.type === "hello") {
      const known = position?.split("-")[0] === message.position.split("-")[0] ? { after: position } : {};
      socket.send(JSON.stringify({ subscribe: topics, ...known }));
      dueAt = heardAt + TOPICS_MS;
    } else if (message.type === "resumed" || (message.type === "snapshot" && Object.keys(message.topics).length)) {
      retryMs = FIRST_RETRY_MS;
      showState("");
      if (message.type === "snapshot") takeSnapshot(message);
      joined();
    } else if (message.type === "updates") {
      for (const one of message.updates) take(one.topic, one.data);
      position = `${position.split("-")[0]}-${message.last}`;
    } else if (message.type === "error") {
      showState(message.detail);
    }
  }

  function takeSnapshot(message) {
    position = message.position;
    for (const [topic, data] of Object.entries(message.topics)) if (data !== null) begin(topic, data);
  }

  function end() {
    ended.abort();
    clearInterval(timer);
    disconnect();
  }

  const timer = setInterval(check, CHECK_MS);
  const { signal } = ended;
  if (topics.length) connect();
  addEventListener("pagehide", disconnect, { signal });
  addEventListener("pageshow", (event) => {
    if (!event.persisted || !topics.length) return;
    showState("this page was put away");
    disconnect();
    connect();
  }, { signal });
  return end;
}

// `problem` is why prices, or what the page has in their place, are not followed; empty if they are.
function showState(problem) {
  const state = document.getElementById("prices");
  if (!state) return;
  state.hidden = false;
  state.classList.toggle("bad", problem !== "");
  const { what = "prices" } = state.dataset;
  const text = problem ? `${what} not current: ${problem}` : `${what} live`;
  if (state.textContent !== text) state.textContent = text;
}
