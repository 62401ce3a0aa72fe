// Follows topics of the market by a WebSocket: a snapshot, then numbered updates; after a break it goes on where it was.
// Beside the state of the page stands whether prices are followed, and why not: the page itself may be live without them.

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;

// Call `take(topic, data)` for each update, and `begin(topic, data)` for what a topic is like when it is followed anew.
// Returns a function that ends it.
export function followMarket(topics, { take, begin = take }) {
  let socket = null;
  let retryMs = FIRST_RETRY_MS;
  let position = null; // boot and number up to which everything is known
  let over = false;
  let timer = 0;

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/ws`);
    socket.addEventListener("message", (event) => !over && handleMessage(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => {
      if (over) return;
      showState(event.reason || "the connection is lost");
      timer = setTimeout(connect, retryMs);
      retryMs = Math.min(LAST_RETRY_MS, retryMs * 1.7);
    });
  }

  function handleMessage(message) {
    if (message.type === "hello") {
      const known = position?.split("-")[0] === message.position.split("-")[0] ? { after: position } : {};
      socket.send(JSON.stringify({ subscribe: topics, ...known }));
    } else if (message.type === "snapshot" || message.type === "resumed") {
      if (message.type === "snapshot") position = message.position;
      for (const [topic, data] of Object.entries(message.topics ?? {})) if (data !== null) begin(topic, data);
      retryMs = FIRST_RETRY_MS;
      showState("");
    } else if (message.type === "updates") {
      for (const one of message.updates) take(one.topic, one.data);
      position = `${position.split("-")[0]}-${message.last}`;
    } else if (message.type === "error") {
      showState(message.detail);
    }
  }

  if (topics.length) connect();
  addEventListener("pagehide", end);

  function end() {
    over = true;
    clearTimeout(timer);
    socket?.close();
  }

  return end;
}

// `problem` is why prices are not followed; empty if they are.
function showState(problem) {
  const state = document.getElementById("prices");
  if (!state) return;
  state.hidden = false;
  state.classList.toggle("bad", problem !== "");
  const text = problem ? `prices not current: ${problem}` : "prices live";
  if (state.textContent !== text) state.textContent = text;
}
