"""Answer the requests for the pages of signals: a table of them, one of them, and the box of a symbol."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from marketswarm.web.limits import require_found
from services.board.fleet.fleet_board import FleetBoard
from services.board.fleet.frame import Frame
from services.board.fleet.page_store import PageStore
from services.board.market.api import make_limit
from services.board.market.archive_reader import try_archive
from services.board.market.past import AsOf, refuse_past
from services.board.market.query import require_symbol
from services.board.market.site import NAV, FramedPage, make_notice, read_past
from services.board.market.tables import format_time
from services.board.market.topics import TopicKind, name_topic
from services.board.signals.query import Cursor, bound_query
from services.board.signals.signals import SignalBoard, find_cursor
from services.board.signals.views import PAPER, SignalSum, SignalView, TickOrigin, WholeSignal, sort_newest
from services.tables.signal_places import SideWord
from services.tables.signal_shadow import ShadowReport
from services.tables.signals import LogState, SignalQuery, parse_signal_id

PATH: Final = "/market/signals"
SHOWN: Final = 50
NO_PAST_SIGNAL: Final = "a signal never changes: its page is the same at each instant"
PROVE_MS: Final = 60_000
"""How much before and after a signal the command names that proves it."""
SideChoice = Annotated[SideWord | Literal[""], Query()]


@dataclass(frozen=True, slots=True)
class SignalsPage(FramedPage):
    """The newest signals, or those before a cursor; `symbol` and `side` choose among them."""

    template: ClassVar = "market_signals.html"
    tab: ClassVar = PATH
    signals: Sequence[SignalView] = ()
    symbol: str = ""
    side: str = ""
    older: str | None = None
    is_newest: bool = True
    is_published: bool = False
    log: LogState | None = None
    shadow: ShadowReport | None = None
    paper: ClassVar = PAPER
    sides: ClassVar = get_args(SideWord)

    @property
    def topics(self) -> str:
        """The topic of `/ws` that the page follows; none of older signals, and of the past."""
        if not self.is_newest or self.notice.past is not None:
            return ""
        return name_topic(TopicKind.SIGNALS, *([self.symbol] if self.symbol else []))

    @property
    def older_path(self) -> str:
        chosen = {"symbol": self.symbol, "side": self.side, "cursor": self.older}
        if self.notice.past is not None:
            chosen["as_of"] = self.notice.past.asked
        return f"{PATH}?{urlencode({name: each for name, each in chosen.items() if each})}"


@dataclass(frozen=True, slots=True)
class SignalPage(FramedPage):
    """One signal: its votes, the sum of them, the bars that they were made of, and its entry of the log."""

    template: ClassVar = "market_signal.html"
    tab: ClassVar = PATH
    whole: WholeSignal
    weighed: SignalSum | None
    paper: ClassVar = PAPER

    @property
    def view(self) -> SignalView:
        return self.whole.view

    @property
    def made_by(self) -> TickOrigin:
        return self.whole.made_by

    @property
    def proves_from(self) -> str:
        return format_time((self.view.found.at - PROVE_MS) // 1000 * 1000)

    @property
    def proves_to(self) -> str:
        return format_time((self.view.found.at + PROVE_MS) // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class SignalBox:
    """The newest signal of a symbol, for the symbol's page; `away` says why it is not known."""

    template: ClassVar = "market_signal_box.html"
    symbol: str
    now: float
    view: SignalView | None
    away: str | None
    paper: ClassVar = PAPER


def make_signal_site(board: FleetBoard, signals: SignalBoard, pages: PageStore) -> APIRouter:
    site = APIRouter(
        include_in_schema=False,
        default_response_class=HTMLResponse,
        dependencies=[Depends(make_limit(signals.market))],
    )
    _add_table(site, board, signals, pages)
    _add_one(site, board, signals)
    signals.market.boxes.append(lambda symbol, as_of_ms: make_box(signals, symbol, as_of_ms))
    return site


def _add_table(site: APIRouter, board: FleetBoard, signals: SignalBoard, pages: PageStore) -> None:
    @site.get(PATH)
    async def show_signals(
        request: Request,
        symbol: Annotated[str, Query(max_length=40)] = "",
        side: SideChoice = "",
        cursor: Cursor = None,
        as_of: AsOf = None,
    ) -> Response:
        name, asked = symbol.strip(), read_past(request, as_of)
        at_ms = None if asked is None else asked.at_ms
        query = SignalQuery(symbol=require_symbol(name) if name else None, side=side or None, limit=SHOWN)
        query = bound_query(query, cursor, at_ms)

        async def make(frame: Frame) -> SignalsPage:
            found, away = await try_archive(signals.find_page(query, at_ms), [])
            log = None if away else (await try_archive(signals.reader.read_log_state(), None))[0]
            shadow = None if asked is not None else await signals.find_shadow()
            notice = make_notice(signals.market, away, asked)
            return SignalsPage(
                *(frame, notice, sort_newest(found), name, side, find_cursor(found, query)),
                *(cursor is None, signals.is_published, log, shadow),
            )

        frame = await board.make_session_frame(request, "Signals", NAV)
        return await pages.answer(request, frame, signals.live.version, lambda: make(frame))


def _add_one(site: APIRouter, board: FleetBoard, signals: SignalBoard) -> None:
    @site.get(f"{PATH}/{{ident}}", dependencies=[refuse_past(NO_PAST_SIGNAL)])
    async def show_signal(ident: str, request: Request) -> Response:
        whole = await signals.find_signal(require_found(parse_signal_id(ident), "signal"))
        frame = await board.make_session_frame(request, whole.view.found.symbol, NAV)
        notice, weighed = make_notice(signals.market, None), signals.weigh(whole)
        page = SignalPage(frame, notice, whole, weighed)
        return board.templates.answer(page)


async def make_box(signals: SignalBoard, symbol: str, as_of_ms: int | None) -> SignalBox | None:
    """Return the box on the page of a symbol; None if the fleet has no signals."""
    if not signals.is_published:
        return None
    view, away = await try_archive(signals.find_newest(symbol, as_of_ms), None)
    return SignalBox(symbol, time.time(), view, away)
