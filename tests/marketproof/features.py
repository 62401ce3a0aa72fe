"""Compute features and correlations of days by polars and TA-Lib, as docs/services/features.md has them.

Nothing of `services/` is used here. A standard deviation is that of a sample, but for bb_width_20:
as TA-Lib's bands, it takes that of the population.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from math import log
from typing import Final

import numpy as np
import polars as pl
import talib

Row = dict[str, float | None]
UNIVERSE: Final = ("breadth_up_1", "breadth_sma_50", "breadth_high_20", "dispersion_1", "rank_ret_20")
DAY_SHARE: Final = 0.25
WEEK_MS: Final = 7 * 86_400_000
CORRELATED_DAYS: Final = 60
FEWEST_DAYS: Final = 5
_RET: Final = pl.col("ret_1")


def build_features(days: pl.DataFrame, market: str) -> Iterator[tuple[tuple[str, int], Row]]:
    """Yield the key (symbol, start) and the features of every day.

    `days` has the final bars of `1d` of all symbols, and of each the date of its trading day, when that
    closes, and the asset class of its symbol; `market` is the symbol that others are compared with. A day is
    compared with what had closed by its own close.
    """
    series = {str(name): part.sort("start") for (name,), part in drop_thin_days(days).group_by("symbol")}
    known = series[market].select("closes", pl.col("close").log().alias("market_close"), market_day="day")
    joined = (part.sort("closes").join_asof(known.sort("closes"), on="closes") for part in series.values())
    whole = pl.concat(_build_series(part) for part in joined)
    for row in _add_universe(whole).drop("asset", "closes").iter_rows(named=True):
        key = (row.pop("symbol"), row.pop("start"))
        yield key, {name: None if value is None or value != value else value for name, value in row.items()}  # noqa: PLR0124 - NaN


def drop_thin_days(days: pl.DataFrame) -> pl.DataFrame:
    """Return days without those that were built of less than DAY_SHARE of their minutes."""
    built = pl.col("minutes")
    return days.filter(built.is_null() | (built >= DAY_SHARE * (built + pl.col("missing"))))


def _build_series(days: pl.DataFrame) -> pl.DataFrame:
    """Return symbol, start and the features of one symbol that its own days and the market's give."""
    close, log_close = pl.col("close"), pl.col("close").log()
    base = days.sort("start").with_columns(
        pl.col("volume").cast(pl.Float64),
        ret_1=log_close.diff(),
        ret_before=log_close.diff().shift(),
        log_close=log_close,
        gap_1=pl.col("open").log() - log_close.shift(),
        range_1=(pl.col("high") / pl.col("low")).log(),
        body_1=(close / pl.col("open")).log(),
        turnover=close * pl.col("volume"),
        number=pl.int_range(pl.len()),
    )
    windows = [_reduce_windows(base, length, values) for length, values in _list_windows().items()]
    found = base.with_columns(
        *(log_close.diff(length).alias(f"ret_{length}") for length in (2, 3, 5, 10, 20, 60, 120, 250)),
        mom_250_20=log_close.shift(20) - log_close.shift(250),
        close_location=(close - pl.col("low")) / (pl.col("high") - pl.col("low")),
        weekday=pl.col("day").dt.weekday().cast(pl.Float64) - 1,
        pause=pl.col("day").diff().dt.total_days().cast(pl.Float64),
        **_compute_talib(base),
    )
    for window in windows:
        found = found.join(window, "number")
    found = found.join_asof(_compare(base), on="number")
    found = found.with_columns(
        vol_ratio_5_20=pl.col("vol_5") / pl.col("vol_20"),
        vol_ratio_20_60=pl.col("vol_20") / pl.col("vol_60"),
        volume_ratio_5_20=pl.col("volume_5") / pl.col("volume_20"),
    )
    helpers = {"ret_before", "log_close", "turnover", "number", "volume_5", "volume_20"}
    found = found.drop(helpers | set(days.columns) - {"symbol", "start", "closes", "asset"})
    return found.with_columns(pl.exclude("symbol", "start", "closes", "asset").fill_nan(None))


