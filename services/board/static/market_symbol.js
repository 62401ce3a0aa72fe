// The chart of one symbol: candles, volume and indicators of what the API has, kept current by the WebSocket.
// A bar that is missing stays a hole: it is a point without values, never one that is made up.

import {
  CandlestickSeries, ColorType, CrosshairMode, HistogramSeries, LineSeries, createChart,
} from "./lightweight-charts.js";
import { follow, now, showMoments } from "./stream.js";
import { listenToKeys } from "./keys.js";
import { followMarket } from "./market_socket.js";
import { renewCloses, showPrice, tickAges } from "./market_tile.js";
import { formatDay, formatMinute, formatPrice } from "./market_words.js";
import { formatClock } from "./words.js";

const PAGE = 500;
const LISTED_GAPS = 2; // the latest ones; those before are counted
const MOST_BLANKS = 2000; // of one gap: what is longer is said in words, and is no picture any more
const HOUR_MS = 3600000; // a trading day that ends within an hour after midnight UTC is that of the day before
const STEP_SEC = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400 };
const TICK_OF_TIME = 3; // TickMarkType of the library: years, months and days are below it
const TICK_CHARS = 13; // `30 Sept 19:00`
const box = document.getElementById("chart");
const quote = document.getElementById("quote");
const { symbol } = box.dataset;
let { timeframe } = box.dataset;
let chart = null;
let candles = null;
let volumes = null;
let bars = new Map(); // start in ms -> bar
let values = new Map(); // start in ms -> indicators
let gaps = [];
let cursor = null;
let isLoading = false;
let lines = [];
let firsts = new Set(); // the times of the bars that are the first ones of a day in the zone of this browser
let isTorn = false; // whether bars may be missing since the connection was lost for long
let stop = null;

// The library draws on a canvas, which knows no variables: an element of the page resolves them for it.
const probe = box.appendChild(Object.assign(document.createElement("i"), { hidden: true }));

function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const faint = (name) => colour(name).replace("rgb(", "rgba(").replace(")", ", 0.4)");
const path = (what, more = "") => `/api/v1/${what}/${encodeURIComponent(symbol)}?timeframe=${timeframe}&limit=${PAGE}${more}`;
const precision = (price) => (Math.abs(price) >= 100 ? 2 : Math.abs(price) >= 1 ? 4 : 6);

// The library counts in UTC, also while the clock of this browser repeats an hour: only what it writes has the zone.
// A day is the date that the market gives it.
const find = (time) => [...bars.values()].find((bar) => toTime(bar.start) === time);
const isDaily = () => timeframe === "1d";

function toTime(ms) {
  return isDaily() ? Date.parse(formatDay(ms)) / 1000 : Math.floor(ms / 1000);
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

function showState(text) {
  const state = document.getElementById("chart-state");
  if (state.textContent !== text) state.textContent = text;
}

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
  volumes = chart.addSeries(HistogramSeries, { priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false });
  chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
  chart.timeScale().subscribeVisibleLogicalRangeChange((range) => range && range.from < 10 && cursor && loadOlder());
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
  showLegend(last);
  showGaps();
}

function drawLines() {
  for (const line of lines) chart.removeSeries(line);
  lines = [];
  const boxes = [...document.querySelectorAll("#overlays input:checked")];
  const names = [...new Set([...values.values()].flatMap((one) => Object.keys(one)))];
  const colours = ["--focus", "--chart-2", "--chart-3", "--warn"].map(colour);
  const known = [...values].sort(([one], [other]) => one - other);
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
      line.setData(removeDoubles(known.map(([start, one]) => (
        one[name] === null || one[name] === undefined ? { time: toTime(start) } : { time: toTime(start), value: one[name] }
      ))));
      lines.push(line);
    });
  });
  chart.panes().slice(1).forEach((each) => each.setStretchFactor(0.3));
}

