"""Compute sixty features of daily bars for models. None of them looks ahead. Pure.

A feature of a day is known at the close of that day of its symbol, and reads what was known by then (see
services/market/as_of.py): that day's bar and earlier ones of the symbol itself, and of the market and of the
other symbols of its asset class the days that had closed. So Tokyo is compared with New York's close of the
day before, and New York with a currency's last day that had ended. With the market a symbol is compared over
those of its days at whose close a new close of the market was known. The table in docs/services/features.md
says of each feature how it is computed, over how many bars, and its unit. A value is None where the window is
not full, a volume is missing, or a quotient has no value.

RSI, MACD, NATR, ADX, CCI, the stochastic and MFI are TA-Lib's over the whole history that is given, since
their seeds are the first bars: with the same beginning they have the same bits. All else reads its window: a
row of its own memory, so that a sum runs over it in the same order however long the column is.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

import numpy as np
import talib

from services.bars.bar_columns import Array, apply_to_runs
from services.bars.bar_table import EARLIEST_MS
from services.market.as_of import TRADED_MS, Times, collect_bars, find_last_known
from services.market.computed import FEATURE_NAMES
from services.market.records import AssetClass, Bar

Values = dict[str, float | None]
Positions = Times

MARKET: Final = "SPY"
"""The default symbol whose returns stand for those of the market."""
LONGEST_WINDOW: Final = 251
"""The bars after which every feature has a value, the day's own included."""
_OF_UNIVERSE: Final = ("breadth_up_1", "breadth_sma_50", "breadth_high_20", "dispersion_1", "rank_ret_20")
_INSTANTS_AT_ONCE: Final = 4096
"""The instants whose universe is computed at once: each has a cell for every symbol."""


class DailyBar(NamedTuple):
    """Hold a bar of `1d`, the date of its trading day, and whether it was played from a recording.

    `close_ms` is when the trading day closed (epoch milliseconds), and so when the bar is known: of a day of
    UTC's hours the end of that. `corrected_ms` is when its source was asked for the last correction, 0 if
    there was none.
    """

    day: date
    close_ms: int
    bar: Bar
    is_replay: bool = False
    corrected_ms: int = 0


def compute_features(
    history: Mapping[str, Sequence[DailyBar]],
    assets: Mapping[str, AssetClass],
    market: str = MARKET,
    since_ms: int = EARLIEST_MS,
) -> dict[str, list[tuple[int, Values]]]:
    """Return each symbol's features of every day: the start of the day's bar, and its values.

    Args:
        history: each symbol's daily bars, in order.
        assets: the asset class of each symbol. The symbols of one class are a universe: a share of
            stocks and coins together would be that of coins alone on a Sunday.
        market: the symbol whose closes stand for the market's; without it their features are None.
        since_ms: days that closed before are not asked for. They are the past of those after; few days cost a
            tenth of all of them.

    Raises:
        ValueError: bars are not daily, or not in order.
    """
    with np.errstate(all="ignore"):  # what has no value is None
        # in order of names: a sum over the universe has the same bits whatever the order of the mapping
        histories = {symbol: DailyHistory(bars, since_ms) for symbol, bars in sorted(history.items()) if bars}
        columns = {symbol: _compute_own(own, histories.get(market)) for symbol, own in histories.items()}
        universe: dict[str, dict[str, Array]] = {}
        for asset in set(assets.values()):
            members = {symbol: own for symbol, own in histories.items() if assets[symbol] is asset}
            universe |= _compute_universe(members, {symbol: columns[symbol] for symbol in members})
    return {
        symbol: _make_rows(bars, histories[symbol], columns[symbol], universe[symbol]) if bars else []
        for symbol, bars in history.items()
    }


class DailyHistory:
    """Hold one symbol's daily bars as columns, and which of them are asked for.

    Days are the ordinals of their dates, `closes` when they closed.
    """

    def __init__(self, daily: Sequence[DailyBar], since_ms: int) -> None:
        times = np.array([(each.day.toordinal(), each.bar.start_ms, each.close_ms) for each in daily])
        if (np.diff(times, axis=0) <= 0).any() or any(each.bar.timeframe != "1d" for each in daily):
            raise ValueError(f"{daily[0].bar.symbol}: not daily bars in order")
        bars = collect_bars((each.close_ms, each.bar) for each in daily)
        self.days: Positions = times[:, 0]
        self.closes = bars.known_at
        self.open, self.high, self.low, self.close, self.volume = bars.columns.values()
        self.log_close: Array = np.log(self.close)
        self.returns = self.log_close - shift(self.log_close, 1)
        """The logarithmic returns from close to close."""
        self.ranges: Array = np.log(self.high / self.low)
        before = np.append(self.closes[:1] - TRADED_MS, self.closes[:-1])
        self.spans = np.stack([np.maximum(before, self.closes - TRADED_MS), self.closes])
        """Of each day when the day before closed, and when it closed itself."""
        self.rows: Positions = np.flatnonzero(self.closes > since_ms - TRADED_MS)
        """The positions of the days that are asked for, and of those in the universe of one of them."""
        self.asked = int(np.searchsorted(self.closes[self.rows], since_ms))
        """How many of `rows` come before the first day that is asked for."""

    def window(self, values: Array, days: int) -> Array:
        """Return a row of the last `days` values for each of `rows`."""
        return cut_windows(values, self.rows, days)


