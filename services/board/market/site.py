"""Answer the requests for pages of the market: read what a page needs, and render it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request, params
from starlette.responses import HTMLResponse, Response

from marketswarm.bus import BusError
from marketswarm.bus.stored_values import parse_object
from marketswarm.bus.stream import StreamEntry, read_entries_before
from marketswarm.keys import MARKET_QUARANTINE
from marketswarm.text import escape_text, parse_digits
from marketswarm.web.responses import PageModel
from marketswarm.web.updates import MAX_TOPICS
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.page_store import PageStore
from services.board.market.api import make_limit
from services.board.market.archive_reader import Download, try_archive
from services.board.market.cascade import FallbackCount, SourceView, find_fallbacks, sort_series, view_sources
from services.board.market.correlations import HeatMap
from services.board.market.feed import MarketStates
from services.board.market.market import Market
from services.board.market.news import NewsItem, cut_news, select_news
from services.board.market.overview import (
    TileView,
    list_groups,
    make_group_tiles,
    make_symbol_tile,
    make_tiles,
)
from services.board.market.past import AsOf, PastMarket, UniverseOf, refuse_past
from services.board.market.query import parse_as_of, require_timeframe
from services.board.market.states import GateState, StoredSeries, list_observations
from services.board.market.tables import format_time
from services.board.market.topics import TopicKind, name_topic
from services.market.fields import SYMBOL
from services.market.records import TIMEFRAMES

NAV: Final = "/market"
UNLIMITED: Final = ("/market", "/market/economy", "/market/sources")
"""The kept pages whose requests are not counted: an address may ask for correlations so often only."""
QUARANTINED: Final = 20
NEWS: Final = 15  # the most items of news on the page of a symbol
DOWNLOADS: Final = 30
MAX_FIELDS: Final = 600
FILLED_SEC: Final = 60
"""How often a page of tiles is read again for what no stream brings: new series, the closes of a new day."""
UNFILLED_SEC: Final = 15
"""The same while a symbol has no price."""
Text = Annotated[str, Query(max_length=300)]
MakePage = Callable[[Frame], Awaitable[PageModel]]
MakePastPage = Callable[[Frame, "PastNotice | None"], Awaitable[PageModel]]
"""Makes a page of now, or of the instant that a request asked for."""
NO_PAST_SOURCES: Final = "this page has the states of sources, and those of then are not kept"


def find_every(tiles: Sequence[TileView]) -> int:
    """Return after how many seconds a page with these tiles is read again, though no news came."""
    return FILLED_SEC if tiles and all(tile.price is not None for tile in tiles) else UNFILLED_SEC


@dataclass(frozen=True, slots=True)
class PastNotice:
    """Say of a page that it shows the past: as of when, and the address of the same page of now (`back`).

    `asked` is the instant as the request has it. `universe` is None if the page has no universe.
    """

    asked: str
    at_ms: int
    back: str
    universe: PastMarket | None = None

    @property
    def at(self) -> str:
        return format_time(self.at_ms)

    @property
    def known_since(self) -> str | None:
        since = None if self.universe is None else self.universe.known_since
        return None if since is None else format_time(since)

    @property
    def has_unknown_universe(self) -> bool:
        return self.universe is not None and self.universe.of is UniverseOf.RECORDS


@dataclass(frozen=True, slots=True)
class MarketNotice:
    """Say what stands above every page of the market: what is away, and whether anything is a replay.

    `has_market` is False if the truth has no service that publishes a market. `past` is None on pages of now.
    """

    has_market: bool = True
    problem: str | None = None
    away: str | None = None
    is_replay: bool = False
    gate: GateState | None = None
    past: "PastNotice | None" = None


@dataclass(frozen=True, slots=True)
class TileGroup:
    """A group of tiles under a heading."""

    name: str
    tiles: tuple[TileView, ...]


@dataclass(frozen=True, slots=True)
class FramedPage:
    """What every page of the market has."""

    frame: Frame
    notice: MarketNotice


@dataclass(frozen=True, slots=True)
class MarketPage(FramedPage):
    """The overview: the groups as small multiples."""

    template: ClassVar = "market_overview.html"
    tab: ClassVar = "/market"
    groups: tuple[TileGroup, ...]

    @property
    def every_sec(self) -> int:
        return find_every([tile for group in self.groups for tile in group.tiles])

    @property
    def topics(self) -> str:
        """The topics of `/ws` that the page follows, separated by blanks: all symbols if these are many.

        None of the past.
        """
        if self.notice.past is not None:
            return ""
        symbols = dict.fromkeys(tile.symbol for group in self.groups for tile in group.tiles)
        topics = [name_topic(TopicKind.CELLS, name) for name in symbols]
        if len(topics) > MAX_TOPICS:
            topics = [name_topic(TopicKind.QUOTES), name_topic(TopicKind.BARS, "1m")]
        return " ".join(topics)


@dataclass(frozen=True, slots=True)
class Overlay:
    """An indicator that can be drawn: over the prices, or in a pane of its own.

    The names of its values in the API begin with `prefix`, and continue with `_` if at all.
    """

    prefix: str
    label: str
    place: Literal["price", "pane"] = "pane"


OVERLAYS: Final = (
    Overlay("sma", "SMA", "price"),
    Overlay("ema", "EMA", "price"),
    Overlay("bb", "Bollinger", "price"),
    Overlay("vwap", "VWAP", "price"),
    *(Overlay("rsi", "RSI"), Overlay("macd", "MACD"), Overlay("stoch", "Stochastic"), Overlay("adx", "ADX")),
    *(Overlay("atr", "ATR"), Overlay("cci", "CCI"), Overlay("willr", "Williams %R"), Overlay("obv", "OBV")),
    Overlay("mfi", "MFI"),
)


@dataclass(frozen=True, slots=True)
class SymbolPage(FramedPage):
    """One symbol: its chart, its indicators, its news, and who serves it.

    `news_away` says why there may be no news. `boxes` are parts that other packages add.
    """

    template: ClassVar = "market_symbol.html"
    tab: ClassVar = ""
    symbol: str
    timeframe: str
    tile: TileView
    series: tuple[StoredSeries, ...] = ()
    news: Sequence[NewsItem] = ()
    news_away: str | None = None
    boxes: Sequence[PageModel] = ()
    timeframes: tuple[str, ...] = TIMEFRAMES
    overlays: tuple[Overlay, ...] = OVERLAYS

    @property
    def every_sec(self) -> int:
        return find_every((self.tile,))


@dataclass(frozen=True, slots=True)
class QuarantinedView:
    """A record that failed a check: which, why, what it was, and whether it was played (`replay`)."""

    id: str
    at: float | None
    check: str
    why: str
    symbol: str
    source: str
    fields: str
    replay: bool = False


@dataclass(frozen=True, slots=True)
class SourcesPage(FramedPage):
    """The sources: their health and limits, the cascade in force, the quarantine, and the gate.

    `limits_away` says why it is not known what is left of the limits.
    """

    template: ClassVar = "market_sources.html"
    tab: ClassVar = "/market/sources"
    sources: tuple[SourceView, ...]
    series: tuple[StoredSeries, ...]
    quarantine: tuple[QuarantinedView, ...] = ()
    quarantined: int | None = None
    downloads: Sequence[Download] = ()
    limits_away: str | None = None

    @property
    def fallbacks(self) -> tuple[FallbackCount, ...]:
        return find_fallbacks(self.series)


@dataclass(frozen=True, slots=True)
class CorrelationsPage(FramedPage):
    """The correlations of daily returns as a heat map."""

    template: ClassVar = "market_correlations.html"
    tab: ClassVar = "/market/correlations"
    heat: HeatMap


@dataclass(frozen=True, slots=True)
class EconomyPage(FramedPage):
    """The economic series, each with its latest values."""

    template: ClassVar = "market_economy.html"
    tab: ClassVar = "/market/economy"
    tiles: tuple[TileView, ...]

    @property
    def every_sec(self) -> int:
        return find_every(self.tiles)


def make_market_site(board: FleetBoard, market: Market, pages: PageStore) -> APIRouter:
    site = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    pages.versions.update(dict.fromkeys(UNLIMITED, lambda: market.states.read_at))
    _add_overviews(site, board, market, pages)
    _add_symbol(site, board, market)
    return site


def _add_overviews(site: APIRouter, board: FleetBoard, market: Market, pages: PageStore) -> None:
    """Add the pages that are kept, at most as long as the states that they show."""
    limit = make_limit(market)

    def add_page(path: str, title: str, make: MakePastPage, *dependencies: params.Depends) -> None:
        @site.get(path, dependencies=dependencies)
        async def show(request: Request, as_of: AsOf = None) -> Response:
            asked = read_past(request, as_of)
            if asked is not None and path in UNLIMITED:  # each instant is another page
                await limit(request)
            frame = await board.make_session_frame(request, title, NAV)
            return await pages.answer(request, frame, market.states.read_at, lambda: make(frame, asked))

    async def make_overview(frame: Frame, asked: PastNotice | None) -> PageModel:
        past, notice = await find_past_notice(market, asked)
        states = market.states if past is None else past.states
        names = list_groups(states)
        found = await asyncio.gather(*(make_group_tiles(market, name, past) for name in names))
        groups = tuple(TileGroup(name, tiles) for name, (tiles, _) in zip(names, found, strict=True))
        away = next(filter(None, (away for _, away in found)), None)
        return MarketPage(frame, make_notice(market, away, notice), groups)

    async def make_economy(frame: Frame, asked: PastNotice | None) -> PageModel:
        past, notice = await find_past_notice(market, asked)
        states = market.states if past is None else past.states
        tiles, away = await make_tiles(market, list_observations(states.series), past)
        return EconomyPage(frame, make_notice(market, away, notice), tiles)

    async def make_correlations(frame: Frame, asked: PastNotice | None) -> PageModel:
        at_ms = None if asked is None else asked.at_ms
        heat, away = await try_archive(market.find_heat_map(at_ms), HeatMap())
        return CorrelationsPage(frame, make_notice(market, away, asked), heat)

    async def make_sources(frame: Frame, _asked: PastNotice | None) -> PageModel:
        (downloads, away), (quarantine, count), (accounts, limits_away) = await asyncio.gather(
            try_archive(market.archive.read_downloads(DOWNLOADS), []),
            read_quarantine(market),
            market.find_limits(),
        )
        states, notice = market.states, make_notice(market, away)
        views = view_sources(states.sources, states.series, frame.snapshot.at, accounts)
        series = sort_series(states.series)
        return SourcesPage(frame, notice, views, series, quarantine, count, downloads, limits_away)

    add_page("/market", "Market", make_overview)
    add_page("/market/economy", "Economy", make_economy)
    add_page("/market/correlations", "Correlations", make_correlations, Depends(limit))
    add_page("/market/sources", "Sources", make_sources, refuse_past(NO_PAST_SOURCES))


def _add_symbol(site: APIRouter, board: FleetBoard, market: Market) -> None:
    @site.get("/market/symbol/{symbol:path}")  # of one tile, so it is not kept
    async def show_symbol(
        symbol: str, request: Request, timeframe: Text = "", as_of: AsOf = None
    ) -> Response:
        if SYMBOL.fullmatch(symbol) is None:
            return board.templates.answer_error(
                404, "No such symbol", f"{escape_text(symbol[:100])} is not a symbol."
            )
        states = market.states.by_symbol.get(symbol, ())
        await market.names.require_symbols_without_archive(() if states else (symbol,))
        # the shortest of the series, or a day if theirs are unknown
        known = {one.timeframe for one in states if one.kind == "bars"}
        shortest = next((each for each in TIMEFRAMES if each in known), "1d" if known else "1m")
        shown = require_timeframe(timeframe) if timeframe else shortest
        asked = read_past(request, as_of)
        past, notice = await find_past_notice(market, asked)
        (tile,), away = await make_symbol_tile(market, symbol, shown, past)
        at_ms = None if asked is None else asked.at_ms
        items, news_away = cut_news(*await market.find_news(), at_ms)
        boxes = await asyncio.gather(*(make(symbol, at_ms) for make in market.boxes))
        frame = await board.make_session_frame(request, symbol, NAV)
        return board.templates.answer(
            SymbolPage(
                *(frame, make_notice(market, away, notice), symbol, shown, tile),
                () if asked is not None else states,
                select_news(items, symbol, NEWS),
                news_away,
                tuple(filter(None, boxes)),
            )
        )


def read_past(request: Request, as_of: str | None) -> PastNotice | None:
    """Return as of when a request wants its page, None for now. Raises QueryError."""
    at_ms = parse_as_of(as_of, round(1000 * time.time()))
    if at_ms is None or as_of is None:
        return None
    others = [(name, each) for name, each in request.query_params.multi_items() if name != "as_of"]
    path = quote(request.url.path)
    return PastNotice(as_of, at_ms, f"{path}?{urlencode(others)}" if others else path)


async def find_past_notice(
    market: Market, asked: PastNotice | None
) -> tuple[PastMarket | None, PastNotice | None]:
    """Return the market of the instant that was asked for, and the notice with its universe.

    While the database is away that market has no symbols.
    """
    if asked is None:
        return None, None
    past, _ = await try_archive(market.find_past(asked.at_ms), None)
    if past is None:
        return PastMarket(asked.at_ms, MarketStates(), UniverseOf.RECORDS, None), asked
    return past, replace(asked, universe=past)


def make_notice(market: Market, away: str | None, past: PastNotice | None = None) -> MarketNotice:
    """Return what a page warns of at its top; `away` is why the database can't be read, None if it can."""
    states = market.states
    is_replay = any(one.replay for one in states.series)
    return MarketNotice(
        market.feed.has_market, market.feed.problem, away, is_replay=is_replay, gate=states.gate, past=past
    )


