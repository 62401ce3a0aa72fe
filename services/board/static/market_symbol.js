// The chart of one symbol: candles, volume and indicators of what the API has, kept current by the WebSocket.
// A bar that is missing stays a hole: it is a point without values, never one that is made up.

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineSeries, createChart, createSeriesMarkers,
} from "./lightweight-charts.js";
import { takeCells } from "./market.js";
import { dayOf, findTotal, formatDay, lastDayOf } from "./market_days.js";
import { followMarket } from "./market_socket.js";
import { ANSWER_MS, plan } from "./page.js";
import { now } from "./stream.js";
import { formatClock, formatDate, setText } from "./times.js";

const PAGE = 500;
const LISTED_ACTIONS = 3; // the latest ones; those before are counted
const LISTED_GAPS = 2; // the latest ones; those before are counted
const SNAPSHOT_MS = 1000; // after so long the API is asked without a snapshot of the WebSocket
const FIRST_RETRY_MS = 5000; // the least pause after a refusal; it doubles with each one
const LAST_RETRY_MS = 60_000;
const MOST_BLANKS = 2000; // of one gap: what is longer is said in words
const WEST_MS = 5 * 3600000; // so late in the day of UTC the last market with splits and dividends begins its own
const HOUR_MS = 3600000; // a trading day that ends within an hour after midnight UTC is that of the day before
const STEP_SEC = {
  "1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "4h": 14400, "1d": 86400, "1w": 604800, "1mo": 2678400,
};
const TICK_OF_TIME = 3; // TickMarkType of the library: years, months and days are below it
const TICK_CHARS = 13; // `30 Sept 19:00`
const box = document.getElementById("chart");
const { symbol, asOf } = box.dataset; // with an instant of the past, what was known then: nothing follows
let { timeframe } = box.dataset;
let chart = null;
let candles = null;
let volumes = null;
let bars = new Map(); // start in ms -> bar
let values = new Map(); // start in ms -> indicators with their revision
let gaps = [];
let cursor = null;
let visit = 0; // grows when a timeframe is chosen: what was asked for the one before is not taken any more
let isLoading = false;
let isFitted = false; // whether the past of the timeframe was there, and is in view
let tornAt = -Infinity; // the newest bar before a part in which some may be missing or old; null without such a part
let refusals = 0; // since the API answered last
let tears = 0; // how often bars may have been missed
let retry = null; // the timer of the next question after a refusal
let olderRetry = null;
let adjust = "splits"; // the basis of the prices: as traded (none), for splits, for dividends too (all)
let adjustedTo = ""; // the day up to which they are adjusted; empty if they are not
let actions = []; // splits, dividends and what else happened to a share, the oldest first
let marks = null; // the plugin of the library that draws them
let lines = [];
let firsts = new Set(); // the times of the bars that are the first ones of a day in the zone of this browser
let stop = null;

// The library draws on a canvas, which knows no variables: an element of the page resolves them for it.
const probe = box.appendChild(Object.assign(document.createElement("i"), { hidden: true }));

function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const faint = (name) => colour(name).replace("rgb(", "rgba(").replace(")", ", 0.4)");
const past = asOf ? `&as_of=${encodeURIComponent(asOf)}` : "";
const path = (what, more = "") => `/api/v1/${what}/${encodeURIComponent(symbol)}?timeframe=${timeframe}&limit=${PAGE}${more}${past}`;
const basis = () => `&adjust=${adjust}`;
const quoted = box.dataset.decimals ? Math.max(2, Number(box.dataset.decimals)) : null; // decimals of the symbol
const precision = (price) => quoted ?? (Math.abs(price) >= 100 ? 2 : Math.abs(price) >= 1 ? 4 : 6);

// As services/board/market/pictures.py does: the prices under the pointer are not written by the server.
function formatPrice(price) {
  if (quoted !== null) return price.toLocaleString("en-US", { minimumFractionDigits: quoted, maximumFractionDigits: quoted });
  const size = Math.abs(price);
  if (size > 0 && size < 1) return price.toLocaleString("en-US", { maximumSignificantDigits: 6 });
  return price.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: size >= 1 ? precision(price) : 2 });
}

function formatMinute(ms) {
  const date = new Date(ms);
  return `${formatDate(date)} ${formatClock(date)}`;
}

