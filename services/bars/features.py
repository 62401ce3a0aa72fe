"""Compute sixty features of daily bars for models. None of them looks ahead. Pure.

A feature of a day reads that day's bar and earlier ones of its symbol, the market's closes of the same days,
and the symbols that have a bar of the same day; nothing later. With the market it is compared over the days
that both have a bar of, up to that day. Days are the same if their trading days have
the same date, whenever these open: that of a currency begins on the evening before. `FEATURES` is the one
table of them, which docs/services/features.md shows. A value is None where the window is not full, a volume
is missing, or a quotient has no value.

RSI, MACD, NATR, ADX, CCI, the stochastic and MFI are TA-Lib's over the whole history that is given, since
their seeds are the first bars: with the same beginning they have the same bits. All else reads its window.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import talib

from services.bars.bar_columns import Array, apply_to_runs
from services.bars.windows import (
    Positions,
    average,
    center,
    correlate,
    cut_windows,
    deviate,
    find_kurtosis,
    find_skew,
    find_slope,
    shift,
)
from services.market.records import Bar

Values = dict[str, float | None]

MARKET: Final = "SPY"
"""The default symbol whose returns stand for those of the market."""
_BILLION: Final = 1e9
_LOG = "ln"  # of a quotient of prices
_DAILY = "ln per day"


class DailyBar(NamedTuple):
    """Hold a bar of `1d`, the date of its trading day, and whether it was played from a recording."""

    day: date
    bar: Bar
    is_replay: bool = False


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
        self.market: Array = np.array([market.get(day, math.nan) for day in self.days.tolist()])
        """The logarithm of the market's close of the same day."""
        self.rows: Positions = np.flatnonzero(np.isin(self.days, wanted))
        """The positions of the days that are asked for."""

    @cached_property
    def log_close(self) -> Array:
        return np.log(self.close)

    @cached_property
    def returns(self) -> Array:
        """The logarithmic returns from close to close."""
        return self.log_close - shift(self.log_close, 1)

    @cached_property
    def common(self) -> Positions:
        """The positions of the days on which the market has a close, too."""
        return np.flatnonzero(np.isfinite(self.market))

    @cached_property
    def common_returns(self) -> tuple[Array, Array]:
        """The logarithmic returns between these days, and those of the market."""
        own, market = self.log_close[self.common], self.market[self.common]
        return own - shift(own, 1), market - shift(market, 1)

    @cached_property
    def gaps(self) -> Array:
        """The logarithmic returns from the close before to the open."""
        return np.log(self.open) - shift(self.log_close, 1)

    @cached_property
    def ranges(self) -> Array:
        """The logarithms of high by low."""
        return np.log(self.high / self.low)

    @cached_property
    def turnover(self) -> Array:
        return self.close * self.volume

    @cached_property
    def macd(self) -> tuple[Array, Array, Array]:
        macd, signal, histogram = talib.MACD(self.close, 12, 26, 9)
        return macd, signal, histogram

    @property
    def wanted(self) -> Positions:
        return self.days[self.rows]

    def take(self, values: Array) -> Array:
        return values[self.rows]

    def look_back(self, values: Array, days: int) -> Array:
        """Return the values `days` bars before the days that are asked for."""
        return shift(values, days)[self.rows]

    def window(self, values: Array, days: int) -> Array:
        """Return a row of the last `days` values for each day that is asked for."""
        return cut_windows(values, self.rows, days)

    def window_common(self, values: Array, days: int) -> Array:
        """Like `window`, over values of the days of `common`."""
        return cut_windows(values, np.searchsorted(self.common, self.rows, side="right") - 1, days)


@dataclass(frozen=True, slots=True)
class Feature:
    """Describe a feature.

    Attributes:
        name: its key in `values`.
        window: how many bars its first value needs, this one included.
        compute: how a symbol's own history gives it; None for those that the universe gives.
    """

    name: str
    formula: str
    window: int
    unit: str
    compute: Callable[[DailyHistory], Array] | None = None


def _gain(days: int) -> Callable[[DailyHistory], Array]:
    return lambda h: h.take(h.log_close) - h.look_back(h.log_close, days)


def _volatility(days: int) -> Callable[[DailyHistory], Array]:
    return lambda h: deviate(h.window(h.returns, days))


