"""Show the symbols of a group: the last price of each, its change, and a sparkline.

A number is never without where it came from and when: a tile has the source and the time of its price, and
says since when its change counts. What is not known is null.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from marketswarm.truth import suggest_name
from services.board.market.archive_reader import ArchiveReader, try_archive
from services.board.market.feed import MarketStates
from services.board.market.live import LiveMarket
from services.board.market.market import Market
from services.board.market.past import PastMarket
from services.board.market.query import QueryError
from services.board.market.states import ACTIONS, OBSERVATIONS, StoredSeries, list_group, pick_series
from services.market.adjust import AS_TRADED, Adjuster, GivenClose
from services.market.decimals import find_percent, find_precision, round_price, subtract_prices
from services.market.sessions import OutsideCalendarError, Session
from services.tables.adjusted_bars import (
    Adjust,
    adjust_closes,
    find_day_as_of,
    find_market_date,
    find_row_day,
    make_basis,
)
from services.tables.rows import Cells, QuoteRow

GROUPS: Final = ("indices", "commodities", "forex", "crypto", "treasuries", "volatility", "sectors")
"""The groups that are shown first."""
PRICES: Final = 10  # by so many of its last prices it is known in how many decimals a symbol is quoted
POINTS: Final = 60  # the most points of a sparkline
MAX_TILES: Final = 500
_SPARK_TIMEFRAMES: Final = {"1m": "15m", "5m": "15m", "15m": "1h"}
"""By the timeframe of a series, the one of its sparkline; others have their own."""
_NO_STREAM: Final = LiveMarket()
"""What came of the streams, for tiles of the past."""
Point = tuple[int, float]
FoundTiles = tuple[tuple["TileView", ...], str | None]
"""The tiles of a group, and why their past may lack."""


@dataclass(frozen=True, slots=True)
class TileView:
    """What a tile shows of a symbol: its last price or value at `at` (epoch milliseconds), and a sparkline.

    `change` is the difference to the price that it is `compared` with (`previous close`, `previous value`, or
    `first point` of the sparkline) at `compared_at`, adjusted for splits. `total_percent` is the same change
    with dividends; null unless it is compared with the previous close. `source` is where the price came from,
    `replay` whether it was played from a recording, `daily` whether it is that of a day, which begins at
    `at`. `serving` is the source that serves the `series` now, `reason` why, or why none does; `critical`
    says whether the fleet needs it, and `status` how it is: `fresh`, `closed`, `late` and so on, empty if it
    is not known. `points` have a time and a value, the oldest first. `decimals` are those in which the symbol
    is quoted.
    """

    symbol: str
    asset: str = ""
    price: float | None = None
    at: int | None = None
    change: float | None = None
    change_percent: float | None = None
    compared: str | None = None
    compared_at: int | None = None
    source: str | None = None
    replay: bool = False
    series: str = ""
    serving: str | None = None
    reason: str | None = None
    critical: bool = False
    points: tuple[Point, ...] = ()
    status: str = ""
    daily: bool = False
    decimals: int | None = None
    total_percent: float | None = None


@dataclass(frozen=True, slots=True)
class KnownPrice:
    """A price that a tile may show: its time, where it came from, and whether it is the close of a day.

    `given` is the same price with its day and its basis, if it was not put on that of the closes yet.
    """

    at: int = 0
    price: float | None = None
    source: str | None = None
    replay: bool = False
    is_daily: bool = False
    given: GivenClose | None = None


@dataclass(frozen=True, slots=True)
class SymbolMarket:
    """Hold when a symbol trades (None: not known), and its splits up to a day, the date where its market is.

    `splits` need not have those before its last stored day.
    """

    session: Session | None = None
    day: date = date.min
    splits: Adjuster | None = None

    def adjust(self, given: GivenClose) -> float:
        """Return a price adjusted for the splits after its own day, as the closes of a tile are."""
        return adjust_closes((given,), self.splits, Adjust.SPLITS.make_basis(self.day))[0]

    def find_trading_date(self, at_ms: int) -> date:
        """Return the date of the trading day that holds a time; while the market is closed, its own date.

        A trading day of currencies and futures begins on the evening before.
        """
        try:
            day = None if self.session is None else self.session.find_day(at_ms)
        except OutsideCalendarError:
            day = None
        return find_market_date(at_ms, self.session) if day is None else day.date


@dataclass(frozen=True, slots=True)
class SeriesPast:
    """Hold the past of a symbol: points, its newest price, its last two days, and its latest stored quote.

    Prices are adjusted for splits, those of `total` for dividends, too: these are the same days as `daily`.
    """

    points: tuple[Point, ...] = ()
    newest: KnownPrice | None = None
    daily: tuple[Point, ...] = ()
    quote: QuoteRow | None = None
    total: tuple[Point, ...] = ()
    market: SymbolMarket = SymbolMarket()


async def _read_past(
    market: Market, series: Sequence[StoredSeries], as_of_ms: int | None
) -> Mapping[str, SeriesPast]:
    priced = [one for one in series if one.kind != OBSERVATIONS]
    symbols = sorted({one.symbol for one in priced})
    sessions = await market.find_sessions(symbols)
    at_ms = round(1000 * time.time()) if as_of_ms is None else as_of_ms
    today = {symbol: find_day_as_of(at_ms, session) for symbol, session in sessions.items()}
    archive = market.archive
    async with archive.limit_answer():
        sparks = await _read_each(archive, series, _find_spark_timeframe, POINTS, today, as_of_ms=as_of_ms)
        newest = await _read_each(archive, priced, _find_timeframe, 1, today, as_of_ms=as_of_ms)
        days = await _read_each(archive, priced, lambda _one: "1d", 2, today, as_of_ms=as_of_ms)
        quotes = await _read_quotes(archive, symbols, as_of_ms)
        splits = await _read_splits(archive, symbols, days.values(), as_of_ms)
    markets = {one: SymbolMarket(sessions[one], today[one], splits[one]) for one in symbols}
    return {
        one.id: make_series_past(
            sparks[one.id],
            newest.get(one.id, []),
            days.get(one.id, []),
            quotes.get(one.symbol),
            markets.get(one.symbol, SymbolMarket()),
        )
        for one in series
    }


async def _read_splits(
    archive: ArchiveReader, symbols: Sequence[str], days: Iterable[Sequence[Cells]], as_of_ms: int | None
) -> Mapping[str, Adjuster]:
    """Return what adjusts prices that are newer than the last stored day of each symbol."""
    last = [find_row_day(rows[0][1], None) for rows in days if rows]
    return await archive.read_adjusters(symbols, min(last, default=None), as_of_ms) if symbols else {}


async def _read_quotes(
    archive: ArchiveReader, symbols: Sequence[str], as_of_ms: int | None
) -> dict[str, QuoteRow]:
    rows = await archive.read_latest_quotes(symbols, as_of_ms) if symbols else []
    return {one.symbol: one for one in (QuoteRow(*row) for row in rows)}


async def _read_each(
    archive: ArchiveReader,
    series: Sequence[StoredSeries],
    find_timeframe: Callable[[StoredSeries], str | None],
    points: int,
    today: Mapping[str, date],
    *,
    as_of_ms: int | None,
) -> dict[str, list[Cells]]:
    """Return the newest bars of the timeframe of each series, or for None observations, by its id.

    Bars are adjusted up to the day of their symbol in `today`.
    """
    wanted: dict[str | None, set[str]] = {}
    for one in series:
        wanted.setdefault(find_timeframe(one), set()).add(one.symbol)
    found: dict[tuple[str | None, str], list[Cells]] = {}
    for timeframe, symbols in wanted.items():
        for row in await archive.read_newest(sorted(symbols), timeframe, points, today, as_of_ms):
            found.setdefault((timeframe, row[0]), []).append(row)
    return {one.id: found.get((find_timeframe(one), one.symbol), []) for one in series}


def _find_timeframe(one: StoredSeries) -> str:
    return one.timeframe or "1m"


def _find_spark_timeframe(one: StoredSeries) -> str | None:
    """Return the timeframe of the sparkline of a series; None for observations."""
    timeframe = _find_timeframe(one)
    return None if one.kind == OBSERVATIONS else _SPARK_TIMEFRAMES.get(timeframe, timeframe)


def make_series_past(
    sparks: Sequence[Cells],
    newest: Sequence[Cells],
    days: Sequence[Cells],
    quote: QuoteRow | None,
    market: SymbolMarket,
) -> SeriesPast:
    """Return the past of a symbol from rows as `ArchiveReader.read_newest` returns them."""
    last = max((*sparks[:1], *newest[:1]), key=lambda row: row[1], default=None)
    return SeriesPast(
        tuple((row[1], row[2]) for row in reversed(sparks)),
        None if last is None else KnownPrice(*last[1:5]),
        tuple((row[1], row[2]) for row in reversed(days)),
        quote,
        tuple((row[1], row[5]) for row in reversed(days)),
        market,
    )


async def make_group_tiles(market: Market, group: str, past: PastMarket | None = None) -> FoundTiles:
    states = market.states if past is None else past.states
    return await make_tiles(market, list_group(states.series, group), past)


async def make_tiles(
    market: Market, several: Sequence[StoredSeries], seen: PastMarket | None = None
) -> FoundTiles:
    """Return the tiles of series; without the database they have no past, and say why.

    What each is made of is kept in `market.shown`. As it was `seen` at an instant, a tile has nothing of the
    streams, and nothing is kept of it there.
    """
    series = several[:MAX_TILES]
    as_of_ms = None if seen is None else seen.at_ms

    async def read() -> Mapping[str, SeriesPast]:
        return await _read_past(market, series, as_of_ms)

    key = as_of_ms, tuple((one.id, one.symbol, one.timeframe) for one in series)
    past, away = await try_archive(market.past.find(key, read, market.sessions.known), {})
    if seen is not None:
        return tuple(make_tile(one, past.get(one.id), _NO_STREAM) for one in series), away
    for one in series:
        market.shown.keep(one.symbol, (one, past.get(one.id)))
    return tuple(make_tile(one, past.get(one.id), market.live) for one in series), away


async def make_symbol_tile(
    market: Market, symbol: str, timeframe: str, past: PastMarket | None = None
) -> FoundTiles:
    """Return the tile of one symbol; if no series names it, `timeframe` is that of its sparkline."""
    states = (market.states if past is None else past.states).by_symbol.get(symbol, ())
    unknown = StoredSeries(id=symbol, symbol=symbol, timeframe=timeframe)
    return await make_tiles(market, (pick_series(states) if states else unknown,), past)


def make_tile(one: StoredSeries, known: SeriesPast | None, live: LiveMarket) -> TileView:
    """Return the tile of a series: the newest of its quote, its bars in the stream, and its past."""
    past = known or SeriesPast()
    last = max(_find_prices(one, past, live), key=lambda each: each.at, default=KnownPrice())
    if last.given is not None:
        last = replace(last, price=past.market.adjust(last.given))
    compared, point = _find_compared(one, past, last.at) if last.price is not None else (None, None)
    decimals = _find_decimals(past, last.price)
    price = None if last.price is None else round_price(last.price, decimals)
    change = None if price is None or point is None else subtract_prices(price, point[1], decimals)
    return TileView(
        one.symbol,
        one.asset,
        price,
        last.at if last.price is not None else None,
        change,
        None if change is None or point is None else find_percent(change, point[1]),
        compared,
        None if point is None else point[0],
        last.source,
        last.replay or one.replay,
        one.id,
        one.serving,
        one.reason,
        one.critical,
        past.points,
        one.status if one.serving or one.reason else "",
        last.is_daily,
        None if price is None else decimals,
        _find_total(past, last.price, point) if compared == "previous close" else None,
    )


def _find_decimals(past: SeriesPast, price: float | None) -> int:
    """Return in how many decimals a symbol is quoted, by its last prices."""
    known = [value for _, value in (*past.points[-PRICES:], *past.daily)]
    return find_precision(known if price is None else [*known, price])


def _find_total(past: SeriesPast, price: float | None, compared: Point | None) -> float | None:
    """Return the change in percent since a close, as if its dividends were put into shares."""
    start = None if compared is None else compared[0]
    total = next((value for at, value in past.total if at == start), None)
    return find_percent(price - total, total) if price is not None and total is not None else None


def _find_prices(one: StoredSeries, past: SeriesPast, live: LiveMarket) -> list[KnownPrice]:
    found = []
    if past.newest is not None:
        is_daily = one.kind != OBSERVATIONS and one.timeframe == "1d"
        found.append(replace(past.newest, is_daily=is_daily))
    if one.kind == OBSERVATIONS:
        return found
    quotes = filter(None, (past.quote, live.quotes.get(one.symbol)))
    for quote in quotes:
        given = GivenClose(find_market_date(quote.at, past.market.session), quote.price, AS_TRADED)
        found.append(KnownPrice(quote.at, quote.price, quote.source, quote.replay, given=given))
    for timeframe in dict.fromkeys(("1m", _find_timeframe(one))):
        chart = live.find_chart(one.symbol, timeframe)
        if chart is not None and (bar := chart.newest) is not None:
            day = find_row_day(bar.start, bar.day, timeframe)
            given = GivenClose(day, bar.close, make_basis(bar.adjustment, bar.adjusted_to))
            found.append(KnownPrice(bar.start, bar.close, bar.source, bar.replay, timeframe == "1d", given))
    return found


def _find_compared(one: StoredSeries, past: SeriesPast, at_ms: int) -> tuple[str | None, Point | None]:
    """Return what a price is compared with, and its time and value: the close before the price's day."""
    if one.kind == OBSERVATIONS:
        return ("previous value", past.points[-2]) if len(past.points) > 1 else (None, None)
    # the last bar is that of the price's own day, or, before a day begins to trade, the one before
    before = [point for point in past.daily if point[0] <= at_ms]
    if before and find_row_day(before[-1][0], None) >= past.market.find_trading_date(at_ms):
        before.pop()
    if before:
        return "previous close", before[-1]
    if len(past.points) > 1:
        return "first point", past.points[0]
    return None, None


def list_groups(states: MarketStates) -> list[str]:
    """Return the names of the groups of the overview: those that have an address, in its order, then others.

    A group of economic series alone is on the page of the economy, unless it has an address.
    """
    shown = (one for one in states.series if one.kind != ACTIONS and not one.is_separate)
    names = {one.label for one in shown if one.kind != OBSERVATIONS or one.label in GROUPS}
    known = {name: index for index, name in enumerate(GROUPS)}
    return sorted(names, key=lambda name: (known.get(name, len(known)), name))


def require_group(states: MarketStates, group: str) -> str:
    """Return a group that has an address, or that a series has. Raises QueryError with the nearest one."""
    known = sorted({*GROUPS, *(one.label for one in states.series if not one.is_separate)})
    if group not in known:
        raise QueryError(f"group: no series has it; {suggest_name(group, known, 'there are')}")
    return group
