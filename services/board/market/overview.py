"""Show the symbols of a group: the last price of each, its change, and a sparkline.

A number is never without where it came from and when: a tile has the source and the time of its price, and
says since when its change counts. What is not known is null.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from marketswarm.truth import suggest_name
from services.board.market.archive_reader import ArchiveReader, try_archive
from services.board.market.feed import MarketStates
from services.board.market.live import LiveMarket
from services.board.market.market import Market
from services.board.market.past import PastMarket
from services.board.market.pictures import EVENING_MS
from services.board.market.query import QueryError
from services.board.market.states import ACTIONS, OBSERVATIONS, StoredSeries, list_group, pick_series
from services.market.decimals import find_percent, find_precision, round_price, subtract_prices
from services.market.records import DAY_MS, Adjustment
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

    `is_traded` says that it is as it was traded at its time, and not adjusted for a split since.
    """

    at: int = 0
    price: float | None = None
    source: str | None = None
    replay: bool = False
    is_daily: bool = False
    is_traded: bool = False


@dataclass(frozen=True, slots=True)
class SeriesPast:
    """Hold the past of a symbol: points, its newest price, its last two days, and its latest stored quote.

    Prices are adjusted for splits, those of `total` for dividends, too: these are the same days as `daily`. A
    price that was traded up to the last of these days is multiplied by `later_splits`.
    """

    points: tuple[Point, ...] = ()
    newest: KnownPrice | None = None
    daily: tuple[Point, ...] = ()
    quote: QuoteRow | None = None
    total: tuple[Point, ...] = ()
    later_splits: float = 1.0


async def _read_past(
    archive: ArchiveReader, series: Sequence[StoredSeries], as_of_ms: int | None
) -> Mapping[str, SeriesPast]:
    priced = [one for one in series if one.kind != OBSERVATIONS]
    sparks = await _read_each(archive, series, _find_spark_timeframe, POINTS, as_of_ms)
    newest = await _read_each(archive, priced, _find_timeframe, 1, as_of_ms)
    days = await _read_each(archive, priced, lambda _one: "1d", 2, as_of_ms)
    quotes = await _read_quotes(archive, priced, as_of_ms)
    return {
        one.id: make_series_past(
            sparks[one.id], newest.get(one.id, []), days.get(one.id, []), quotes.get(one.symbol)
        )
        for one in series
    }


async def _read_quotes(
    archive: ArchiveReader, series: Sequence[StoredSeries], as_of_ms: int | None
) -> dict[str, QuoteRow]:
    symbols = sorted({one.symbol for one in series})
    rows = await archive.read_latest_quotes(symbols, as_of_ms) if symbols else []
    return {one.symbol: one for one in (QuoteRow(*row) for row in rows)}


async def _read_each(
    archive: ArchiveReader,
    series: Sequence[StoredSeries],
    find_timeframe: Callable[[StoredSeries], str | None],
    points: int,
    as_of_ms: int | None,
) -> dict[str, list[Cells]]:
    """Return the newest bars of the timeframe of each series, or for None observations, by its id."""
    wanted: dict[str | None, set[str]] = {}
    for one in series:
        wanted.setdefault(find_timeframe(one), set()).add(one.symbol)
    found: dict[tuple[str | None, str], list[Cells]] = {}
    for timeframe, symbols in wanted.items():
        for row in await archive.read_newest(sorted(symbols), timeframe, points, as_of_ms):
            found.setdefault((timeframe, row[0]), []).append(row)
    return {one.id: found.get((find_timeframe(one), one.symbol), []) for one in series}


def _find_timeframe(one: StoredSeries) -> str:
    return one.timeframe or "1m"


def _find_spark_timeframe(one: StoredSeries) -> str | None:
    """Return the timeframe of the sparkline of a series; None for observations."""
    timeframe = _find_timeframe(one)
    return None if one.kind == OBSERVATIONS else _SPARK_TIMEFRAMES.get(timeframe, timeframe)


def make_series_past(
    sparks: Sequence[Cells], newest: Sequence[Cells], days: Sequence[Cells], quote: QuoteRow | None
) -> SeriesPast:
    """Return the past of a symbol from rows as `ArchiveReader.read_newest` returns them."""
    last = max((*sparks[:1], *newest[:1]), key=lambda row: row[1], default=None)
    return SeriesPast(
        tuple((row[1], row[2]) for row in reversed(sparks)),
        None if last is None else KnownPrice(*last[1:5]),
        tuple((row[1], row[2]) for row in reversed(days)),
        quote,
        tuple((row[1], row[5]) for row in reversed(days)),
        days[0][6] if days else 1.0,
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
        async with market.archive.limit_answer():
            return await _read_past(market.archive, series, as_of_ms)

    key = as_of_ms, tuple((one.id, one.symbol, one.timeframe) for one in series)
    past, away = await try_archive(market.past.find(key, read), {})
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
    last = _adjust_price(last, past)
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


def _adjust_price(last: KnownPrice, past: SeriesPast) -> KnownPrice:
    """Return a price adjusted for the splits since its day, which its last day's bar knows of.

    On the morning of a split, before anything was traded, the last price is that of the day before.
    """
    days = [at for at, _ in past.daily]
    is_older = bool(days) and _find_date(days[-1]) >= last.at // DAY_MS
    if last.price is None or not last.is_traded or not is_older or past.later_splits == 1.0:
        return last
    return replace(last, price=last.price * past.later_splits, is_traded=False)


def _find_date(open_ms: int) -> int:
    """Return the day of a bar of a day, in days since 1970: one of currencies begins the evening before."""
    return (open_ms + EVENING_MS) // DAY_MS


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
    found += [
        KnownPrice(quote.at, quote.price, quote.source, quote.replay, is_traded=True) for quote in quotes
    ]
    for timeframe in dict.fromkeys(("1m", _find_timeframe(one))):
        chart = live.find_chart(one.symbol, timeframe)
        if chart is not None and (bar := chart.newest) is not None:
            is_traded = bar.adjustment == Adjustment.RAW
            found.append(
                KnownPrice(bar.start, bar.close, bar.source, bar.replay, timeframe == "1d", is_traded)
            )
    return found


def _find_compared(one: StoredSeries, past: SeriesPast, at_ms: int) -> tuple[str | None, Point | None]:
    """Return what a price is compared with, and its time and value: the close before the price's day."""
    if one.kind == OBSERVATIONS:
        return ("previous value", past.points[-2]) if len(past.points) > 1 else (None, None)
    # the last bar is that of the price's own day, or, before a day begins to trade, the one before
    before = [point for point in past.daily if point[0] <= at_ms]
    if before and _find_date(before[-1][0]) >= at_ms // DAY_MS:
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