def _compare(base: pl.DataFrame) -> pl.DataFrame:
    """Return what compares a symbol with the market, by the days with a new close of the market."""
    ratio = pl.col("log_close") - pl.col("market_close")
    new = pl.col("market_day").is_not_null() & (
        pl.col("market_day") != pl.col("market_day").shift().fill_null(pl.date(1970, 1, 1))
    )
    both = base.filter(new).with_columns(
        own=pl.col("log_close").diff(), market=pl.col("market_close").diff(), place=pl.int_range(pl.len())
    )
    own, market = pl.col("own"), pl.col("market")
    values = {
        20: {"corr_market_20": pl.corr(own, market)},
        60: {"corr_market_60": pl.corr(own, market), "beta_60": pl.cov(own, market) / market.var()},
    }
    found = both.select("number", "place", rel_ret_20=ratio.diff(20))
    for length, each in values.items():
        windows = _reduce_windows(both.drop("number").rename({"place": "number"}), length, each)
        found = found.join(windows.rename({"number": "place"}), "place")
    return found.drop("place").sort("number")


def _list_windows() -> Mapping[int, Mapping[str, pl.Expr]]:
    """Return by length what a window of the last bars gives."""
    close, ln, volume, range_1 = (pl.col(name) for name in ("close", "log_close", "volume", "range_1"))
    turnover = pl.col("turnover")
    garman_klass = 0.5 * range_1**2 - (2 * log(2) - 1) * pl.col("body_1") ** 2
    return {
        5: {"vol_5": _RET.std(), "volume_5": volume.mean()},
        20: {
            "vol_20": _RET.std(),
            "parkinson_20": ((range_1**2).mean() / (4 * log(2))).sqrt(),
            "garman_klass_20": garman_klass.mean().sqrt(),
            "downside_vol_20": (_RET.clip(upper_bound=0.0) ** 2).mean().sqrt(),
            "autocorr_20": pl.corr(_RET, "ret_before"),
            "range_z_20": (range_1.last() - range_1.mean()) / range_1.std(),
            "gap_abs_20": pl.col("gap_1").abs().mean(),
            "dist_sma_20": close.last() / close.mean() - 1,
            "dist_high_20": ln.last() - ln.max(),
            "dist_low_20": ln.last() - ln.min(),
            "bb_z_20": (close.last() - close.mean()) / close.std(),
            "bb_width_20": 4 * close.std(ddof=0) / close.mean(),
            "volume_z_20": (volume.last() - volume.mean()) / volume.std(),
            "volume_20": volume.mean(),
            "turnover_20": turnover.mean().log(),
            "amihud_20": 1e9 * (_RET.abs() / turnover).mean(),
        },
        50: {"dist_sma_50": close.last() / close.mean() - 1},
        60: {
            "vol_60": _RET.std(),
            "skew_60": _RET.skew(),
            "kurt_60": _RET.kurtosis(),
            "max_drawdown_60": (ln - ln.cum_max()).min(),
        },
        200: {"dist_sma_200": close.last() / close.mean() - 1},
        250: {"dist_high_250": ln.last() - ln.max(), "dist_low_250": ln.last() - ln.min()},
    }


def _reduce_windows(base: pl.DataFrame, length: int, values: Mapping[str, pl.Expr]) -> pl.DataFrame:
    """Return by bar the values of its window; null where it is not full, or a bar in it lacks a column."""

    def where_whole(value: pl.Expr) -> pl.Expr:
        known = (pl.col(name).is_not_null().all() for name in value.meta.root_names())
        return pl.when(pl.len() == length, *known).then(value)

    whole = {name: where_whole(value) for name, value in values.items()}
    return base.rolling("number", period=f"{length}i").agg(**whole)