def _volatility_ratio(short: int, long: int) -> Callable[[DailyHistory], Array]:
    return lambda h: deviate(h.window(h.returns, short)) / deviate(h.window(h.returns, long))


def _find_parkinson(history: DailyHistory) -> Array:
    squares = np.square(history.window(history.ranges, 20))
    return np.sqrt(average(squares) / (4 * math.log(2)))


def _find_garman_klass(history: DailyHistory) -> Array:
    body = np.log(history.close / history.open)
    daily = 0.5 * np.square(history.ranges) - (2 * math.log(2) - 1) * np.square(body)
    return np.sqrt(average(history.window(daily, 20)))


def _find_downside(history: DailyHistory) -> Array:
    losses = np.minimum(history.window(history.returns, 20), 0.0)
    return np.sqrt(average(np.square(losses)))


def _find_max_drawdown(history: DailyHistory) -> Array:
    closes = history.window(history.log_close, 60)
    deepest: Array = (closes - np.maximum.accumulate(closes, axis=1)).min(axis=1)
    return deepest


def _z_score(column: str, days: int) -> Callable[[DailyHistory], Array]:
    def compute(history: DailyHistory) -> Array:
        windows = history.window(getattr(history, column), days)
        return (windows[:, -1] - average(windows)) / deviate(windows)

    return compute


def _distance_to_mean(days: int) -> Callable[[DailyHistory], Array]:
    return lambda h: h.take(h.close) / average(h.window(h.close, days)) - 1


def _distance_to_high(days: int) -> Callable[[DailyHistory], Array]:
    return lambda h: h.take(h.log_close) - h.window(h.log_close, days).max(axis=1)


def _distance_to_low(days: int) -> Callable[[DailyHistory], Array]:
    return lambda h: h.take(h.log_close) - h.window(h.log_close, days).min(axis=1)


def _market_correlation(days: int) -> Callable[[DailyHistory], Array]:
    return lambda h: correlate(*(h.window_common(each, days) for each in h.common_returns))


def _find_beta(history: DailyHistory) -> Array:
    return find_slope(*(history.window_common(each, 60) for each in history.common_returns))


def _find_relative(history: DailyHistory) -> Array:
    ratios = history.window_common((history.log_close - history.market)[history.common], 21)
    return ratios[:, -1] - ratios[:, 0]


def _find_autocorrelation(history: DailyHistory) -> Array:
    windows = history.window(history.returns, 21)
    return correlate(np.ascontiguousarray(windows[:, 1:]), np.ascontiguousarray(windows[:, :-1]))


def _find_band_width(history: DailyHistory) -> Array:
    closes = history.window(history.close, 20)
    return 4 * np.sqrt(average(np.square(center(closes)))) / average(closes)


def _find_illiquidity(history: DailyHistory) -> Array:
    return _BILLION * average(history.window(np.abs(history.returns) / history.turnover, 20))


def _find_money_flow(history: DailyHistory) -> Array:
    columns = [history.high, history.low, history.close, history.volume]
    return history.take(apply_to_runs(talib.MFI, columns, timeperiod=14))


def _find_stochastic(history: DailyHistory) -> Array:
    columns = (history.high, history.low, history.close)
    return history.take(talib.STOCH(*columns, fastk_period=14, slowk_period=3, slowd_period=3)[0])


def _find_weekday(history: DailyHistory) -> Array:
    return ((history.wanted - 1) % 7).astype(np.float64)


def _find_pause(history: DailyHistory) -> Array:
    return history.take(history.days - shift(history.days.astype(np.float64), 1))


