"""Compute sixty features of daily bars for models. None of them looks ahead. Pure.

A feature of a day reads that day's bar and earlier ones of its symbol, the market's closes of the same days,
and the symbols of its asset class that have a bar of the same day; nothing later. With the market it is
compared over the days that both have a bar of, up to that day. Days are the same if their trading days have
the same date, whenever these open: that of a currency begins on the evening before. The table of them in
docs/services/features.md says of each how it is computed, over how many bars, and its unit. A value is None
where the window is not full, a volume is missing, or a quotient has no value.

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
from services.market.computed import FEATURE_NAMES
from services.market.records import AssetClass, Bar

Values = dict[str, float | None]
Positions = np.ndarray[Any, np.dtype[np.int64]]

MARKET: Final = "SPY"
"""The default symbol whose returns stand for those of the market."""
LONGEST_WINDOW: Final = 251
"""The bars after which every feature has a value, the day's own included."""


class DailyBar(NamedTuple):
    """Hold a bar of `1d`, the date of its trading day, and whether it was played from a recording."""

    day: date
    bar: Bar
    is_replay: bool = False


def compute_features(
    history: Mapping[str, Sequence[DailyBar]],
    assets: Mapping[str, AssetClass],
    market: str = MARKET,
    since: date = date.min,
) -> dict[str, list[tuple[int, Values]]]:
    """Return each symbol's features of every day: the start of the day's bar, and its values.

    Args:
        history: each symbol's daily bars, in order.
        assets: the asset class of each symbol. The symbols of one class are a universe: a share of
            stocks and coins together would be that of coins alone on a Sunday.
        market: the symbol whose closes stand for the market's; without it their features are None.
        since: the first day that is asked for. The days before are the past of those after; few days cost a
            tenth of all of them.

    Raises:
        ValueError: bars are not daily, or not in order.
    """
    days = [daily.day.toordinal() for bars in history.values() for daily in bars if daily.day >= since]
    wanted = np.unique(np.array(days, dtype=np.int64))
    with np.errstate(all="ignore"):  # what has no value is None
        daily = history.get(market, ())
        logs = np.log(np.array([each.bar.close for each in daily], dtype=np.float64)).tolist()
        closes = dict(zip([each.day.toordinal() for each in daily], logs, strict=True))
        # in order of names: a sum over the universe has the same bits whatever the order of the mapping
        histories = {
            symbol: DailyHistory(bars, closes, wanted) for symbol, bars in sorted(history.items()) if bars
        }
        columns = {symbol: _compute_own(own) for symbol, own in histories.items()}
        for asset in set(assets.values()):
            members = {symbol: own for symbol, own in histories.items() if assets[symbol] is asset}
            _add_universe(members, {symbol: columns[symbol] for symbol in members})
    return {
        symbol: _make_rows(bars, histories[symbol], columns[symbol]) if bars else []
        for symbol, bars in history.items()
    }


class DailyHistory:
    """Hold one symbol's daily bars as columns, the market's closes, and which days are asked for.

    Days are the ordinals of their dates.
    """

    def __init__(self, daily: Sequence[DailyBar], market: Mapping[int, float], wanted: Positions) -> None:
        bars = [each.bar for each in daily]
        self.days: Positions = np.array([each.day.toordinal() for each in daily], dtype=np.int64)
        if (np.diff(self.days) <= 0).any() or any(bar.timeframe != "1d" for bar in bars):
            raise ValueError(f"{bars[0].symbol}: not daily bars in order")
        self.open, self.high, self.low, self.close, self.volume = (
            np.array([getattr(bar, name) for bar in bars], dtype=np.float64)
            for name in ("open", "high", "low", "close", "volume")
        )
        self.log_close: Array = np.log(self.close)
        self.returns = self.log_close - shift(self.log_close, 1)
        """The logarithmic returns from close to close."""
        self.ranges: Array = np.log(self.high / self.low)
        self.market: Array = np.array([market.get(day, math.nan) for day in self.days.tolist()])
        """The logarithm of the market's close of the same day."""
        self.rows: Positions = np.flatnonzero(np.isin(self.days, wanted))
        """The positions of the days that are asked for."""

    def window(self, values: Array, days: int) -> Array:
        """Return a row of the last `days` values for each day that is asked for."""
        return cut_windows(values, self.rows, days)