// The library counts in UTC, also while the clock of this browser repeats an hour: only what it writes has the zone.
// A day is the date that the market gives it.
const find = (time) => [...bars.values()].find((bar) => toTime(bar.start) === time);
const isDaily = () => ["1d", "1w", "1mo"].includes(timeframe); // each is named by a date

function toTime(ms) {
  return isDaily() ? Date.parse(bars.get(ms)?.day ?? formatDay(ms)) / 1000 : Math.floor(ms / 1000);
}

function formatTime(time) {
  return isDaily() ? new Date(time * 1000).toISOString().slice(0, 10) : formatMinute(time * 1000);
}

// The library's days begin at midnight in UTC, where another zone has some hour.
function formatTick(time, type) {
  if (isDaily()) return null; // as the library does it: these are dates
  const moment = new Date(time * 1000);
  const clock = formatClock(moment);
  const date = moment.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  if (firsts.has(time)) return date;
  return type < TICK_OF_TIME ? `${date} ${clock}` : clock;
}

function findFirsts(points) {
  const days = points.map(({ time }) => new Date(time * 1000).toDateString());
  return new Set(points.filter((_, index) => days[index] !== days[index - 1]).map(({ time }) => time));
}

const showState = (text) => setText(document.getElementById("chart-state"), text);

function paint() {
  const [up, down, line, soft] = ["--up", "--down", "--line", "--soft"].map(colour);
  chart.applyOptions({
    layout: {
      background: { type: ColorType.Solid, color: colour("--card") }, textColor: soft, attributionLogo: false,
      fontFamily: getComputedStyle(document.body).fontFamily, panes: { separatorColor: line },
    },
    grid: { vertLines: { color: line }, horzLines: { color: line } },
    rightPriceScale: { borderColor: line },
    timeScale: { borderColor: line },
  });
  candles.applyOptions({
    upColor: up, borderUpColor: up, wickUpColor: up, downColor: down, borderDownColor: down, wickDownColor: down,
  });
  volumes.setData(makeVolumes());
  drawLines();
}

function make() {
  chart = createChart(box, {
    autoSize: true, crosshair: { mode: CrosshairMode.Normal }, timeScale: { timeVisible: !isDaily() },
    layout: { attributionLogo: false }, localization: { timeFormatter: formatTime },
  });
  chart.timeScale().applyOptions({ tickMarkFormatter: formatTick, tickMarkMaxCharacterLength: TICK_CHARS });
  candles = chart.addSeries(CandlestickSeries, {});
  marks = createSeriesMarkers(candles, []);
  volumes = chart.addSeries(HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
  chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
  chart.timeScale().subscribeVisibleLogicalRangeChange(loadOlder);
  chart.subscribeCrosshairMove((at) => showLegend(at.time ? find(at.time) : newest()));
  paint();
}

const sorted = () => [...bars.values()].sort((one, other) => one.start - other.start);
const newest = () => sorted().at(-1);
function makeCandles() {
  const points = sorted().map(({ start, open, high, low, close }) => ({ time: toTime(start), open, high, low, close }));
  for (const gap of gaps) {
    const step = STEP_SEC[timeframe] * 1000;
    const count = Math.min(gap.missing, MOST_BLANKS);
    for (let n = 0; n < count; n += 1) if (!bars.has(gap.from + n * step)) points.push({ time: toTime(gap.from + n * step) });
  }
  points.sort((one, other) => one.time - other.time);
  return removeDoubles(points);
}

function makeVolumes() {
  const [up, down] = [faint("--up"), faint("--down")];
  return removeDoubles(sorted().filter(({ volume }) => volume !== null).map(({ start, volume, open, close }) => (
    { time: toTime(start), value: volume, color: close < open ? down : up }
  )));
}

// Two bars of one day, which two sources may name by different times, are one point.
function removeDoubles(points) {
  return points.filter((point, index) => index === 0 || point.time !== points[index - 1].time);
}

function draw() {
  const last = newest();
  if (last) {
    const digits = precision(last.close);
    candles.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } });
  }
  const points = makeCandles();
  firsts = findFirsts(points);
  candles.setData(points);
  volumes.setData(makeVolumes());
  drawLines();
  drawMarks();
  showLegend(last);
  showGaps();
  showReturn();
  describe();
}

// The day that has begun in each market.
const today = () => new Date(1000 * now() - WEST_MS).toISOString().slice(0, 10);

