"""Answer the requests for the pages of the market as a whole: rotation, breadth, rates, sentiment, search."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.web.responses import redirect
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.page_store import PageStore
from services.board.market.api import make_limit
from services.board.market.archive_reader import try_archive
from services.board.market.market import Market
from services.board.market.measure_api import (
    MAX_FOUND,
    MAX_QUERY,
    NO_PAST_QUALITY,
    NO_PAST_SEARCH,
    Group,
    OneSymbol,
    Period,
)
from services.board.market.measures import (
    SECTORS,
    MeasuredQuality,
    MeasuredRates,
    YieldCurve,
    list_minute_symbols,
    list_priced,
    read_breadth,
    read_closes,
    read_credit,
    read_quality,
    read_sentiment,
    read_yield_curve,
)
from services.board.market.overview import TileView, list_groups, make_group_tiles, require_group
from services.board.market.past import AsOf, refuse_past
from services.board.market.pictures import symbol_path
from services.board.market.quality import DAYS, MAX_JUDGED, DayQuality
from services.board.market.query import require_symbol
from services.board.market.rotation import PERIODS, Breadth, RankedSymbol, rank_returns
from services.board.market.site import (
    NAV,
    FramedPage,
    MakePage,
    find_past_notice,
    make_notice,
    read_past,
)
from services.market.names import KnownName

AnswerPage = Callable[[Request, str, MakePage], Awaitable[Response]]
VOLATILITY: Final = "volatility"
"""The group whose prices stand beside the surveys of sentiment."""


@dataclass(frozen=True, slots=True)
class RotationPage(FramedPage):
    """The symbols of a group, ranked by their returns."""

    template: ClassVar = "market_rotation.html"
    tab: ClassVar = "/market/rotation"
    group: str
    by: str
    groups: tuple[str, ...]
    ranked: tuple[RankedSymbol, ...] = ()
    symbols: int = 0
    periods: ClassVar[Mapping[str, int]] = PERIODS


@dataclass(frozen=True, slots=True)
class BreadthPage(FramedPage):
    """How many symbols rise and fall, by group: name, number of symbols, breadth."""

    template: ClassVar = "market_breadth.html"
    tab: ClassVar = "/market/breadth"
    groups: Sequence[tuple[str, int, Breadth]]


@dataclass(frozen=True, slots=True)
class RatesPage(FramedPage):
    """The yield curve, and the spreads of credit."""

    template: ClassVar = "market_rates.html"
    tab: ClassVar = "/market/rates"
    curve: YieldCurve
    credit: MeasuredRates


@dataclass(frozen=True, slots=True)
class SentimentPage(FramedPage):
    """What surveys, volatility and positions say."""

    template: ClassVar = "market_sentiment.html"
    tab: ClassVar = "/market/sentiment"
    found: MeasuredRates
    tiles: tuple[TileView, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchPage(FramedPage):
    """The names that a text may mean."""

    template: ClassVar = "market_search.html"
    tab: ClassVar = ""
    query: str
    found: Sequence[KnownName] = ()


@dataclass(frozen=True, slots=True)
class QualityPage(FramedPage):
    """How good the minutes of each symbol are on its last trading days, and who served them."""

    template: ClassVar = "market_quality.html"
    tab: ClassVar = "/market/quality"
    days: Sequence[DayQuality]
    has_more: bool = False
    rejections_away: str | None = None
    waiting: Sequence[str] = ()


def make_measure_site(board: FleetBoard, market: Market, pages: PageStore) -> APIRouter:
    site = APIRouter(
        include_in_schema=False,
        default_response_class=HTMLResponse,
        dependencies=[Depends(make_limit(market))],
    )

    async def answer(request: Request, title: str, make: MakePage) -> Response:
        frame = await board.make_session_frame(request, title, NAV)
        return await pages.answer(request, frame, market.states.read_at, lambda: make(frame))

    _add_groups(site, market, answer)
    _add_rates(site, market, answer)
    _add_quality(site, market, answer)

    @site.get("/market/search", dependencies=[refuse_past(NO_PAST_SEARCH)])
    async def show_search(
        request: Request, query: Annotated[str, Query(max_length=MAX_QUERY)] = ""
    ) -> Response:
        """Lead to the page of the symbol if the text is one; otherwise show what it may mean."""
        found, away = await market.names.search(query, MAX_FOUND)
        if found and found[0].symbol.casefold() == query.strip().casefold():
            return redirect(symbol_path(found[0].symbol))
        frame = await board.make_session_frame(request, "Search", NAV)
        return board.templates.answer(SearchPage(frame, make_notice(market, away), query, found))

    return site


def _add_groups(site: APIRouter, market: Market, answer: AnswerPage) -> None:
    @site.get("/market/rotation")
    async def show_rotation(
        request: Request, group: Group = SECTORS, by: Period = Period.MONTH, as_of: AsOf = None
    ) -> Response:
        past, notice = await find_past_notice(market, read_past(request, as_of))
        states, at_ms = (market.states, None) if past is None else (past.states, past.at_ms)
        symbols = list_priced(states, require_group(states, group))

        async def make(frame: Frame) -> RotationPage:
            closes, away = await try_archive(read_closes(market, symbols, at_ms), {})
            groups = tuple(name for name in list_groups(states) if list_priced(states, name))
            shown = make_notice(market, away, notice)
            return RotationPage(frame, shown, group, by, groups, rank_returns(closes, by), len(symbols))

        return await answer(request, "Rotation", make)

    @site.get("/market/breadth")
    async def show_breadth(request: Request, as_of: AsOf = None) -> Response:
        asked = read_past(request, as_of)

        async def make(frame: Frame) -> BreadthPage:
            past, notice = await find_past_notice(market, asked)
            groups, away = await try_archive(read_breadth(market, None, past), [])
            return BreadthPage(frame, make_notice(market, away, notice), groups)

        return await answer(request, "Breadth", make)


def _add_rates(site: APIRouter, market: Market, answer: AnswerPage) -> None:
    @site.get("/market/rates")
    async def show_rates(request: Request, as_of: AsOf = None) -> Response:
        asked = read_past(request, as_of)
        at_ms = None if asked is None else asked.at_ms

        async def make(frame: Frame) -> RatesPage:
            curve, away = await try_archive(read_yield_curve(market, at_ms), YieldCurve())
            credit, _ = await try_archive(read_credit(market, at_ms), MeasuredRates())
            return RatesPage(frame, make_notice(market, away, asked), curve, credit)

        return await answer(request, "Rates and credit", make)

    @site.get("/market/sentiment")
    async def show_sentiment(request: Request, as_of: AsOf = None) -> Response:
        asked = read_past(request, as_of)

        async def make(frame: Frame) -> SentimentPage:
            past, notice = await find_past_notice(market, asked)
            found, away = await try_archive(read_sentiment(market, past), MeasuredRates())
            tiles, _ = await make_group_tiles(market, VOLATILITY, past)
            return SentimentPage(frame, make_notice(market, away, notice), found, tiles)

        return await answer(request, "Sentiment", make)


def _add_quality(site: APIRouter, market: Market, answer: AnswerPage) -> None:
    @site.get("/market/quality", dependencies=[refuse_past(NO_PAST_QUALITY)])
    async def show_quality(request: Request, symbol: OneSymbol = None) -> Response:
        if symbol is not None:
            await market.names.require_symbols_without_archive([require_symbol(symbol)])
        symbols = list_minute_symbols(market) if symbol is None else [symbol]

        async def make(frame: Frame) -> QualityPage:
            reading = read_quality(market, symbols[:MAX_JUDGED], DAYS)
            found, away = await try_archive(reading, MeasuredQuality())
            notice, has_more = make_notice(market, away), len(symbols) > MAX_JUDGED
            return QualityPage(frame, notice, found.days, has_more, found.away, found.waiting)

        return await answer(request, "Data quality", make)