async def read_quarantine(market: Market) -> tuple[tuple[QuarantinedView, ...], int | None]:
    """Return the newest records that failed a check, and how many there are; None if that is not known."""
    bus = market.feed.find_bus()
    if bus is None:
        return (), None
    try:
        entries = await read_entries_before(bus, MARKET_QUARANTINE, b"+", count=QUARANTINED)
        count = int(await bus.ask(bus.client.xlen(MARKET_QUARANTINE)))
    except BusError:
        return (), None
    return tuple(map(make_quarantined, entries)), count


def make_quarantined(entry: StreamEntry) -> QuarantinedView:
    fields = entry.fields or {}
    at = parse_digits(fields.get(b"at"), 14)
    check, why, symbol, source = (_read_text(fields, name) for name in (b"check", b"why", b"sym", b"source"))
    return QuarantinedView(
        escape_text(entry.id.decode("ascii", "replace")),
        None if at is None else at / 1000,
        *(check, why, symbol, source, _read_text(fields, b"fields")),
        parse_object(fields.get(b"fields")).get("replay") == "1",
    )


def _read_text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    text = fields.get(name, b"").decode("utf-8", "replace")
    return escape_text(text if len(text) <= MAX_FIELDS else text[:MAX_FIELDS] + "\N{HORIZONTAL ELLIPSIS}")