function describeAction({ kind, ratio, amount, new_symbol: given }) {
  const cash = amount ? amount.toLocaleString("en-US", { maximumSignificantDigits: 6 }) : "";
  const round = (number) => number.toLocaleString("en-US", { maximumSignificantDigits: 4 });
  if (kind === "dividend") return `dividend ${cash}`;
  if (kind === "rename") return `is called ${given}`;
  const words = { spin_off: "spin-off of", merger: "merger for", rights: "rights" }[kind];
  const parts = [given && ratio ? `${round(ratio)} ${given}` : given, cash].filter(Boolean);
  // no source says what it was worth, so no price is adjusted for it
  if (words) return `${words} ${parts.join(" and ")} (not adjusted for)`;
  return ratio >= 1 ? `split ${round(ratio)}:1` : `split 1:${round(1 / ratio)}`;
}

// Actions stand at the first bar of their day; a day without bars has no mark.
function drawMarks() {
  const begins = new Map();
  for (const bar of sorted()) if (!begins.has(dayOf(bar))) begins.set(dayOf(bar), toTime(bar.start));
  const shown = actions.filter(({ ex_day: day }) => begins.has(day));
  const [split, dividend] = ["--warn", "--focus"].map(colour);
  marks.setMarkers(shown.map((action) => ({
    time: begins.get(action.ex_day), position: "belowBar", text: describeAction(action),
    shape: action.kind === "split" ? "square" : "circle", color: action.kind === "split" ? split : dividend,
  })));
  const texts = shown.slice(-LISTED_ACTIONS).reverse().map((action) => `${describeAction(action)} on ${action.ex_day}`);
  const list = document.getElementById("actions");
  list.hidden = !texts.length;
  setText(list, `${texts.join(" · ")}${shown.length > LISTED_ACTIONS ? ` · ${shown.length - LISTED_ACTIONS} before that` : ""}`);
}

// What a share gained over the bars of the chart: by its price, and with its dividends put into shares on their days.
function showReturn() {
  const [first, last] = [sorted()[0], newest()];
  const isKnown = first && first !== last && adjust !== "none" && first.close > 0;
  setText(document.getElementById("return"), isKnown ? describeReturn(first, last) : "\u00a0");
}

function describeReturn(first, last) {
  const percent = (share) => `${share < 0 ? "\u2212" : "+"}${Math.abs(100 * share).toFixed(2)} %`;
  const change = last.close / first.close - 1;
  const since = `since ${formatTime(toTime(first.start))}`;
  if (adjust === "all") return `total return ${percent(change)} ${since}`;
  const total = findTotal(sorted(), timeframe, actions, adjustedTo);
  return `price ${percent(change)}, total return ${total === null ? "not known" : percent(total)} ${since}`;
}

// What the picture shows, for those who don't see it.
function describe() {
  const known = sorted();
  const [lows, highs] = [known.map(({ low }) => low), known.map(({ high }) => high)];
  const words = known.length ? [
    `${known.length} ${known.length === 1 ? "bar" : "bars"} from ${formatTime(toTime(known[0].start))} to ${formatTime(toTime(known.at(-1).start))}`,
    `lowest price ${formatPrice(Math.min(...lows))}, highest ${formatPrice(Math.max(...highs))}`,
  ] : ["no bars"];
  box.setAttribute("aria-label", `Chart of ${symbol}, ${timeframe}: ${words.join(", ")}`);
}

function drawLines() {
  for (const line of lines) chart.removeSeries(line);
  lines = [];
  const boxes = [...document.querySelectorAll("#overlays input:checked")];
  const known = [...values.values()].sort((one, other) => one.start - other.start);
  const names = [...new Set(known.flatMap((one) => Object.keys(one.values)))];
  const colours = ["--focus", "--chart-2", "--chart-3", "--warn"].map(colour);
  let pane = 0;
  boxes.forEach((box, place) => {
    const mine = names.filter((name) => name === box.name || name.startsWith(`${box.name}_`)); // sma: sma_20
    const hasPane = box.dataset.place === "pane";
    if (hasPane && mine.length) pane += 1;
    mine.forEach((name, index) => {
      const line = chart.addSeries(LineSeries, {
        color: colours[(index + (hasPane ? 0 : place)) % colours.length], lineWidth: 1, title: name,
        priceLineVisible: false, lastValueVisible: hasPane,
      }, hasPane ? pane : 0);
      line.setData(removeDoubles(known.map(({ start, values: { [name]: value } }) => (
        value === null || value === undefined ? { time: toTime(start) } : { time: toTime(start), value }
      ))));
      lines.push(line);
    });
  });
  chart.panes().slice(1).forEach((each) => each.setStretchFactor(0.3));
}