def _compute_talib(base: pl.DataFrame) -> dict[str, pl.Series]:
    """Return the indicators among the features, over the whole history."""
    high, low, close, volume = (base[name].to_numpy() for name in ("high", "low", "close", "volume"))
    macd, _, histogram = talib.MACD(close, 12, 26, 9)
    is_traded = base["volume"].null_count() == 0
    return {
        "natr_14": pl.Series(talib.NATR(high, low, close, 14)),
        "rsi_14": pl.Series(talib.RSI(close, 14)),
        "macd": pl.Series(macd / close),
        "macd_hist": pl.Series(histogram / close),
        "stoch_k": pl.Series(talib.STOCH(high, low, close, 14, 3, 0, 3, 0)[0]),
        "adx_14": pl.Series(talib.ADX(high, low, close, 14)),
        "cci_20": pl.Series(talib.CCI(high, low, close, 20)),
        "mfi_14": pl.Series(
            talib.MFI(high, low, close, volume, 14) if is_traded else np.full(len(close), np.nan)
        ),
    }


def _add_universe(whole: pl.DataFrame) -> pl.DataFrame:
    """Add the features of UNIVERSE: of two bars or more of a class.

    They are of the last day of each symbol that closed after the close before the day's own, a week before it
    at most, and not later than it.
    """
    reach = pl.col("closes").shift().over("symbol", order_by="closes").fill_null(0)
    spans = whole.select(
        "symbol", "closes", "asset", since=pl.max_horizontal(reach, pl.col("closes") - WEEK_MS)
    )
    others = whole.select(
        "asset", "ret_1", "dist_sma_50", "dist_high_20", "ret_20", other="symbol", at="closes"
    )
    pairs = spans.join(others, "asset").filter(
        pl.col("at") > pl.col("since"), pl.col("at") <= pl.col("closes")
    )
    newest = pairs.sort("at").group_by("symbol", "closes", "other").last()

    def share(name: str, flag: pl.Expr) -> pl.Expr:
        known = pl.col(name).is_not_null()
        return pl.when(known.sum() > 1).then((known & flag).sum() / known.sum())

    own = pl.col("ret_20").filter(pl.col("other") == pl.col("symbol")).first()
    ranked = pl.col("ret_20")
    lower, equal = (ranked < own).sum(), (ranked == own).sum()
    found = newest.group_by("symbol", "closes").agg(
        breadth_up_1=share("ret_1", pl.col("ret_1") > 0),
        breadth_sma_50=share("dist_sma_50", pl.col("dist_sma_50") > 0),
        breadth_high_20=share("dist_high_20", pl.col("dist_high_20") >= 0),
        dispersion_1=pl.col("ret_1").std(),
        rank_ret_20=pl.when(ranked.count() > 1, own.is_not_null()).then(
            (lower + (equal - 1) / 2) / (ranked.count() - 1)
        ),
    )
    return whole.join(found, ["symbol", "closes"])


# -- correlations


def build_correlations(days: pl.DataFrame, day: date) -> dict[tuple[str, str], tuple[float, int]]:
    """Return of each two symbols the correlation of their returns up to a day, and over how many days.

    A return is one between days on which both have a close; 60 at most count. A day is a trading day.
    """
    pair = ["symbol", "symbol_other"]
    known = days.filter(pl.col("day") <= day).select("symbol", "day", pl.col("close").log().alias("close"))
    both = known.join(known, "day", suffix="_other").filter(pl.col("symbol") < pl.col("symbol_other"))
    moves = both.sort("day").with_columns(
        move=pl.col("close").diff().over(pair), move_other=pl.col("close_other").diff().over(pair)
    )
    pairs = moves.filter(pl.col("move").is_not_null())
    newest = pairs.sort("day", descending=True).group_by(pair).head(CORRELATED_DAYS)
    found = newest.group_by("symbol", "symbol_other").agg(
        pl.corr("move", "move_other").alias("value"), pl.len()
    )
    return {(one, other): (value, count) for one, other, value, count in found.rows() if count >= FEWEST_DAYS}


def find_correlated_days(days: pl.DataFrame) -> set[date]:
    """Return the days whose correlations must be there: the last five, and the last one of each symbol."""
    last = days.group_by("symbol").agg(pl.col("day").max())
    return {*days["day"].unique().sort().to_list()[-5:], *last["day"].to_list()}
