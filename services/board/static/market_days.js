// The trading days of bars, and what a share gained over them. Days are dates such as `2024-06-10`.

const EVENING_MS = 3 * 3600000; // as the server: a trading day that begins so shortly before midnight UTC is the next day

// The date of a trading day that begins at a time, as the market calls it.
export const formatDay = (startMs) => new Date(startMs + EVENING_MS).toISOString().slice(0, 10);

// The date of the trading day of a bar; of a week or month that is its first one.
export const dayOf = (bar) => bar.day ?? formatDay(bar.start);

// The last date of a bar, which its close is of: a Sunday, the end of a month.
export function lastDayOf(bar, timeframe) {
  const date = new Date(dayOf(bar));
  if (timeframe === "1w") date.setUTCDate(date.getUTCDate() + (7 - date.getUTCDay()) % 7);
  if (timeframe === "1mo") date.setUTCMonth(date.getUTCMonth() + 1, 0);
  return date.toISOString().slice(0, 10);
}

// What bars, the oldest first, that are adjusted for the splits up to a day gained with their dividends, each put into
// shares at the close before its day: null if it is not below that.
export function findTotal(bars, timeframe, actions, adjustedTo) {
  const lastDay = (bar) => lastDayOf(bar, timeframe);
  const [first, last] = [bars[0], bars.at(-1)];
  const upTo = adjustedTo > dayOf(last) ? adjustedTo : dayOf(last); // what is announced for later has not come
  const [from, to] = [lastDay(first), lastDay(last) < upTo ? lastDay(last) : upTo];
  let shares = 1;
  for (const { ex_day: day, amount } of actions.filter((one) => one.kind === "dividend" && one.ex_day > from && one.ex_day <= to)) {
    const before = bars.findLast((bar) => lastDay(bar) < day);
    const splits = actions.filter((one) => one.kind === "split" && one.ex_day >= day && one.ex_day <= upTo);
    const paidNow = splits.reduce((sum, { ratio }) => sum / ratio, amount); // for a share as it is adjusted
    if (before.close <= paidNow) return null;
    shares /= 1 - paidNow / before.close;
  }
  return (last.close / first.close) * shares - 1;
}