FEATURES: Final[tuple[Feature, ...]] = (
    *(
        Feature(
            f"ret_{days}",
            f"return over {days} bars: close by the close {days} before",
            days + 1,
            _LOG,
            _gain(days),
        )
        for days in (1, 2, 3, 5, 10, 20, 60, 120, 250)
    ),
    Feature(
        "mom_250_20",
        "momentum: the close 20 bars ago by the close 250 bars ago",
        251,
        _LOG,
        lambda h: h.look_back(h.log_close, 20) - h.look_back(h.log_close, 250),
    ),
    *(
        Feature(f"vol_{days}", f"standard deviation of {days} returns", days + 1, _DAILY, _volatility(days))
        for days in (5, 20, 60)
    ),
    Feature("vol_ratio_5_20", "vol_5 by vol_20", 21, "ratio", _volatility_ratio(5, 20)),
    Feature("vol_ratio_20_60", "vol_20 by vol_60", 61, "ratio", _volatility_ratio(20, 60)),
    Feature("parkinson_20", "Parkinson's volatility, of 20 highs and lows", 20, _DAILY, _find_parkinson),
    Feature(
        "garman_klass_20", "Garman and Klass' volatility, of 20 whole bars", 20, _DAILY, _find_garman_klass
    ),
    Feature(
        "downside_vol_20", "root of the mean square of 20 returns, gains as 0", 21, _DAILY, _find_downside
    ),
    Feature(
        "natr_14",
        "Wilder's average true range of 14 by the close",
        15,
        "percent",
        lambda h: h.take(talib.NATR(h.high, h.low, h.close, 14)),
    ),
    Feature("skew_60", "skewness of 60 returns", 61, "number", lambda h: find_skew(h.window(h.returns, 60))),
    Feature(
        "kurt_60",
        "excess kurtosis of 60 returns",
        61,
        "number",
        lambda h: find_kurtosis(h.window(h.returns, 60)),
    ),
    Feature(
        "max_drawdown_60",
        "the deepest fall from a close to a later one within 60 closes",
        60,
        _LOG,
        _find_max_drawdown,
    ),
    Feature(
        "autocorr_20",
        "correlation of 20 returns with those one bar before",
        22,
        "-1 to 1",
        _find_autocorrelation,
    ),
    Feature("range_1", "high by low", 1, _LOG, lambda h: h.take(h.ranges)),
    Feature(
        "range_z_20",
        "high by low (ln), from its mean of 20",
        20,
        "standard deviations",
        _z_score("ranges", 20),
    ),
    Feature("gap_1", "open by the close before", 2, _LOG, lambda h: h.take(h.gaps)),
    Feature(
        "gap_abs_20",
        "mean of 20 gaps without their signs",
        21,
        _LOG,
        lambda h: average(np.abs(h.window(h.gaps, 20))),
    ),
    Feature(
        "close_location",
        "place of the close between low and high",
        1,
        "0 to 1",
        lambda h: h.take((h.close - h.low) / (h.high - h.low)),
    ),
    Feature("body_1", "close by open", 1, _LOG, lambda h: h.take(np.log(h.close / h.open))),
    *(
        Feature(
            f"dist_sma_{days}",
            f"close by the mean of {days} closes, less 1",
            days,
            "ratio",
            _distance_to_mean(days),
        )
        for days in (20, 50, 200)
    ),
    *(
        Feature(
            f"dist_high_{days}", f"close by the highest of {days} closes", days, _LOG, _distance_to_high(days)
        )
        for days in (20, 250)
    ),
    *(
        Feature(
            f"dist_low_{days}", f"close by the lowest of {days} closes", days, _LOG, _distance_to_low(days)
        )
        for days in (20, 250)
    ),
    Feature("rsi_14", "Wilder's RSI of 14", 15, "0 to 100", lambda h: h.take(talib.RSI(h.close, 14))),
    Feature("macd", "MACD (12, 26, 9) by the close", 34, "ratio", lambda h: h.take(h.macd[0] / h.close)),
    Feature(
        "macd_hist", "MACD less its signal, by the close", 34, "ratio", lambda h: h.take(h.macd[2] / h.close)
    ),
    Feature("bb_z_20", "close, from its mean of 20", 20, "standard deviations", _z_score("close", 20)),
    Feature("bb_width_20", "(bb_upper - bb_lower) by bb_middle, of 20 closes", 20, "ratio", _find_band_width),
    Feature("stoch_k", "slow stochastic (14, 3)", 18, "0 to 100", _find_stochastic),
    Feature("adx_14", "ADX of 14", 28, "0 to 100", lambda h: h.take(talib.ADX(h.high, h.low, h.close, 14))),
    Feature("cci_20", "CCI of 20", 20, "number", lambda h: h.take(talib.CCI(h.high, h.low, h.close, 20))),
    Feature("mfi_14", "money flow index of 14", 15, "0 to 100", _find_money_flow),
    Feature("volume_z_20", "volume, from its mean of 20", 20, "standard deviations", _z_score("volume", 20)),
    Feature(
        "volume_ratio_5_20",
        "mean of 5 volumes by the mean of 20",
        20,
        "ratio",
        lambda h: average(h.window(h.volume, 5)) / average(h.window(h.volume, 20)),
    ),
    Feature(
        "turnover_20",
        "mean of close times volume over 20 bars",
        20,
        "ln of the quote currency",
        lambda h: np.log(average(h.window(h.turnover, 20))),
    ),
    Feature(
        "amihud_20",
        "Amihud's illiquidity: mean of 20 returns without their signs, each by its turnover",
        21,
        "ln per billion",
        _find_illiquidity,
    ),
    *(
        Feature(
            f"corr_market_{days}",
            f"correlation of {days} returns with the market's",
            days + 1,
            "-1 to 1",
            _market_correlation(days),
        )
        for days in (20, 60)
    ),
    Feature("beta_60", "slope of 60 returns over the market's", 61, "ratio", _find_beta),
    Feature(
        "rel_ret_20", "return over 20 days of both less the market's between them", 21, _LOG, _find_relative
    ),
    Feature("weekday", "day of the week of the trading day, Monday is 0", 1, "0 to 6", _find_weekday),
    Feature("pause", "calendar days since the trading day before", 2, "days", _find_pause),
    Feature("breadth_up_1", "share of the universe with ret_1 above 0", 2, "0 to 1"),
    Feature("breadth_sma_50", "share of the universe with dist_sma_50 above 0", 50, "0 to 1"),
    Feature("breadth_high_20", "share of the universe at its highest close of 20 bars", 20, "0 to 1"),
    Feature("dispersion_1", "standard deviation of ret_1 over the universe", 2, _LOG),
    Feature("rank_ret_20", "rank of ret_20 in the universe, from last to first", 21, "0 to 1"),
)
"""The sixty features, in the order in which they are computed and published."""
LONGEST_WINDOW: Final = max(feature.window for feature in FEATURES)
"""The bars after which every feature has a value, the day's own included."""


