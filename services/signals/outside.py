"""Ask the voters outside about the symbols of a tick: make questions, and keep up to date what they need."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Self

import numpy as np

from marketswarm.agent import Agent, point_like
from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage
from marketswarm.keys import VEXY_NOTES
from marketswarm.truth import MARKET, AccessPoint
from services.signals.ask.asker import HEADLINES_SEC, VoteAsker
from services.signals.ask.endpoints import AskSettings, ChatSettings, NewsSettings
from services.signals.ask.keys import OriginKeys
from services.signals.ask.metrics import AskMetrics
from services.signals.ask.news import NewsFollower, NewsMemory
from services.signals.ask.questions import VoteQuestion
from services.signals.cycle.decide import GivenVote
from services.signals.cycle.market import RANGE_BARS, MarketBars, copy_window
from services.signals.cycle.states import TickPlan
from services.signals.settings import SignalsSettings, find_bars
from services.signals.view import BarWindow

NO_ARRIVALS: Final = frozenset[str]()


class OutsideVoters:
    """Ask the voters of the truth in force that are not rules over bars. Without any, nothing is asked.

    Use as a context manager; what is in flight ends with it.
    """

    def __init__(
        self,
        me: Agent[Any],
        settings_now: Callable[[], SignalsSettings],
        keys: OriginKeys,
        metrics: AskMetrics,
    ) -> None:
        self._me, self._settings_now = me, settings_now
        self._metrics, self._news = metrics, NewsMemory()
        self._asker = VoteAsker(keys, self._news, metrics)
        self._is_asking = False
        self._notes: tuple[Bus, AccessPoint, NewsFollower] | None = None
        self._notes_outage = Outage(me.log, "notes.unread", "notes.read")

    async def __aenter__(self) -> Self:
        await self._asker.__aenter__()
        return self

    async def __aexit__(self, *about: object) -> None:
        await self._asker.__aexit__(*about)

    async def prepare(self, now_ms: int) -> frozenset[str]:
        """Follow the truth, and read new notes; return the symbols of which to ask voters again."""
        asked = self._settings_now().asked
        if asked or self._is_asking:
            self._is_asking = bool(asked)
            await self._asker.configure(self._me.bus(find_bars(self._me.section).bus), asked)
        if not asked:
            return NO_ARRIVALS
        with self._notes_outage:
            await self._follow_notes(now_ms).read_new()
        return self._asker.take_arrived()

    async def ask(
        self, market: MarketBars, plan: TickPlan, now_ms: int, deadline: float
    ) -> dict[tuple[str, str], GivenVote]:
        """Return what the voters say of the symbols of a plan at `now_ms` by `deadline` (`time.monotonic`).

        Spends calls of the voters' limits.
        """
        asked = self._settings_now().asked
        self._metrics.count_needed(*count_needed(market, plan, asked, now_ms))
        questions = make_questions(market, plan, asked)
        return dict(await self._asker.ask(questions, deadline)) if questions else {}

    def _follow_notes(self, now_ms: int) -> NewsFollower:
        point = point_like(self._me.section.access_points.subscribe_to, MARKET, VEXY_NOTES)
        bus = self._me.bus(point.bus)
        if self._notes is None or self._notes[:2] != (bus, point):
            since_ms = now_ms - round(1000 * HEADLINES_SEC)
            self._notes = bus, point, NewsFollower(bus, point.key, self._news, since_ms)
        return self._notes[2]


def count_needed(
    market: MarketBars, plan: TickPlan, voters: Mapping[str, AskSettings], now_ms: int
) -> tuple[int, int]:
    """Return how many opinions a tick at `now_ms` needs, and how many of them are about unchanged symbols.

    It needs one of each voter that is asked over HTTP about each symbol whose market is open, but none of a
    model about an instant that it may know the future of.
    """
    called = [each for each in voters.values() if not isinstance(each, NewsSettings)]
    if not called:
        return 0, 0
    closed = frozenset(plan.closed)
    is_open = np.array([symbol not in closed for symbol in market.symbols], dtype=np.bool_)
    is_due = np.array([symbol in plan.due for symbol in market.symbols], dtype=np.bool_)
    as_of = market.list_as_of(now_ms)
    needed = unchanged = 0
    for each in called:
        until_ms = each.known_until_ms if isinstance(each, ChatSettings) else None
        wanted = is_open if until_ms is None else is_open & (as_of >= until_ms)
        needed += int(np.count_nonzero(wanted))
        unchanged += int(np.count_nonzero(wanted & ~is_due))
    return needed, unchanged


def make_questions(market: MarketBars, plan: TickPlan, voters: Collection[str]) -> list[VoteQuestion]:
    """Return what the voters are asked about the symbols of a plan, each with whether its market is open."""
    return [
        make_question(market, symbol, voter, as_of_ms, is_open=symbol not in plan.closed)
        for symbol, as_of_ms in plan.due.items()
        for voter in voters
    ]


def make_question(
    market: MarketBars, symbol: str, voter: str, as_of_ms: int, *, is_open: bool
) -> VoteQuestion:
    """Return what one voter is asked about one symbol, with a copy of its last bars."""
    window = copy_window(market.see(symbol))
    return VoteQuestion(
        symbol=symbol,
        voter=voter,
        as_of_ms=as_of_ms,
        price=market.find_last(symbol)[2],
        bars=window,
        timeframe=market.timeframe,
        volatility=find_volatility(window),
        is_open=is_open,
    )


def find_volatility(window: BarWindow) -> float:
    """Return how far the price moves from bar to bar, as a mean share of it; 0 if that is not known."""
    closes = window.close[-RANGE_BARS - 1 :]
    with np.errstate(all="ignore"):
        moves = np.abs(np.diff(closes) / closes[:-1])
    moves = moves[np.isfinite(moves)]
    return float(moves.mean()) if moves.size else 0.0
