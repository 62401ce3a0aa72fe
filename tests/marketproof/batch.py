"""Compute what must be in the database, in one pass by polars and TA-Lib over the raw file of the market.

Nothing of `services/` is used here: the rules are those of docs/services/bars.md and docs/market.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import talib

from marketproof.calendar import count_minutes, list_days, name_period

MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": None}
"""The length of the bars that are built of minutes; a day is as long as its session."""
PERIODS: Final = {"1w": timedelta(7), "1mo": timedelta(31)}
"""The bars that are built of final days, and how long they are at most."""
KEY: Final = ("symbol", "timeframe", "start")
BLOCK: Final = 400
"""A value is that of TA-Lib over its own block of so many bars and the one before."""
PRICES: Final = ("open", "high", "low", "close")
Arrays = dict[str, np.ndarray[Any, Any]]


def read_minutes(path: Path) -> pl.DataFrame:
    """Return the minutes of the raw file."""
    kinds = {"volume": pl.Float64, "vwap": pl.Float64, "trades": pl.Int64}
    kinds |= dict.fromkeys(PRICES, pl.Float64)
    return pl.read_csv(path, schema_overrides=kinds).rename({"start_ms": "start"})


def read_days(path: Path) -> pl.DataFrame:
    """Return the days of the raw file of days as bars; each begins with the session of its date."""
    kinds = dict.fromkeys((*PRICES, "volume", "vwap"), pl.Float64) | {"day": pl.Date, "trades": pl.Int64}
    placed = []
    for (session,), part in pl.read_csv(path, schema_overrides=kinds).group_by("session"):
        placed.append(part.join(_list_days_of(str(session), part["day"]), "day", validate="m:1"))
        if len(placed[-1]) < len(part):
            raise ValueError(f"days without a session of {session}")
    return pl.concat(placed).with_columns(
        timeframe=pl.lit("1d"), start="opens", parts=pl.lit(1, pl.Int64), final=True
    )


def _list_days_of(session: str, days: pl.Series) -> pl.DataFrame:
    """Return the trading days of a session from the first to the last of some dates."""
    first, last = days.min(), days.max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    return list_days(session, first, last)


Splits = Mapping[str, Sequence[tuple[date, float]]]
"""By symbol the ex-days of its splits, and how many shares one becomes."""


def read_splits(path: Path) -> Splits:
    """Return the splits of the raw file of actions."""
    rows = pl.read_csv(path, schema_overrides={"ex_day": pl.Date, "value": pl.Float64}).filter(kind="split")
    found: dict[str, list[tuple[date, float]]] = {}
    for symbol, ex_day, ratio in rows.select("symbol", "ex_day", "value").rows():
        found.setdefault(symbol, []).append((ex_day, ratio))
    return found


def adjust(bars: pl.DataFrame, splits: Splits, upto: str) -> pl.DataFrame:
    """Return bars adjusted for the splits after their own `day` and up to the date in a column."""
    ratio = pl.lit(1.0)
    for symbol, found in splits.items():
        for ex_day, value in found:
            is_before = (pl.col("symbol") == symbol) & (pl.col("day") < ex_day) & (pl.col(upto) >= ex_day)
            ratio *= pl.when(is_before).then(value).otherwise(1.0)
    prices = [(pl.col(name) / ratio).alias(name) for name in (*PRICES, "vwap")]
    return bars.with_columns(*prices, volume=pl.col("volume") * ratio)


def adjust_to_newest(bars: pl.DataFrame, splits: Splits) -> pl.DataFrame:
    """Return bars of every timeframe adjusted for the splits up to the newest day of their symbol.

    A week or a month has the prices of its last date.
    """
    newest = pl.col("day").filter(pl.col("timeframe") == "1d").max().over("symbol")
    named = pl.col("day")
    last = pl.when(timeframe="1w").then(named.dt.offset_by("6d")).otherwise(named.dt.month_end())
    is_period = pl.col("timeframe").is_in(list(PERIODS))
    dated = bars.with_columns(newest=newest, named="day", day=pl.when(is_period).then(last).otherwise(named))
    return adjust(dated, splits, "newest").with_columns(day="named").drop("newest", "named")


def build_bars(minutes: pl.DataFrame, days: pl.DataFrame, splits: Splits) -> pl.DataFrame:
    """Return the bars of every timeframe, of minutes and of the days that sources give.

    A given day stands for the one that would be built. A week or a month is of prices as traded on its last
    final day.

    `day` is the date of a bar's trading day, of a week its Monday, of a month its first. `opens` and `closes`
    are those of its trading day; `parts` says of how many minutes or given days it is made, `minutes` and
    `missing` are as docs/services/bars.md has them, and `final` says whether it is whole. A bar of minutes
    that begins before the first minute of all is not.
    """
    placed = pl.concat(_place_minutes(part, str(name)) for (name,), part in minutes.group_by("session"))
    built = pl.concat(_merge_minutes(placed, timeframe) for timeframe in MINUTES)
    first = pl.col("start").filter(pl.col("timeframe") == "1m").min().over("symbol")
    built = built.with_columns(final=pl.col("start") >= first)
    others = built.join(days, KEY, "anti")
    bars = pl.concat([others, days], how="diagonal")
    found = bars.filter(pl.col("timeframe") == "1d")
    periods = (_merge_days(found, timeframe, splits) for timeframe in PERIODS)
    return pl.concat([bars, *periods], how="diagonal").sort(KEY)


def _place_minutes(minutes: pl.DataFrame, session: str) -> pl.DataFrame:
    """Return the minutes of a session with the day to which each belongs."""
    starts = minutes["start"]
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (starts.min(), starts.max()))
    days = list_days(session, first - timedelta(3), last + timedelta(3))
    placed = minutes.sort("start").join_asof(
        days.sort("opens"), left_on="start", right_on="opens", coalesce=False
    )
    start = pl.col("start")
    is_in_break = (start >= pl.col("pauses")) & (start < pl.col("resumes"))
    outside = placed.filter(pl.col("opens").is_null() | (start >= pl.col("closes")) | is_in_break)
    if len(outside):
        raise ValueError(f"{len(outside)} minutes outside of {session}: {outside.row(0)}")
    return placed


def _merge_minutes(placed: pl.DataFrame, timeframe: str) -> pl.DataFrame:
    """Return the bars of one timeframe. A column is null where one of the minutes has none."""
    length = MINUTES[timeframe]
    since = pl.col("start") - pl.col("opens")
    begin = pl.col("opens") if length is None else pl.col("start") - since % (60_000 * length)
    grouped = placed.sort("symbol", "start").group_by("symbol", begin.alias("bar"), maintain_order=True)
    of_day = ("opens", "closes", "pauses", "resumes", "day", "session")
    merged = grouped.agg(
        *_merge_columns(is_whole=timeframe == "1m"),
        *(pl.col(name).first() for name in of_day),
        pl.len().cast(pl.Int64).alias("parts"),
    )
    ends = (
        pl.col("closes") if length is None else pl.min_horizontal("closes", pl.col("bar") + 60_000 * length)
    )
    merged = merged.with_columns(end=ends, minutes=pl.col("parts"))
    merged = merged.with_columns(missing=count_minutes("bar", "end") - pl.col("minutes"))
    if timeframe == "1m":
        nothing = pl.lit(None, pl.Int64)
        merged = merged.with_columns(minutes=nothing, missing=nothing)
    return merged.rename({"bar": "start"}).with_columns(timeframe=pl.lit(timeframe)).drop("end")


def _merge_columns(*, is_whole: bool) -> tuple[pl.Expr, ...]:
    """Return what is merged of the parts of a bar; `is_whole` if each bar has one part."""
    turnover = (pl.col("vwap") * pl.col("volume")).sum() / pl.col("volume").sum()
    return (
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
        _where_whole("volume", pl.col("volume").sum()),
        _where_whole("vwap", pl.col("vwap").first() if is_whole else turnover),
        _where_whole("trades", pl.col("trades").sum()),
    )  # fmt: skip


def _where_whole(name: str, value: pl.Expr) -> pl.Expr:
    """Return a value where every part has one, else null."""
    return pl.when(pl.col(name).null_count() == 0).then(value).otherwise(None).alias(name)


def _merge_days(days: pl.DataFrame, timeframe: str, splits: Splits) -> pl.DataFrame:
    """Return the weeks or the months of final days.

    One is final if the bar of its last trading day is, or if that day has none and a later day is known; and
    if the symbol's first day of all is in an earlier one.
    """
    merged = []
    for (session,), part in days.group_by("session"):
        reach = PERIODS[timeframe]
        first, last = part["day"].min(), part["day"].max()
        assert isinstance(first, date)
        assert isinstance(last, date)
        calendar = list_days(str(session), first - reach, last + reach).with_columns(
            named=name_period(timeframe), count=count_minutes("opens", "closes")
        )
        periods = (
            calendar.sort("day")
            .group_by("named")
            .agg(start=pl.col("opens").first(), last=pl.col("day").last(), count=pl.col("count").sum())
        )
        known = part.sort("symbol", "start").with_columns(
            named=name_period(timeframe),
            newest=pl.col("day").max().over("symbol"),
            first=name_period(timeframe).min().over("symbol"),
        )
        whole = known.filter("final").with_columns(last=pl.col("day").max().over("symbol", "named"))
        grouped = (
            adjust(whole, splits, "last")
            .group_by("symbol", "named", maintain_order=True)
            .agg(
                *_merge_columns(is_whole=False),
                pl.col("first", "newest").first(),
                seen=pl.col("day").last(),
                parts=pl.col("parts").sum(),
                minutes=_where_whole("minutes", pl.col("minutes").sum()),
            )
        )
        merged.append(
            grouped.join(periods, "named").select(
                "symbol", "start", *PRICES, "volume", "vwap", "trades", "parts", "minutes",
                timeframe=pl.lit(timeframe),
                day="named",
                opens="start",
                missing=pl.col("count") - pl.col("minutes"),
                final=((pl.col("seen") == pl.col("last")) | (pl.col("newest") > pl.col("last")))
                & (pl.col("named") > pl.col("first")),
            )
        )  # fmt: skip
    return pl.concat(merged)


# -- indicators


def build_indicators(bars: pl.DataFrame) -> Iterator[tuple[tuple[str, str, int], dict[str, float | None]]]:
    """Yield the key and the values of every bar."""
    for (symbol, timeframe), part in bars.group_by("symbol", "timeframe", maintain_order=True):
        series = part.sort("start")
        columns = _compute_series(series, str(timeframe))
        names = list(columns)
        rows = zip(*(columns[name].tolist() for name in names), strict=True)
        for start, row in zip(series["start"].to_list(), rows, strict=True):
            values = {name: value if value == value else None for name, value in zip(names, row, strict=True)}  # noqa: PLR0124 - NaN
            yield (str(symbol), str(timeframe), start), values


def _compute_series(series: pl.DataFrame, timeframe: str) -> Arrays:
    """Return the values of a series: block by block, each with the block before it."""
    arrays = {
        name: series[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
        for name in (*PRICES, "volume", "vwap")
    }
    count, blocks = len(series), []
    for first in range(0, count, BLOCK):
        begin = max(0, first - BLOCK)
        window = {name: values[begin : first + BLOCK] for name, values in arrays.items()}
        found = _compute_block(window)
        blocks.append({name: values[first - begin :] for name, values in found.items()})
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    whole["obv"] = _sum_obv(arrays["close"], arrays["volume"])
    whole["vwap"] = _sum_vwap(arrays, series["opens"].to_numpy(), is_daily=timeframe in ("1d", *PERIODS))
    return whole


def _compute_block(columns: Arrays) -> Arrays:
    """Return TA-Lib's values over some bars."""
    high, low, close, volume = (columns[name] for name in ("high", "low", "close", "volume"))
    macd, signal, histogram = talib.MACD(close, 12, 26, 9)
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    k, d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    return {
        "sma_20": talib.SMA(close, 20),
        "ema_20": talib.EMA(close, 20),
        "rsi_14": talib.RSI(close, 14),
        "macd": macd, "macd_signal": signal, "macd_hist": histogram,
        "bb_upper": upper, "bb_middle": middle, "bb_lower": lower,
        "atr_14": talib.ATR(high, low, close, 14),
        "stoch_k": k, "stoch_d": d,
        "adx_14": talib.ADX(high, low, close, 14),
        "cci_20": talib.CCI(high, low, close, 20),
        "mfi_14": _skip_unknown(lambda *given: talib.MFI(*given, 14), high, low, close, volume),
        "willr_14": talib.WILLR(high, low, close, 14),
    }  # fmt: skip


def _skip_unknown(function: Callable[..., Any], *columns: Any) -> Any:
    """Return NaN where there is no volume at all; a series has one for every bar, or for none."""
    return np.full(len(columns[-1]), np.nan) if np.isnan(columns[-1]).any() else function(*columns)


def _sum_obv(close: Any, volume: Any) -> Any:
    """Return on-balance volume: the sum of the volumes of bars that rose, less that of bars that fell."""
    signs = np.sign(np.diff(close))
    return np.cumsum(np.concatenate([volume[:1], signs * volume[1:]]))


def _sum_vwap(columns: Arrays, opens: Any, *, is_daily: bool) -> Any:
    """Return the average price since the day's open, weighed by volume; of a day its own."""
    typical = (columns["high"] + columns["low"] + columns["close"]) / 3
    price = np.where(np.isnan(columns["vwap"]), typical, columns["vwap"])
    days = np.arange(len(opens)) if is_daily else opens
    frame = pl.DataFrame({"day": days, "volume": columns["volume"], "turnover": price * columns["volume"]})
    sums = pl.col("turnover").cum_sum().over("day") / pl.col("volume").cum_sum().over("day")
    return frame.select(sums.alias("vwap"))["vwap"].to_numpy()
