// Puts numbers and times into words and pictures, as services/board/fleet/words.py does for a page without JavaScript.

export const URGENCY = { down: 0, failed: 1, unwatchable: 2, silent: 3, unknown: 4, up: 5 };
export const WINDOWS = { "24h": 86400, "7d": 604800, "30d": 2592000, "1y": 31536000 };
const HOUR = 3600;
const LEAST_OUTAGE = 30;

export function formatAge(sec) {
  if (sec === null || sec === undefined) return "–";
  const whole = Math.max(0, Math.trunc(sec));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.trunc(whole / 60)} min`;
  return whole < 172800 ? `${Math.trunc(whole / 3600)} h` : `${Math.trunc(whole / 86400)} d`;
}

function formatShare(share) {
  if (share === null || share === undefined) return "–";
  if (share >= 1) return "100";
  const hundredths = Math.trunc(share * 10000 + 1e-6);
  return `${Math.trunc(hundredths / 100)}.${String(hundredths % 100).padStart(2, "0")}`;
}

export function findKnownPart(uptime, name, now) {
  if (!uptime || uptime.share === null) return null;
  const before = uptime.begins_at === null ? 0 : Math.max(0, uptime.begins_at - (now - WINDOWS[name]));
  const part = (uptime.unknown_sec + before) / WINDOWS[name];
  return part < 0.01 ? null : Math.max(0, Math.min(99, Math.trunc(100 * (1 - part))));
}

// a dash until a tenth of the window is known: 100 % of three minutes would read as that of a year
export function formatWindowShare(uptime, name, now) {
  const part = findKnownPart(uptime, name, now);
  return part !== null && part < 10 ? "–" : formatShare(uptime?.share);
}

export function formatInstances(one) {
  if (one.instances === null) return "–";
  return one.replicas === null ? `${one.instances}` : `${one.instances}/${one.replicas}`;
}

function place(ts, now) {
  return Math.max(0, Math.min(HOUR, Math.trunc(HOUR - (now - ts) + 0.5)));
}

export function drawPaths(spans, now) {
  const paths = { unknown: "", up: "", down: "" };
  let at = 0;
  for (const span of spans) {
    const end = span.ends_at === null ? HOUR : place(span.ends_at, now);
    const start = Math.max(at, place(span.starts_at, now));
    if (start > at) paths.unknown += `M${at} 10h${start - at}`;
    if (span.state === "down" && end - start < LEAST_OUTAGE) {
      paths.down += `M${Math.min(start, HOUR - LEAST_OUTAGE)} 10h${LEAST_OUTAGE}`;
    } else if (end > start) paths[span.state] += `M${start} 10h${end - start}`;
    at = Math.max(at, end);
  }
  if (at < HOUR) paths.unknown += `M${at} 10h${HOUR - at}`;
  return paths;
}

export function describeBar(spans, now) {
  const sums = { up: 0, down: 0, unknown: 0 };
  for (const span of spans) {
    sums[span.state] += Math.max(0, (span.ends_at ?? now) - Math.max(span.starts_at, now - HOUR));
  }
  if (sums.up + sums.down < 1) return "unknown";
  const words = [];
  if (sums.down >= 1) words.push(`down ${formatAge(sums.down)}`);
  if (sums.unknown >= 1) words.push(`unknown ${formatAge(sums.unknown)}`);
  return words.length ? `${words.join(", ")}, otherwise up` : "up";
}

// What there is to say of a service: pieces of text, each with the moment behind it if it has one.
export function describeService(one) {
  const found = describeOutage(one);
  if (one.paused && findWord(one) !== "paused") found.push(["paused: not monitored"]);
  const detail = one.failure ? null : one.detail; // while a failure lasts, `detail` is what `failure` says
  if (one.last_run && !one.last_run.ok && !one.failure && one.last_run.text !== detail) found.push([one.last_run.text]);
  if (one.status !== null && one.status !== "ok") {
    found.push([detail ? `${one.status}: ${detail}` : one.status]);
  } else if (detail) found.push([detail]);
  return found;
}

function describeOutage(one) {
  if (one.state === "unwatchable") return [["the healer can't watch it"]];
  if (one.state !== "down") return [];
  const found = one.cause ? [[`needs ${one.cause}, which is down`]] : [];
  if (one.outage) found.push([one.outage, one.outage_at]);
  if (one.failure) found.push([one.failure]);
  if (one.acked_by) found.push([`acknowledged by ${one.acked_by}`]);
  if (one.held) {
    const until = one.held_until === null ? "" : " until";
    found.push([`${one.hold}${until}`, one.held_until]);
  }
  return found;
}

// The word for its state: `paused` in place of what nobody evaluates.
export function findWord(one) {
  return one.paused && (one.state === "unknown" || one.state === "silent") ? "paused" : one.state;
}

// The state by which its mark is drawn: to be paused is no trouble.
export function findMark(one) {
  return findWord(one) === "paused" ? "unknown" : one.state;
}

export function writeHeadline(services) {
  const counts = {};
  for (const one of services) counts[findWord(one)] = (counts[findWord(one)] ?? 0) + 1;
  const total = services.length;
  if (!total) return "no services";
  const up = counts.up ?? 0;
  const isWell = up > 0 && up + (counts.paused ?? 0) === total;
  const others = ["failed", "unwatchable", "silent", "unknown", "paused"].filter((word) => counts[word]);
  const down = isWell ? `all ${up} up` : `${counts.down ?? "none"} of ${total} down`;
  return [down, ...others.map((word) => `${counts[word]} ${word}`)].join(", ");
}

// The buses, the healers, the sentinel and the notifier: name, state and text of each.
export function listWatchers(fleet) {
  const found = fleet.buses.map((bus) => {
    const words = { away: "does not answer", unheard: "not heard by the healer" }[bus.state] ?? "";
    return [bus.name, bus.state === "up" ? "up" : "down", words && bus.reason ? `${words}: ${bus.reason}` : words];
  });
  for (const one of fleet.healers) {
    const name = `healer ${one.boot}`;
    if (!one.is_leader) found.push([name, "up", "standby"]);
    else if (one.lapsed_at !== null) found.push([name, "down", "its lease ran out, so no healer leads"]);
    else found.push([name, "up", "leads"]);
  }
  if (!fleet.healers.length) found.push(["healer", "unknown", "no healer leads"]);
  for (const svc of ["sentinel", "notifier"]) {
    const one = fleet.services.get(svc);
    if (!one) continue;
    const waiting = fleet.pending.length ? `${fleet.pending.length} waiting` : "";
    const dead = fleet.dead ? `${fleet.dead} undelivered` : "";
    found.push([svc, one.state, svc === "notifier" ? [waiting, dead].filter(Boolean).join(", ") : ""]);
  }
  return found;
}

// The element of a moment, in the zone of this browser; `now` decides whether the date is shown.
export function writeMoment(ts, now) {
  const time = document.createElement("time");
  time.dateTime = `${new Date(ts * 1000).toISOString().slice(0, 19)}Z`;
  showMoment(time, now);
  return time;
}

const two = (number) => String(number).padStart(2, "0");

// The date of a Date in the zone of this browser: `2026-11-24`.
export function formatDate(date) {
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

// Its hour and minute there: `07:05`.
export function formatClock(date) {
  return `${two(date.getHours())}:${two(date.getMinutes())}`;
}

export function showMoment(time, now) {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const day = formatDate(at);
  const clock = `${formatClock(at)}:${two(at.getSeconds())}`;
  const text = day === formatDate(new Date(now * 1000)) ? clock : `${day} ${clock}`;
  if (time.textContent !== text) time.textContent = text;
}

export function make(tag, name, ...parts) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...parts);
  return made;
}

export function makeState(state, word = state) {
  return make("span", `st ${state}`, make("i", "m"), word);
}
