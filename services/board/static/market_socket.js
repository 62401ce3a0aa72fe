// Follows topics of the market by a WebSocket: a snapshot, then numbered updates; after a break it goes on where it was.

const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 10_000;
const AT_ONCE = 900; // topics that one connection may have, with some to spare

// Call `take(topic, data)` for each update, and `begin(topic, data)` for what a topic is like when it is followed anew.
// Returns a function that ends it.
export function followMarket(topics, { take, begin = take, changed }) {
  let socket = null;
  let retryMs = FIRST_RETRY_MS;
  let position = null; // boot and number up to which everything is known
  let over = false;
  let timer = 0;

  function connect() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    socket = new WebSocket(`${scheme}://${location.host}/ws`);
    socket.addEventListener("message", (event) => handleMessage(JSON.parse(event.data)));
    socket.addEventListener("close", (event) => {
      if (over) return;
      changed?.(false, event.reason);
      timer = setTimeout(connect, retryMs);
      retryMs = Math.min(LAST_RETRY_MS, retryMs * 1.7);
    });
  }

  function handleMessage(message) {
    if (message.type === "hello") {
      const known = position?.split("-")[0] === message.position.split("-")[0] ? { after: position } : {};
      socket.send(JSON.stringify({ subscribe: topics.slice(0, AT_ONCE), ...known }));
    } else if (message.type === "snapshot" || message.type === "resumed") {
      if (message.type === "snapshot") position = message.position;
      for (const [topic, data] of Object.entries(message.topics ?? {})) if (data !== null) begin(topic, data);
      retryMs = FIRST_RETRY_MS;
      changed?.(true, "");
    } else if (message.type === "updates") {
      for (const one of message.updates) take(one.topic, one.data);
      position = `${position.split("-")[0]}-${message.last}`;
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
