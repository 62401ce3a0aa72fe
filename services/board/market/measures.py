"""Read what rotation, breadth, rates and sentiment are measured by: closes and values of the archive."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.board.market.feed import MarketStates
from services.board.market.market import CALENDARS_SEC, Market
from services.board.market.overview import list_groups
from services.board.market.past import PastMarket
from services.board.market.pictures import format_day
from services.board.market.quality import DayQuality, JudgedDay, judge_days, list_days, spread_days
from services.board.market.rates import (
    CREDIT,
    HIGH_YIELD,
    INVESTMENT_GRADE,
    SENTIMENT,
    VALUES,
    YIELDS,
    Measure,
    MeasureSeries,
    SeriesValue,
    Values,
    list_missing_series,
    list_positions,
    measure_all,
    measure_slopes,
    subtract_series,
)
from services.board.market.rotation import CLOSES, Breadth, Closes, DailyClose, measure_breadth
from services.board.market.states import OBSERVATIONS, list_group
from services.market.records import MINUTE_MS

ALL: Final = "all"
"""The name of the row that counts all symbols."""
SECTORS: Final = "sectors"
MAX_MEASURED: Final = 500  # the most symbols of a group that are measured, the first ones by name


@dataclass(frozen=True, slots=True)
class MeasuredRates:
    """Hold measures, and the names of the series that would be needed for the others."""

    measures: tuple[Measure, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class YieldCurve:
    """Hold the yields by their maturity, and the slopes of the curve in percentage points."""

    yields: tuple[Measure, ...] = ()
    missing: tuple[str, ...] = ()
    slopes: dict[str, float | None] | None = None


def list_priced(states: MarketStates, group: str) -> list[str]:
    """Return the symbols of a group that have prices, by name; of ALL those of all groups."""
    groups = list_groups(states) if group == ALL else [group]
    series = (one for name in groups for one in list_group(states.series, name))
    return sorted({one.symbol for one in series if one.kind != OBSERVATIONS})


async def read_closes(market: Market, symbols: Sequence[str], as_of_ms: int | None = None) -> Closes:
    """Return the closes of the last trading days of some symbols, adjusted for splits.

    They are those that were known at an instant, now without one. Raises DatabaseAwayError.
    """
    wanted = tuple(symbols[:MAX_MEASURED])

    async def read() -> Closes:
        found: dict[str, list[DailyClose]] = {symbol: [] for symbol in wanted}
        days = await market.find_days(wanted, as_of_ms)
        rows = await market.archive.read_newest(wanted, "1d", CLOSES, days, as_of_ms)
        for symbol, start, close, _, replay, *_ in rows:
            found[symbol].append(DailyClose(format_day(start), close, replay))
        return {symbol: some[::-1] for symbol, some in found.items()}

    if not wanted:
        return {}
    closes: Closes = await market.closes.find((as_of_ms, wanted), read, market.sessions.known)
    return closes


async def read_breadth(
    market: Market, group: str | None = None, past: PastMarket | None = None
) -> list[tuple[str, int, Breadth]]:
    """Return the name of each group, how many symbols it has, and its breadth; ALL first.

    Raises DatabaseAwayError.
    """
    states, as_of_ms = (market.states, None) if past is None else (past.states, past.at_ms)
    names = [ALL, *list_groups(states)] if group is None else [group]
    closes = await read_closes(market, list_priced(states, ALL if group is None else group), as_of_ms)
    found = []
    for name in names:
        symbols = list_priced(states, name)
        if symbols:
            breadth = measure_breadth({one: closes[one] for one in symbols if one in closes})
            found.append((name, len(symbols), breadth))
    return found


async def _read_values(market: Market, names: Iterable[str], as_of_ms: int | None) -> Values:
    wanted = tuple(dict.fromkeys(names))
    found: dict[str, list[SeriesValue]] = {}

    async def read() -> Values:
        rows = await market.archive.read_newest(wanted, None, VALUES, {}, as_of_ms)
        for name, start, value, source, replay, *_ in rows:
            found.setdefault(name, []).append(SeriesValue(start, value, source, replay))
        return {name: some[::-1] for name, some in found.items()}

    values: Values = await market.closes.find((as_of_ms, "", *wanted), read)
    return values


async def _measure(market: Market, wanted: Sequence[MeasureSeries], as_of_ms: int | None) -> MeasuredRates:
    values = await _read_values(market, (name for one in wanted for name in one.series), as_of_ms)
    found = measure_all(wanted, values)
    return MeasuredRates(found, tuple(list_missing_series(wanted, found)))


async def read_yield_curve(market: Market, as_of_ms: int | None = None) -> YieldCurve:
    """Return the yields and slopes of now, or as they were known at an instant. Raises DatabaseAwayError."""
    found = await _measure(market, YIELDS, as_of_ms)
    return YieldCurve(found.measures, found.missing, measure_slopes(found.measures))


async def read_credit(market: Market, as_of_ms: int | None = None) -> MeasuredRates:
    """Return the spreads of corporate bonds, and how far both are apart. Raises DatabaseAwayError."""
    values = await _read_values(market, (name for one in CREDIT for name in one.series), as_of_ms)
    found = measure_all(CREDIT, values)
    by_label = {one.label: one.series for one in found}
    missing = tuple(list_missing_series(CREDIT, found))
    if len(by_label) < len(CREDIT):
        return MeasuredRates(found, missing)
    apart = f"{HIGH_YIELD} less {INVESTMENT_GRADE.lower()}"
    between = {apart: subtract_series(values, by_label[HIGH_YIELD], by_label[INVESTMENT_GRADE])}
    return MeasuredRates((*found, *measure_all([MeasureSeries(apart, (apart,))], between)), missing)


async def read_sentiment(market: Market, past: PastMarket | None = None) -> MeasuredRates:
    """Return surveys, volatility and the net positions of speculators. Raises DatabaseAwayError."""
    states, as_of_ms = (market.states, None) if past is None else (past.states, past.at_ms)
    positions = list_positions(one.symbol for one in states.series if one.kind == OBSERVATIONS)
    surveys = (name for one in SENTIMENT for name in one.series)
    names = *surveys, *(name for _, *both in positions for name in both)
    values = dict(await _read_values(market, names, as_of_ms))
    nets = {label: subtract_series(values, longs, shorts) for label, longs, shorts in positions}
    found = measure_all([*SENTIMENT, *(MeasureSeries(label, (label,)) for label in nets)], {**values, **nets})
    return MeasuredRates(found, tuple(list_missing_series(SENTIMENT, found)))


@dataclass(frozen=True, slots=True)
class MeasuredQuality:
    """Hold the quality of trading days, by name and day, the newest day first.

    Attributes:
        waiting: the symbols that are left out, since their calendars are being computed.
        away: why rejected records may lack; None if they don't.
    """

    days: Sequence[DayQuality] = ()
    waiting: Sequence[str] = ()
    away: str | None = None


async def read_quality(market: Market, symbols: Sequence[str], days: int) -> MeasuredQuality:
    """Return the quality of the last trading days of symbols; of a replay, of its own clock.

    It does not wait for calendars that take long: those are there for the next who asks. Raises
    DatabaseAwayError.
    """
    rejections, away = await market.find_rejections()
    known, now_ms = await market.names.list_all(), round(1000 * time.time())
    assets = {symbol: known[symbol].asset for symbol in symbols if symbol in known}
    sessions, waiting = await market.sessions.find_soon(assets, CALENDARS_SEC)

    async def read() -> Sequence[DayQuality]:
        judged: list[JudgedDay] = []
        for symbol, session in sessions.items():
            one = known[symbol]
            if session is not None:
                last_ms = one.last_seen if one.replay and one.last_seen is not None else None
                judged += list_days(symbol, session, now_ms if last_ms is None else last_ms + MINUTE_MS, days)
        names, opens_ms, untils_ms = spread_days(judged)
        counts = await market.archive.count_minutes(names, opens_ms, untils_ms)
        built = await market.archive.read_built_days(names, opens_ms, [one.day for one in judged])
        return judge_days(judged, counts, rejections, built)

    found = await market.qualities.find((tuple(symbols), days), read, version=tuple(waiting))
    return MeasuredQuality(found, waiting, away)


def list_minute_symbols(market: Market) -> list[str]:
    """Return by name the symbols of which the truth has minutes loaded."""
    series = (one for one in market.states.series if not one.is_separate)
    return sorted({one.symbol for one in series if one.kind == "bars" and one.timeframe == "1m"})