def _compute_own(h: DailyHistory, market: DailyHistory | None) -> dict[str, Array]:
    """Return the features that a symbol's own history and the market's closes give, by name."""
    days = h.days[h.rows]
    return {
        **_compute_returns(h),
        **_compute_ranges(h),
        **_compute_levels(h),
        **_compute_oscillators(h),
        **_compute_volumes(h),
        **_compute_relations(h, market),
        "weekday": ((days - 1) % 7).astype(np.float64),
        "pause": days - shift(h.days.astype(np.float64), 1)[h.rows],
    }


def _compute_returns(h: DailyHistory) -> dict[str, Array]:
    before = {days: shift(h.log_close, days)[h.rows] for days in (1, 2, 3, 5, 10, 20, 60, 120, 250)}
    volatility = {days: deviate(h.window(h.returns, days)) for days in (5, 20, 60)}
    last, closes = h.window(h.returns, 21), h.window(h.log_close, 60)
    return {
        **{f"ret_{days}": h.log_close[h.rows] - close for days, close in before.items()},
        "mom_250_20": before[20] - before[250],
        **{f"vol_{days}": values for days, values in volatility.items()},
        "vol_ratio_5_20": volatility[5] / volatility[20],
        "vol_ratio_20_60": volatility[20] / volatility[60],
        "downside_vol_20": np.sqrt(average(np.square(np.minimum(h.window(h.returns, 20), 0.0)))),
        "skew_60": find_skew(h.window(h.returns, 60)),
        "kurt_60": find_kurtosis(h.window(h.returns, 60)),
        "max_drawdown_60": (closes - np.maximum.accumulate(closes, axis=1)).min(axis=1),
        "autocorr_20": correlate(np.ascontiguousarray(last[:, 1:]), np.ascontiguousarray(last[:, :-1])),
    }


def _compute_ranges(h: DailyHistory) -> dict[str, Array]:
    body, gaps = np.log(h.close / h.open), np.log(h.open) - shift(h.log_close, 1)
    garman_klass = 0.5 * np.square(h.ranges) - (2 * math.log(2) - 1) * np.square(body)
    location = (h.close - h.low) / (h.high - h.low)
    return {
        "parkinson_20": np.sqrt(average(np.square(h.window(h.ranges, 20))) / (4 * math.log(2))),
        "garman_klass_20": np.sqrt(average(h.window(garman_klass, 20))),
        "range_1": h.ranges[h.rows],
        "range_z_20": standardize(h.window(h.ranges, 20)),
        "gap_1": gaps[h.rows],
        "gap_abs_20": average(np.abs(h.window(gaps, 20))),
        "close_location": location[h.rows],
        "body_1": body[h.rows],
    }


def _compute_levels(h: DailyHistory) -> dict[str, Array]:
    close, log_close, last = h.close[h.rows], h.log_close[h.rows], h.window(h.close, 20)
    windows = {days: h.window(h.log_close, days) for days in (20, 250)}
    return {
        **{f"dist_sma_{days}": close / average(h.window(h.close, days)) - 1 for days in (20, 50, 200)},
        **{f"dist_high_{days}": log_close - each.max(axis=1) for days, each in windows.items()},
        **{f"dist_low_{days}": log_close - each.min(axis=1) for days, each in windows.items()},
        "bb_z_20": standardize(last),
        "bb_width_20": 4 * np.sqrt(average(np.square(center(last)))) / average(last),
    }


def _compute_oscillators(h: DailyHistory) -> dict[str, Array]:
    prices = (h.high, h.low, h.close)
    macd, _, histogram = talib.MACD(h.close, 12, 26, 9)
    found: dict[str, Array] = {
        "natr_14": talib.NATR(*prices, 14),
        "rsi_14": talib.RSI(h.close, 14),
        "macd": macd / h.close,
        "macd_hist": histogram / h.close,
        "stoch_k": talib.STOCH(*prices, fastk_period=14, slowk_period=3, slowd_period=3)[0],
        "adx_14": talib.ADX(*prices, 14),
        "cci_20": talib.CCI(*prices, 20),
        "mfi_14": apply_to_runs(talib.MFI, [*prices, h.volume], timeperiod=14),
    }
    return {name: values[h.rows] for name, values in found.items()}