function nameVolume(kind) {
  const names = { venue: "of one exchange", consolidated: "of all exchanges", none: "changes of a quote, no trades" };
  return names[kind] ?? "(of unknown exchanges)";
}

function showLegend(bar) {
  const legend = document.getElementById("legend");
  if (!bar) {
    legend.textContent = "\u00a0";
    return;
  }
  const words = [
    formatTime(toTime(bar.start)), ...["open", "high", "low", "close"].map((name) => `${name[0].toUpperCase()} ${formatPrice(bar[name])}`),
    ...(bar.volume === null ? [] : [`volume ${bar.volume.toLocaleString("en-US")} ${nameVolume(bar.volume_kind)}`]),
    bar.final ? "final" : "still open", ...(bar.rev ? [`revision ${bar.rev}`] : []),
    ...(bar.missing ? [`built of ${bar.minutes} of ${bar.minutes + bar.missing} minutes`] : []), bar.source, ...(bar.replay ? ["replay"] : []),
  ];
  legend.textContent = words.join(" · ");
}

function showGaps() {
  const list = document.getElementById("gaps");
  list.hidden = !gaps.length;
  const count = (missing) => `${missing} ${missing === 1 ? "bar is" : "bars are"} missing`;
  const span = (gap) => {
    if (!isDaily()) return `from ${formatMinute(gap.from)} to ${formatMinute(gap.to)}`;
    const [first, last] = [formatDay(gap.from), new Date(gap.to - HOUR_MS).toISOString().slice(0, 10)];
    return first === last ? `on ${first}` : `from ${first} to ${last}`;
  };
  const texts = gaps.slice(-LISTED_GAPS).reverse().map((gap) => (
    `${count(gap.missing)} ${span(gap)}: nothing is drawn there.`
  ));
  const before = gaps.slice(0, -LISTED_GAPS);
  if (before.length) {
    const missing = before.reduce((sum, gap) => sum + gap.missing, 0);
    texts.push(`${count(missing)} in ${before.length} ${before.length === 1 ? "gap" : "gaps"} before that.`);
  }
  list.replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
}

// Ask the API. An error says why there is no answer.
async function ask(address) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new Error("the board does not answer")), ANSWER_MS);
  try {
    const answer = await fetch(address, { headers: { accept: "application/json" }, signal: limit.signal });
    if (answer.ok) return await answer.json();
    const body = await answer.json().catch(() => ({}));
    const waitMs = 1000 * Number(answer.headers.get("retry-after"));
    throw Object.assign(new Error(body.detail ?? answer.statusText), { waitMs });
  } finally {
    clearTimeout(timer);
  }
}

// Ask for a page of bars and of their indicators: what of them came, and why the rest did not. Returns null if another
// timeframe is shown by then.
async function askPage(more = "") {
  isLoading = true;
  const mine = visit;
  const [found, computed] = await Promise.allSettled([ask(path("bars", basis() + more)), ask(path("indicators", more))]);
  if (mine !== visit) return null;
  isLoading = false;
  const refusal = found.reason ?? computed.reason ?? null;
  refusals = refusal ? refusals + 1 : 0;
  return { found: found.value, computed: computed.value, refusal };
}

function findPause(refusal) {
  return Math.max(Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (refusals - 1)), refusal.waitMs || 0);
}

// The API has the past, and the WebSocket what happens after its snapshot. A snapshot has only the last bars, so the API
// is asked after each one. Without a WebSocket there is still the past.
function load() {
  stop?.();
  clearTimeout(retry);
  clearTimeout(olderRetry);
  clear();
  [visit, isLoading, isFitted, tornAt, olderRetry, refusals] = [visit + 1, false, false, -Infinity, null, 0];
  if (asOf) {
    repair();
    return;
  }
  retry = setTimeout(repair, SNAPSHOT_MS);
  const topics = [`bars:${symbol}:${timeframe}`, `indicators:${symbol}:${timeframe}`, `cells:${symbol}`];
  stop = followMarket(topics, { take, begin, joined });
}

