// Shows times in the zone of this browser, and lets ages grow.

const AGES = JSON.parse(document.body.dataset.ages ?? "[]"); // the server's units: below so many seconds, the seconds of one, its name

function formatAge(sec) {
  const whole = Math.max(0, Math.trunc(sec));
  const [, size, unit] = AGES.find(([below]) => below === null || whole < below);
  return `${Math.trunc(whole / size)} ${unit}`;
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

// `now`, in epoch seconds, decides whether the date is shown.
export function showMoment(time, now) {
  const at = new Date(time.dateTime);
  if (Number.isNaN(at.getTime())) return;
  const day = formatDate(at);
  const clock = `${formatClock(at)}:${two(at.getSeconds())}`;
  setText(time, day === formatDate(new Date(now * 1000)) ? clock : `${day} ${clock}`);
}

export function showMoments(within, now) {
  for (const time of within.querySelectorAll("time[datetime]")) showMoment(time, now);
}

// `beats` has the time of the last beat of services whose beats came after the page was made.
export function showAges(within, now, beats) {
  for (const each of within.querySelectorAll("[data-since]")) {
    const { since, silence, after = "" } = each.dataset;
    setText(each, formatAge(now - (beats.get(silence) ?? since)) + after);
  }
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