def _compute_volumes(h: DailyHistory) -> dict[str, Array]:
    volumes, turnover = h.window(h.volume, 20), h.close * h.volume
    return {
        "volume_z_20": standardize(volumes),
        "volume_ratio_5_20": average(h.window(h.volume, 5)) / average(volumes),
        "turnover_20": np.log(average(h.window(turnover, 20))),
        "amihud_20": 1e9 * average(h.window(np.abs(h.returns) / turnover, 20)),
    }


def _compute_relations(h: DailyHistory, market: DailyHistory | None) -> dict[str, Array]:
    """Compare a symbol with the market over its days at whose close a new close of the market was known."""
    prices, closes = (np.empty(0), h.closes[:0]) if market is None else (market.log_close, market.closes)
    has_price = np.isfinite(prices)
    prices, closes = prices[has_price], closes[has_price]
    known = find_last_known(closes, h.closes)
    common = np.flatnonzero(np.diff(known, prepend=-1) > 0)
    positions = find_last_known(common, h.rows)
    own, market_own = h.log_close[common], prices[known[common]]
    returns, market_returns = own - shift(own, 1), market_own - shift(market_own, 1)
    windows = {
        days: (cut_windows(returns, positions, days), cut_windows(market_returns, positions, days))
        for days in (20, 60)
    }
    ratios = cut_windows(own - market_own, positions, 21)
    return {
        **{f"corr_market_{days}": correlate(*both) for days, both in windows.items()},
        "beta_60": find_slope(*windows[60]),
        "rel_ret_20": ratios[:, -1] - ratios[:, 0],
    }


def _make_rows(
    daily: Sequence[DailyBar],
    history: DailyHistory,
    columns: Mapping[str, Array],
    universe: Mapping[str, Array],
) -> list[tuple[int, Values]]:
    asked = {**{name: values[history.asked :] for name, values in columns.items()}, **universe}
    rows = zip(*(asked[name].tolist() for name in FEATURE_NAMES), strict=True)
    return [
        (
            daily[position].bar.start_ms,
            {name: v if math.isfinite(v) else None for name, v in zip(FEATURE_NAMES, row, strict=True)},
        )
        for position, row in zip(history.rows[history.asked :].tolist(), rows, strict=True)
    ]


def _compute_universe(
    histories: Mapping[str, DailyHistory], columns: Mapping[str, Mapping[str, Array]]
) -> dict[str, dict[str, Array]]:
    """Return of each symbol what the universe gives for its days that are asked for, by name.

    The universe of a symbol's day is each symbol with a day that closed after the close before of that symbol
    and by its close of the day, with the last such day. Symbols of one exchange share these two instants, so
    the universe of each pair of instants is computed once.
    """
    if not histories:
        return {}
    owns = list(histories.values())
    counts = [len(own.rows) - own.asked for own in owns]
    spans = np.concatenate([own.spans[:, own.rows[own.asked :]] for own in owns], axis=1)
    pairs, groups = np.unique(spans, axis=1, return_inverse=True)
    groups, places = groups.reshape(-1), np.repeat(np.arange(len(owns)), counts)
    found = {name: np.empty(len(groups)) for name in _OF_UNIVERSE}
    for first in range(0, pairs.shape[1], _INSTANTS_AT_ONCE):
        rows = np.flatnonzero((groups >= first) & (groups < first + _INSTANTS_AT_ONCE))
        near = groups[rows] - first
        returns, highs, averages, months = _see_universe(
            owns, list(columns.values()), pairs[:, first : first + _INSTANTS_AT_ONCE]
        )
        found["breadth_up_1"][rows] = _find_share(returns, returns > 0)[near]
        found["breadth_sma_50"][rows] = _find_share(averages, averages > 0)[near]
        found["breadth_high_20"][rows] = _find_share(highs, highs >= 0)[near]
        found["dispersion_1"][rows] = _find_dispersion(returns)[near]
        found["rank_ret_20"][rows] = _find_ranks(months)[near, places[rows]]
    ends = np.cumsum(counts)[:-1]
    parts = {name: np.split(values, ends) for name, values in found.items()}
    return {symbol: {name: each[n] for name, each in parts.items()} for n, symbol in enumerate(histories)}