function clear() {
  bars = new Map();
  values = new Map();
  gaps = [];
  cursor = null;
}

// Bars before a time are not known any more.
function forget(before) {
  for (const known of [bars, values]) for (const start of [...known.keys()]) if (start < before) known.delete(start);
  gaps = gaps.filter((gap) => gap.from >= before);
}

function keep(found) {
  if (!found.bars.length) return;
  const [first, last] = [found.bars[0].start, found.bars.at(-1).start];
  if (tornAt !== null && first > tornAt) forget(first); // what was between the two is not known
  passDays(adjustedTo, found.bars.at(-1).adjusted_to ?? "");
  if (!bars.size || first <= sorted()[0].start) cursor = found.cursor;
  for (const bar of found.bars) if (!isNewer(bars.get(bar.start), bar)) bars.set(bar.start, bar);
  const others = gaps.filter((gap) => gap.to <= first || gap.from > last);
  gaps = [...others, ...(found.gaps ?? [])].sort((one, other) => one.from - other.from);
}

function keepValues(several) {
  for (const one of several) if (!isNewer(values.get(one.start), one)) values.set(one.start, one);
}

function tear() {
  tears += 1;
  tornAt ??= newest()?.start ?? -Infinity;
}

// Ask the API for the newest bars until none of them may be missing or old.
async function repair() {
  clearTimeout(retry);
  retry = null;
  if (isLoading || tornAt === null) return;
  const begun = tears;
  const page = await askPage();
  if (page === null) return;
  if (page.found) keep(page.found);
  if (page.computed) keepValues(page.computed.indicators);
  if (!page.refusal && begun === tears) tornAt = null;
  draw();
  if (!isFitted && (page.found || refusals === 1)) fit();
  isFitted ||= page.found !== undefined;
  showRepair(page);
  if (tornAt !== null) retry = setTimeout(repair, page.refusal ? findPause(page.refusal) : 0);
}

function showRepair({ found, refusal }) {
  const lacking = found ? "Indicators may be missing" : bars.size ? "Bars may be missing" : "The chart has nothing to show";
  if (refusal) showState(`${lacking}: ${refusal.message}.`);
  else if (!bars.size) showState(`No bars of ${timeframe} yet. The service bars makes them from minutes, and the archive keeps them.`);
  else showState("");
}

function fit() {
  chart.timeScale().fitContent();
  const points = makeCandles().length;
  if (points > 150) chart.timeScale().setVisibleLogicalRange({ from: points - 150, to: points + 5 });
}

// Ask for the bars before those that are known, if the view is near their begin.
async function loadOlder() {
  const isNear = chart.timeScale().getVisibleLogicalRange()?.from < 10;
  if (!isNear || !cursor || !isFitted || isLoading || olderRetry !== null) return;
  const page = await askPage(`&cursor=${cursor}`);
  if (page === null) return;
  if (page.refusal) {
    showState(`Older bars can't be loaded now: ${page.refusal.message}.`);
    olderRetry = setTimeout(() => {
      olderRetry = null;
      loadOlder();
    }, findPause(page.refusal));
  } else {
    addOlder(page.found, page.computed.indicators);
    if (tornAt === null) showState("");
  }
  if (tornAt !== null && retry === null) repair();
}

function addOlder(found, computed) {
  const range = chart.timeScale().getVisibleLogicalRange();
  const before = makeCandles().length;
  if (!found.bars.length) cursor = null;
  keep(found);
  keepValues(computed);
  draw();
  const added = makeCandles().length - before;
  chart.timeScale().setVisibleLogicalRange({ from: range.from + added, to: range.to + added });
}

// Whether what is known of a bar goes before what came: by the epoch, then by the revision, then what is final.
function isNewer(known, bar) {
  if (!known) return false;
  if (known.epoch !== bar.epoch) return known.epoch > bar.epoch;
  return known.rev === bar.rev ? known.final && !bar.final : known.rev > bar.rev;
}

// A bar that comes into a gap leaves what is missing before it and after it.
function fillGap(gap, start) {
  if (start < gap.from || start >= gap.to) return [gap];
  const step = STEP_SEC[timeframe] * 1000;
  const before = Math.min(gap.missing - 1, Math.floor((start - gap.from) / step));
  const rest = [{ ...gap, to: start, missing: before }, { ...gap, from: start + step, missing: gap.missing - 1 - before }];
  return rest.filter(({ missing }) => missing > 0);
}