def compute_features(
    history: Mapping[str, Sequence[DailyBar]], market: str = MARKET, since: date = date.min
) -> dict[str, list[tuple[int, Values]]]:
    """Return each symbol's features of every day: the start of the day's bar, and its values.

    Args:
        history: each symbol's daily bars, in order; they are the universe.
        market: the symbol whose closes stand for the market's; without it their features are None.
        since: the first day that is asked for. The days before are the past of those after; few days cost a
            tenth of all of them.

    Raises:
        ValueError: bars are not daily, or not in order.
    """
    days = [daily.day.toordinal() for bars in history.values() for daily in bars if daily.day >= since]
    wanted = np.unique(np.array(days, dtype=np.int64))
    with np.errstate(all="ignore"):  # what has no value is None
        closes = _read_closes(history.get(market, ()))
        # in order of names: a sum over the universe has the same bits whatever the order of the mapping
        histories = {
            symbol: DailyHistory(bars, closes, wanted) for symbol, bars in sorted(history.items()) if bars
        }
        columns = {
            symbol: {f.name: f.compute(own) for f in FEATURES if f.compute is not None}
            for symbol, own in histories.items()
        }
        _add_universe(histories, columns)
    return {
        symbol: _make_rows(bars, histories[symbol], columns[symbol]) if bars else []
        for symbol, bars in history.items()
    }


def _read_closes(daily: Sequence[DailyBar]) -> dict[int, float]:
    closes = np.log(np.array([each.bar.close for each in daily], dtype=np.float64))
    return dict(zip([each.day.toordinal() for each in daily], closes.tolist(), strict=True))


def _make_rows(
    daily: Sequence[DailyBar], history: DailyHistory, columns: Mapping[str, Array]
) -> list[tuple[int, Values]]:
    names = [feature.name for feature in FEATURES]
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return [
        (
            daily[position].bar.start_ms,
            {name: v if math.isfinite(v) else None for name, v in zip(names, row, strict=True)},
        )
        for position, row in zip(history.rows.tolist(), rows, strict=True)
    ]


def _add_universe(histories: Mapping[str, DailyHistory], columns: Mapping[str, dict[str, Array]]) -> None:
    """Add to each symbol's columns what the universe of the same day gives.

    `groups` says for each value to which day it belongs. Sums run in the order of the values.
    """
    if not histories:
        return
    days = np.concatenate([own.wanted for own in histories.values()])
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