def _compute_own(h: DailyHistory) -> dict[str, Array]:
    """Return the features that a symbol's own history and the market's closes give, by name."""
    days = h.days[h.rows]
    return {
        **_compute_returns(h),
        **_compute_ranges(h),
        **_compute_levels(h),
        **_compute_oscillators(h),
        **_compute_volumes(h),
        **_compute_relations(h),
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


def _compute_relations(h: DailyHistory) -> dict[str, Array]:
    """Compare a symbol with the market over the days on which both have a close."""
    common = np.flatnonzero(np.isfinite(h.market))
    positions = np.searchsorted(common, h.rows, side="right") - 1
    own, market = h.log_close[common], h.market[common]
    returns, market_returns = own - shift(own, 1), market - shift(market, 1)
    windows = {
        days: (cut_windows(returns, positions, days), cut_windows(market_returns, positions, days))
        for days in (20, 60)
    }
    ratios = cut_windows(own - market, positions, 21)
    return {
        **{f"corr_market_{days}": correlate(*both) for days, both in windows.items()},
        "beta_60": find_slope(*windows[60]),
        "rel_ret_20": ratios[:, -1] - ratios[:, 0],
    }


def _make_rows(
    daily: Sequence[DailyBar], history: DailyHistory, columns: Mapping[str, Array]
) -> list[tuple[int, Values]]:
    rows = zip(*(columns[name].tolist() for name in FEATURE_NAMES), strict=True)
    return [
        (
            daily[position].bar.start_ms,
            {name: v if math.isfinite(v) else None for name, v in zip(FEATURE_NAMES, row, strict=True)},
        )
        for position, row in zip(history.rows.tolist(), rows, strict=True)
    ]


def _add_universe(histories: Mapping[str, DailyHistory], columns: Mapping[str, dict[str, Array]]) -> None:
    """Add to each symbol's columns what the universe of the same day gives.

    `groups` says for each value to which day it belongs. Sums run in the order of the values.
    """
    if not histories:
        return
    days = np.concatenate([own.days[own.rows] for own in histories.values()])
    _, groups = np.unique(days, return_inverse=True)

    def gather(name: str) -> Array:
        return np.concatenate([own[name] for own in columns.values()])

    returns, high = gather("ret_1"), gather("dist_high_20")
    found = {
        "breadth_up_1": _find_share(groups, returns, returns > 0),
        "breadth_sma_50": _find_share(groups, gather("dist_sma_50"), gather("dist_sma_50") > 0),
        "breadth_high_20": _find_share(groups, high, high >= 0),
        "dispersion_1": _find_dispersion(groups, returns),
        "rank_ret_20": _find_ranks(groups, gather("ret_20")),
    }
    ends = np.cumsum([len(own.rows) for own in histories.values()])[:-1]
    for name, values in found.items():
        for own, part in zip(columns.values(), np.split(values, ends), strict=True):
            own[name] = part


def _find_share(groups: Positions, values: Array, flags: np.ndarray[Any, np.dtype[np.bool_]]) -> Array:
    """Return for each value the share of flags in its group, of those that have a value; two at least."""
    known = np.isfinite(values)
    total = int(groups.max(initial=-1)) + 1
    counts = np.bincount(groups[known], minlength=total)
    raised = np.bincount(groups[known & flags], minlength=total)
    return np.where(counts > 1, raised / counts, math.nan)[groups]


def _find_dispersion(groups: Positions, values: Array) -> Array:
    """Return for each value the standard deviation of its group's values; of two at least."""
    known = np.isfinite(values)
    total = int(groups.max(initial=-1)) + 1
    counts = np.bincount(groups[known], minlength=total)
    means = np.bincount(groups[known], values[known], minlength=total) / counts
    squares = np.square(values[known] - means[groups[known]])
    sums = np.bincount(groups[known], squares, minlength=total)
    return np.where(counts > 1, np.sqrt(sums / (counts - 1)), math.nan)[groups]


def _find_ranks(groups: Positions, values: Array) -> Array:
    """Return for each value its rank in its group, from 0 to 1 for the greatest; equals share theirs."""
    ranks = np.full(len(values), math.nan)
    known = np.flatnonzero(np.isfinite(values))
    known = known[np.argsort(groups[known], kind="stable")]
    edges = np.flatnonzero(np.diff(groups[known])) + 1
    for members in np.split(known, edges):
        if len(members) > 1:
            own = values[members]
            ordered = np.sort(own)
            below = np.searchsorted(ordered, own, "left")
            equal = np.searchsorted(ordered, own, "right") - below
            ranks[members] = (below + (equal - 1) / 2) / (len(members) - 1)
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