// Returns true if the whole chart has to be redrawn.
function takeBar(bar) {
  if (isNewer(bars.get(bar.start), bar)) return false;
  const step = STEP_SEC[timeframe] * 1000;
  const last = newest();
  bars.set(bar.start, bar);
  gaps = gaps.flatMap((gap) => fillGap(gap, bar.start));
  return !last || bar.start < last.start || bar.start > last.start + step;
}

// A snapshot: bars before it may have come or changed without an update. It is drawn with what the API has of them.
function begin(topic, data) {
  tear();
  if (topic.startsWith("indicators:")) keepValues([data]);
  else data.forEach(takeBar);
}

function joined() {
  plan();
  repair();
}

function take(topic, data) {
  if (topic.startsWith("cells:")) {
    takeCells(data);
  } else if (topic.startsWith("indicators:")) {
    keepValues([data]);
    if (lines.length) drawLines();
  } else {
    if (isNewer(bars.get(data.start), data)) return;
    const last = newest();
    if (isOfOtherBasis(data)) {
      tear();
      repair();
      return;
    }
    if (last && data.start > last.start + 1000 * STEP_SEC[timeframe]) tear();
    const isWhole = takeBar(data);
    if (isLoading && !isFitted) return; // it is drawn with the past
    if (last && dayOf(data) > dayOf(last)) passDays(dayOf(last), dayOf(data));
    else passDays(adjustedTo, today());
    if (isWhole) draw();
    else drawOne(data);
    if (tornAt !== null && retry === null) repair();
  }
}

// A correction of a bar from before a split comes as its source gave it: the API is asked for it.
function isOfOtherBasis(bar) {
  const utcDay = new Date(1000 * now()).toISOString().slice(0, 10);
  return actions.some((one) => counts(one) && one.ex_day > lastDayOf(bar, timeframe) && one.ex_day <= utcDay);
}

const counts = ({ kind }) => kind === "split" || (kind === "dividend" && adjust === "all");

// If an action came after the day `before`, up to `day`, what is known is of another basis than what comes: the API is asked
// for all of it.
async function passDays(before, day) {
  if (day <= before) return;
  const [isKnown, mine] = [before !== "", visit];
  if (adjustedTo < day) adjustedTo = day;
  if (!isKnown) return;
  await loadActions().catch(() => {}); // without an answer those that are known have to do
  const isPassed = actions.some((one) => counts(one) && one.ex_day > before && one.ex_day <= day);
  if (isPassed && adjust !== "none" && mine === visit) load();
}

// Without them the chart has no marks: a board without an archive knows none.
async function loadActions() {
  const { actions: found = [] } = await ask(`/api/v1/actions/${encodeURIComponent(symbol)}${past.replace("&", "?")}`);
  const value = { split: "ratio", dividend: "amount" };
  actions = found.filter((one) => one[value[one.kind]] || one.new_symbol || (one.kind === "merger" && one.amount));
  actions.sort((one, other) => one.ex_day.localeCompare(other.ex_day));
  if (!isLoading || isFitted) draw(); // else they are drawn with the past
}

function chooseBasis(event) {
  adjust = event.target.value;
  load();
}

function drawOne(bar) {
  const { start, open, high, low, close, volume } = bar;
  candles.update({ time: toTime(start), open, high, low, close });
  if (volume !== null) volumes.update({ time: toTime(start), value: volume, color: faint(close < open ? "--down" : "--up") });
  showLegend(bar);
  showReturn();
  describe();
}

function choose(event) {
  const chosen = event.target.closest("[data-timeframe]");
  if (!chosen || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  timeframe = chosen.dataset.timeframe;
  for (const each of document.querySelectorAll("[data-timeframe]")) {
    if (each === chosen) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
  history.replaceState(null, "", `?timeframe=${timeframe}${past}`);
  chart.applyOptions({ timeScale: { timeVisible: !isDaily() } });
  load();
}

make();
load();
loadActions().catch(() => {}); // the next visit asks again
document.querySelector(".frames").addEventListener("click", choose);
document.getElementById("overlays").addEventListener("change", drawLines);
document.getElementById("adjust").addEventListener("change", chooseBasis);
addEventListener("themechange", paint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
