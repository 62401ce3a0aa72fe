"""Compute what must be in the database, in one pass by polars and TA-Lib over the raw file of the market.

Nothing of `services/` is used here. The trading days of New York are those of exchange_calendars; those of
currencies and coins follow from what the product promises of them: from 17:00 to 17:00 in New York, and by
UTC.
"""

import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import polars as pl
import talib

MINUTES: Final = {"1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": None}
"""The length of the bars of each timeframe; a day is as long as its session."""
KEY: Final = ("symbol", "timeframe", "start")
BLOCK: Final = 400
"""A value is that of TA-Lib over its own block of so many bars and the one before."""
NEW_YORK: Final = ZoneInfo("America/New_York")
PRICES: Final = ("open", "high", "low", "close")
Arrays = dict[str, np.ndarray[Any, Any]]


def read_minutes(path: Path) -> pl.DataFrame:
    """Return the minutes of the raw file."""
    kinds = {"volume": pl.Float64, "vwap": pl.Float64, "trades": pl.Int64}
    kinds |= dict.fromkeys(PRICES, pl.Float64)
    return pl.read_csv(path, schema_overrides=kinds).rename({"start_ms": "start"})


def list_days(session: str, first: date, last: date) -> pl.DataFrame:
    """Return each trading day of a session: its date, and when it opens and closes in epoch milliseconds."""
    if session == "XNYS":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            calendar = exchange_calendars.get_calendar(session, start=first.isoformat(), end=last.isoformat())
        opens, closes = calendar.opens_nanos // 1_000_000, calendar.closes_nanos // 1_000_000
        dates = calendar.sessions.date.tolist()
        return pl.DataFrame({"day": dates, "opens": np.asarray(opens), "closes": np.asarray(closes)})
    days = [first + timedelta(number) for number in range((last - first).days + 1)]
    if session == "24x5":
        edges = [
            (day, _to_ms(day - timedelta(1), time(17), NEW_YORK), _to_ms(day, time(17), NEW_YORK))
            for day in days
            if day.weekday() < 5
        ]
    else:
        edges = [(day, _to_ms(day, time(), UTC), _to_ms(day + timedelta(1), time(), UTC)) for day in days]
    return pl.DataFrame(edges, schema=["day", "opens", "closes"], orient="row")


def _to_ms(day: date, at: time, zone: Any) -> int:
    return round(datetime.combine(day, at, zone).timestamp() * 1000)


def build_bars(minutes: pl.DataFrame) -> pl.DataFrame:
    """Return the bars of every timeframe.

    `day` is the date of a bar's trading day and `opens` its beginning, `parts` how many
    minutes are in it, and `final` whether the first minute of all is not after its beginning.
    """
    placed = pl.concat(_place_minutes(part, str(name)) for (name,), part in minutes.group_by("session"))
    bars = pl.concat(_merge(placed, timeframe) for timeframe in MINUTES).sort(KEY)
    first = pl.col("start").filter(pl.col("timeframe") == "1m").min().over("symbol")
    return bars.with_columns(final=pl.col("start") >= first)


def read_days(path: Path) -> pl.DataFrame:
    """Return the days of the raw file of days as bars; each begins with the session of its date."""
    kinds = dict.fromkeys((*PRICES, "volume", "vwap"), pl.Float64) | {"day": pl.Date, "trades": pl.Int64}
    placed = []
    for (session,), part in pl.read_csv(path, schema_overrides=kinds).group_by("session"):
        first, last = part["day"].min(), part["day"].max()
        assert isinstance(first, date)
        assert isinstance(last, date)
        begun = list_days(str(session), first, last).select("day", start=pl.col("opens").cast(pl.Int64))
        placed.append(part.join(begun, "day", validate="m:1"))
        if len(placed[-1]) < len(part):
            raise ValueError(f"days without a session of {session}")
    days = pl.concat(placed).with_columns(
        timeframe=pl.lit("1d"), opens="start", parts=pl.lit(1, pl.Int64), final=True
    )
    return days.drop("session")


def _place_minutes(minutes: pl.DataFrame, session: str) -> pl.DataFrame:
    """Return the minutes of a session with the day to which each belongs."""
    starts = minutes["start"]
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).date() for ms in (starts.min(), starts.max()))
    days = list_days(session, first - timedelta(3), last + timedelta(3)).cast(
        {"opens": pl.Int64, "closes": pl.Int64}
    )
    placed = minutes.sort("start").join_asof(
        days.sort("opens"), left_on="start", right_on="opens", coalesce=False
    )
    outside = placed.filter(pl.col("opens").is_null() | (pl.col("start") >= pl.col("closes")))
    if len(outside):
        raise ValueError(f"{len(outside)} minutes outside of {session}: {outside.row(0)}")
    return placed


def _merge(placed: pl.DataFrame, timeframe: str) -> pl.DataFrame:
    """Return the bars of one timeframe. A column is null where one of the minutes has none."""
    length = MINUTES[timeframe]
    since = pl.col("start") - pl.col("opens")
    begin = pl.col("opens") if length is None else pl.col("start") - since % (60_000 * length)
    grouped = placed.sort("symbol", "start").group_by("symbol", begin.alias("bar"), maintain_order=True)
    turnover = (pl.col("vwap") * pl.col("volume")).sum() / pl.col("volume").sum()
    merged = grouped.agg(
        pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(),
        _where_whole("volume", pl.col("volume").sum()),
        _where_whole("vwap", turnover if timeframe != "1m" else pl.col("vwap").first()),
        _where_whole("trades", pl.col("trades").sum()),
        pl.col("opens").first(),
        pl.col("day").first(),
        pl.len().cast(pl.Int64).alias("parts"),
    )  # fmt: skip
    return merged.rename({"bar": "start"}).with_columns(timeframe=pl.lit(timeframe))


def _where_whole(name: str, value: pl.Expr) -> pl.Expr:
    """Return a value where every part has one, else null."""
    return pl.when(pl.col(name).null_count() == 0).then(value).otherwise(None).alias(name)


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
    whole["vwap"] = _sum_vwap(arrays, series["opens"].to_numpy(), is_daily=timeframe == "1d")
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