def _see_universe(
    owns: Sequence[DailyHistory], columns: Sequence[Mapping[str, Array]], pairs: Positions
) -> list[Array]:
    """Return ret_1, dist_high_20, dist_sma_50 and ret_20 of the universe of each pair of instants.

    Each is a table with a row for each pair and a column for each symbol; NaN where no day of it closed
    after the first instant of the pair and by the second.
    """
    after, until = pairs
    tables = {
        name: np.full((len(until), len(owns)), math.nan)
        for name in ("ret_1", "dist_high_20", "dist_sma_50", "ret_20")
    }
    for n, (own, values) in enumerate(zip(owns, columns, strict=True)):
        closes = own.closes[own.rows]
        if len(closes):
            known = find_last_known(closes, until)
            rows = np.flatnonzero((known >= 0) & (closes[known] > after))
            for name, table in tables.items():
                table[rows, n] = values[name][known[rows]]
    return list(tables.values())


def _find_share(values: Array, flags: np.ndarray[Any, np.dtype[np.bool_]]) -> Array:
    """Return the share of flags in each row, of those that have a value; two at least."""
    known = np.isfinite(values)
    counts = known.sum(axis=1)
    return np.where(counts > 1, (known & flags).sum(axis=1) / counts, math.nan)


def _find_dispersion(values: Array) -> Array:
    """Return the standard deviation of each row's values; of two at least."""
    known = np.isfinite(values)
    # summed one after the other: cells without a value, as of a symbol that begins later, change no bit
    groups, numbers = np.nonzero(known)[0], values[known]
    counts = known.sum(axis=1)
    means = np.bincount(groups, numbers, minlength=len(values)) / counts
    squares = np.square(numbers - means[groups])
    sums = np.bincount(groups, squares, minlength=len(values))
    return np.where(counts > 1, np.sqrt(sums / (counts - 1)), math.nan)


def _find_ranks(values: Array) -> Array:
    """Return each value's rank in its row, from 0 to 1 for the greatest; equals share theirs."""
    ranks = np.full(values.shape, math.nan)
    for row, found in zip(ranks, values, strict=True):
        members = np.flatnonzero(np.isfinite(found))
        if len(members) > 1:
            own = found[members]
            ordered = np.sort(own)
            below = np.searchsorted(ordered, own, "left")
            equal = np.searchsorted(ordered, own, "right") - below
            row[members] = (below + (equal - 1) / 2) / (len(members) - 1)
    return ranks


# -- windows: each row is reduced by itself, and NaN in a row makes its value NaN


def shift(values: Array, count: int) -> Array:
    """Return each value's predecessor so many places before; NaN where there is none."""
    shifted = np.full(len(values), math.nan)
    if count < len(values):
        shifted[count:] = values[: len(values) - count]
    return shifted


def cut_windows(values: Array, positions: Positions, length: int) -> Array:
    """Return a row of the `length` values up to each position; NaN where there are fewer."""
    rows = np.full((len(positions), length), math.nan)
    full = positions >= length - 1
    if full.any():
        views = np.lib.stride_tricks.sliding_window_view(values, length)
        rows[full] = views[positions[full] - (length - 1)]
    return rows


def average(rows: Array) -> Array:
    mean: Array = rows.mean(axis=1)
    return mean


def center(rows: Array) -> Array:
    """Return each row less its mean; exactly 0 where all are the same, whatever their mean rounds to."""
    constant = rows.max(axis=1, keepdims=True) == rows.min(axis=1, keepdims=True)
    return np.where(constant, 0.0, rows - rows.mean(axis=1, keepdims=True))


def deviate(rows: Array) -> Array:
    """Return each row's standard deviation, as of a sample."""
    count = rows.shape[1]
    deviation: Array = np.sqrt(average(np.square(center(rows))) * (count / (count - 1)))
    return deviation


def standardize(rows: Array) -> Array:
    """Return how far each row's last value is from its mean, in standard deviations."""
    return (rows[:, -1] - average(rows)) / deviate(rows)


def correlate(left: Array, right: Array) -> Array:
    """Return one correlation a row, of two tables of one shape; NaN if one of the rows does not vary."""
    left, right = center(left), center(right)
    scale = np.sqrt(average(np.square(left)) * average(np.square(right)))
    return np.clip(average(left * right) / scale, -1.0, 1.0)


def find_slope(left: Array, right: Array) -> Array:
    """Return the slope of each row over the other, by least squares; NaN if the other does not vary."""
    right = center(right)
    return average(left * right) / average(np.square(right))


def find_skew(rows: Array) -> Array:
    """Return each row's skewness, by its moments; NaN if it does not vary."""
    centred = center(rows)
    skew: Array = average(centred**3) / average(np.square(centred)) ** 1.5
    return skew


def find_kurtosis(rows: Array) -> Array:
    """Return each row's kurtosis less 3, that of the normal distribution; NaN if it does not vary."""
    squares = np.square(center(rows))
    return average(np.square(squares)) / np.square(average(squares)) - 3
