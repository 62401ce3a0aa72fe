// Sends a form once though its button is clicked twice: the board would do what it says twice, and the browser shows the
// outcome of the last time alone.

const AGAIN_MS = 15_000; // after so long without an answer it may be sent again

let sent = new WeakMap(); // form -> when it was sent

addEventListener("submit", (event) => {
  if (event.target.method !== "post" || event.defaultPrevented) return;
  if (performance.now() - sent.get(event.target) < AGAIN_MS) event.preventDefault();
  else sent.set(event.target, performance.now());
});
addEventListener("pageshow", () => { sent = new WeakMap(); }); // one that came back may be sent again