function showLegend(bar) {
  const legend = document.getElementById("legend");
  if (!bar) {
    legend.textContent = "\u00a0";
    return;
  }
  const words = [
    formatTime(toTime(bar.start)), ...["open", "high", "low", "close"].map((name) => `${name[0].toUpperCase()} ${formatPrice(bar[name])}`),
    ...(bar.volume === null ? [] : [`volume ${bar.volume.toLocaleString("en-US")}`]),
    bar.final ? "final" : "still open", ...(bar.rev ? [`revision ${bar.rev}`] : []), bar.source, ...(bar.replay ? ["replay"] : []),
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

async function ask(url) {
  const answer = await fetch(url, { headers: { accept: "application/json" } });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail ?? answer.statusText);
  return body;
}

async function askPage(more = "") {
  const computed = ask(path("indicators", more)).catch(() => ({ indicators: [] }));
  return Promise.all([ask(path("bars", more)), computed]);
}

function clear() {
  bars = new Map();
  values = new Map();
  gaps = [];
  cursor = null;
}

async function load() {
  const wanted = timeframe;
  clear();
  isTorn = false;
  try {
    const page = await askPage();
    if (wanted !== timeframe) return;
    keep(...page);
    showState(bars.size ? "" : `No bars of ${timeframe} yet. The service bars makes them from minutes, and the archive keeps them.`);
  } catch (error) {
    if (wanted !== timeframe) return;
    showState(`The chart has nothing to show: ${error.message}.`);
  }
  draw();
  chart.timeScale().fitContent();
  const points = makeCandles().length;
  if (points > 150) chart.timeScale().setVisibleLogicalRange({ from: points - 150, to: points + 5 });
  subscribe();
}

function keep(found, computed) {
  if (!found.bars.length) return;
  const [first, last] = [found.bars[0].start, found.bars.at(-1).start];
  const known = sorted();
  if (first > known.at(-1)?.start) clear(); // between the two nobody knows what there was
  if (!bars.size || first < known[0].start) cursor = found.cursor;
  for (const bar of found.bars) if (!isNewer(bars.get(bar.start), bar)) bars.set(bar.start, bar);
  for (const one of computed.indicators) values.set(one.start, one.values);
  const others = gaps.filter((gap) => gap.to <= first || gap.from > last);
  gaps = [...others, ...(found.gaps ?? [])].sort((one, other) => one.from - other.from);
}

// Ask the API again for what came while the connection was lost for long.
async function repair() {
  if (isLoading) return;
  isLoading = true;
  const wanted = timeframe;
  try {
    const page = await askPage();
    if (wanted !== timeframe) return;
    isTorn = false;
    keep(...page);
    draw();
  } catch {
    // the next bar tries it again
  } finally {
    isLoading = false;
  }
}

async function loadOlder() {
  if (isLoading) return;
  isLoading = true;
  const range = chart.timeScale().getVisibleLogicalRange();
  const [before, wanted] = [makeCandles().length, timeframe];
  try {
    const page = await askPage(`&cursor=${cursor}`);
    if (wanted !== timeframe) return;
    if (!page[0].bars.length) cursor = null;
    keep(...page);
    draw();
    const added = makeCandles().length - before;
    chart.timeScale().setVisibleLogicalRange({ from: range.from + added, to: range.to + added });
  } catch (error) {
    if (wanted !== timeframe) return;
    showState(`Older bars can't be loaded: ${error.message}.`);
    cursor = null;
  } finally {
    isLoading = false;
  }
}

// Whether what is known of a bar goes before what came: by the epoch, then by the revision, then what is final.
function isNewer(known, bar) {
  if (!known) return false;
  if (known.epoch !== bar.epoch) return known.epoch > bar.epoch;
  return known.rev === bar.rev ? known.final && !bar.final : known.rev > bar.rev;
}

function takeBar(bar) {
  const known = bars.get(bar.start);
  if (isNewer(known, bar)) return false;
  const step = STEP_SEC[timeframe] * 1000;
  const last = newest();
  bars.set(bar.start, bar);
  gaps = gaps.filter((gap) => !(gap.from <= bar.start && bar.start < gap.to && gap.missing === 1));
  return !last || bar.start < last.start || bar.start > last.start + step;
}

function take(topic, data) {
  if (topic.startsWith("quotes:")) {
    showPrice(quote, data.price, data.at, data.source, data.replay);
    return;
  }
  if (topic.slice(topic.lastIndexOf(":") + 1) !== timeframe) return; // of the chart that was shown before
  if (topic.startsWith("indicators:")) {
    values.set(data.start, data.values);
    if (lines.length) drawLines();
    return;
  }
  const fresh = Array.isArray(data) ? data : [data];
  if (newest() && fresh.length && fresh[0].start > newest().start + 1000 * STEP_SEC[timeframe]) isTorn = true;
  const isWhole = fresh.map(takeBar).some(Boolean);
  if (isWhole || fresh.length > 1) draw();
  else for (const bar of fresh) drawOne(bar);
  const last = newest();
  if (last) showPrice(quote, last.close, last.start, last.source, last.replay, isDaily());
  if (isTorn) repair();
}

function drawOne(bar) {
  const { start, open, high, low, close, volume } = bar;
  candles.update({ time: toTime(start), open, high, low, close });
  if (volume !== null) volumes.update({ time: toTime(start), value: volume, color: faint(close < open ? "--down" : "--up") });
  showLegend(bar);
}

function subscribe() {
  stop = followMarket([`bars:${symbol}:${timeframe}`, `indicators:${symbol}:${timeframe}`, `quotes:${symbol}`], { take });
}

function choose(event) {
  const chosen = event.target.closest("[data-timeframe]");
  if (!chosen || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  stop?.();
  timeframe = chosen.dataset.timeframe;
  for (const each of document.querySelectorAll("[data-timeframe]")) {
    if (each === chosen) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
  history.replaceState(null, "", `?timeframe=${timeframe}`);
  chart.applyOptions({ timeScale: { timeVisible: !isDaily() } });
  load();
}

function tick() {
  tickAges(now());
  renewCloses();
}

make();
load();
document.querySelector(".frames").addEventListener("click", choose);
document.getElementById("overlays").addEventListener("change", drawLines);
addEventListener("themechange", paint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
showMoments();
listenToKeys();
follow({ changed: tick, ticked: tick });
