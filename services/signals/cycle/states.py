"""Keep what is known of each symbol from one tick to the next, and decide which are evaluated. Pure.

A symbol is evaluated if

- it never was, its market has opened, or the last try failed;
- its price has moved by `skip_move` or more since it was evaluated last;
- it was evaluated so long ago that the votes are old: after 10 to 20 bars of the market's time. Which of
  these it is follows from the symbol's name, so that not all are evaluated in one tick;
- no bar has come for LIFE_BARS bars, so that votes on bars have expired: on those of all sources, or of one
  that a voter is held to;
- it had no quorum, and there is a new bar or a minute has passed;
- a bar came, or was corrected, of a source that is loaded for itself, or its bars from before a split were
  forgotten (`again` of `plan_tick`).

All others are unchanged, or closed. The most volatile symbols come first.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from zlib import crc32

import numpy as np
import orjson

from services.market.as_of import Times
from services.market.records import TIMEFRAME_SEC, Timeframe
from services.signals.consensus.consensus import SignalSide
from services.signals.cycle.market import MarketBars
from services.signals.log.entries import PlaceOutcome
from services.signals.log.merkle import hash_entry
from services.signals.log.places import PlaceTree, make_following
from services.tables.signals import SignalRow

LIFE_BARS: Final = 15
"""The bars' time after the end of the last bar at which a vote on it expires. Sources are asked each few
minutes, and some give bars late."""
REFRESH_BARS: Final = 10
"""The least bars' time after which a symbol is evaluated that did not move, and as many more by its name."""
RETRY_MS: Final = 60_000
"""How long after a tick without a quorum a symbol is evaluated again without a new bar."""
_SPREAD: Final = 1000

Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class SignalState:
    """Hold what is known of a symbol after a tick.

    Attributes:
        outcome: what its last stored place says; None if it has none that counts.
        since: the tick of that place.
        following: the text and the hash of a place that follows from it.
        why: of a place without a signal, what tells it from others: who abstained for which reason.
        side: the side of the last signal, `side_ms` since when (market's time); None if it never changed.
        price: the last close at the last evaluation; NaN if there was none.
        bar_ms: the start of the last bar then.
        as_of_ms: the market's time of the last evaluation, `at_ms` the wall time.
    """

    outcome: PlaceOutcome | None = None
    since: int = 0
    following: tuple[bytes, bytes] = (b"", b"")
    why: str = ""
    side: SignalSide = SignalSide.FLAT
    side_ms: int | None = None
    price: float = math.nan
    bar_ms: int = 0
    as_of_ms: int = 0
    at_ms: int = 0


FIRST_STATE: Final = SignalState()


@dataclass(frozen=True, slots=True)
class ThriftRules:
    """Hold by which rules symbols are left out: the timeframe of the bars, and the move that counts."""

    timeframe: Timeframe
    skip_move: float

    @property
    def bar_ms(self) -> int:
        return 1000 * TIMEFRAME_SEC[self.timeframe]


class SignalStates:
    """Hold the state of each symbol of a market before a tick, also in columns, in the order of the symbols.

    Args:
        known: states from before; those of other symbols are left out.

    Attributes:
        texts: the place of each symbol if it follows from the one before, and `tree` that of their hashes;
            empty of a symbol without a state.
    """

    def __init__(
        self, symbols: tuple[str, ...], known: Mapping[str, SignalState] = MappingProxyType({})
    ) -> None:
        self.symbols = symbols
        self._places = {symbol: place for place, symbol in enumerate(symbols)}
        count = len(symbols)
        self._by_symbol: dict[str, SignalState] = {}
        self.is_signal = np.zeros(count, dtype=np.bool_)
        self.prices = np.full(count, np.nan)
        self.bars_ms: Times = np.zeros(count, dtype=np.int64)
        self.as_of_ms: Times = np.zeros(count, dtype=np.int64)
        shares = [_SPREAD + crc32(symbol.encode()) % _SPREAD for symbol in symbols]
        self.refresh_bars = REFRESH_BARS * np.array(shares) / _SPREAD
        self.texts, self.tree = [b""] * count, PlaceTree([b""] * count)
        self.update({symbol: known[symbol] for symbol in symbols if symbol in known})

    def __getitem__(self, symbol: str) -> SignalState:
        return self._by_symbol.get(symbol, FIRST_STATE)

    @property
    def by_symbol(self) -> Mapping[str, SignalState]:
        """The states of the symbols that have one."""
        return self._by_symbol

    def update(self, changed: Mapping[str, SignalState]) -> None:
        """Take over the states that a tick changed, once it is stored."""
        self._by_symbol.update(changed)
        for symbol, state in changed.items():
            place = self._places[symbol]
            self.is_signal[place] = state.outcome is PlaceOutcome.SIGNAL
            self.prices[place], self.bars_ms[place] = state.price, state.bar_ms
            self.as_of_ms[place] = state.as_of_ms
            self.texts[place] = state.following[0]
        self.tree.replace({self._places[symbol]: state.following[1] for symbol, state in changed.items()})

    def find_place(self, symbol: str) -> int:
        return self._places[symbol]


@dataclass(frozen=True, slots=True)
class TickPlan:
    """Say what a tick is to do, of symbols by name.

    Attributes:
        due: the symbols that are evaluated, the most volatile first, with the instant of each as of which.
        closing: those whose market has closed since the tick before.
        ranges: how volatile each due symbol is.
        closed: all whose market is closed.
    """

    due: Mapping[str, int]
    closing: Collection[str]
    ranges: Mapping[str, float]
    closed: Collection[str] = frozenset()


def plan_tick(
    market: MarketBars,
    states: SignalStates,
    rules: ThriftRules,
    closed: Collection[str],
    at_ms: int,
    *,
    again: Collection[str] = (),
) -> TickPlan:
    """Decide which symbols are evaluated at `at_ms` (wall time); `closed` are those whose market is.

    Those in `again` are evaluated if their market is open: a vote on them came after its tick, or they have
    `moved`. Raises ValueError for the states of other symbols than those of the market.
    """
    if states.symbols != market.symbols:
        raise ValueError("the states are of other symbols than the market")
    as_of = market.list_as_of(at_ms)
    due: dict[str, int] = {}
    quiet = states.is_signal & ~_find_signals_due(market, states, rules, as_of)
    for place in np.flatnonzero(~quiet).tolist():
        symbol = market.symbols[place]
        if symbol not in closed and _is_due(market, symbol, states[symbol], at_ms):
            due[symbol] = int(as_of[place])
    for symbol in again:
        if symbol not in closed and symbol in states.by_symbol:
            due[symbol] = int(as_of[states.find_place(symbol)])
    closing = frozenset(each for each in closed if states[each].outcome is not PlaceOutcome.CLOSED)
    ranges = market.find_ranges(list(due))
    ranked = sorted(due, key=lambda symbol: (-ranges[symbol], symbol))
    return TickPlan({symbol: due[symbol] for symbol in ranked}, closing, ranges, closed)


def _find_signals_due(market: MarketBars, states: SignalStates, rules: ThriftRules, as_of: Times) -> Flags:
    """Return by symbol whether it is evaluated if its last place was a signal."""
    closes, elapsed = market.list_closes(), as_of - states.as_of_ms
    is_moved: Flags
    if rules.skip_move:
        # two that are not known are equal, and one of two that is not known has moved
        is_moved = ~(np.abs(closes - states.prices) < rules.skip_move * np.abs(states.prices))
        is_moved &= ~(np.isnan(closes) & np.isnan(states.prices))
    else:
        is_moved = market.list_starts() != states.bars_ms
    expiry = market.list_ends() + LIFE_BARS * rules.bar_ms
    has_expired = ((states.as_of_ms < expiry) & (expiry <= as_of)).any(axis=0)
    found: Flags = is_moved | has_expired | (elapsed >= states.refresh_bars * rules.bar_ms)
    return found


def _is_due(market: MarketBars, symbol: str, state: SignalState, at_ms: int) -> bool:
    """Return whether a symbol is evaluated whose market is open, and that has no signal that still counts."""
    if state.outcome in (PlaceOutcome.ABSTAINED, PlaceOutcome.FAILED):
        return market.find_last(symbol)[0] != state.bar_ms or not 0 <= at_ms - state.at_ms < RETRY_MS
    return True


def find_expiry_ms(market: MarketBars, symbol: str, rules: ThriftRules, source: str | None = None) -> int:
    """Return until when a vote on the last bar counts, in epoch milliseconds of the market's time.

    It is that of one source if it is named: one that is away does not vote by what others have.
    """
    return market.find_last(symbol, source)[1] + LIFE_BARS * rules.bar_ms


def describe_absent(votes: Mapping[str, object]) -> str:
    """Return who abstains for which reason, by name; the same for the same reasons."""
    return ",".join(f"{name}:{votes[name]}" for name in sorted(votes))


def restore_state(last: SignalRow, decided: SignalRow | None) -> SignalState:
    """Return the state of a symbol from its last stored place, and the last one that was decided.

    What was known only in memory is as of that place: the symbol is evaluated earlier, and never later.
    """
    outcome = PlaceOutcome(last.outcome)
    is_closed = outcome is PlaceOutcome.CLOSED
    following = make_following(last.symbol, last.outcome, last.tick)
    content: Any = {} if decided is None else orjson.loads(decided.content)
    before = SignalSide(content.get("before", SignalSide.FLAT))
    side = before if decided is None or decided.side is None else SignalSide(decided.side)
    why = "" if is_closed else content.get("why", "")
    if outcome is PlaceOutcome.ABSTAINED:
        votes = content["votes"].items()
        absent = {name: vote["abstained"] for name, vote in votes if "abstained" in vote}
        why = f"{why} {describe_absent(absent)}"
    return SignalState(
        outcome=outcome,
        since=last.tick,
        following=(following, hash_entry(following)),
        why=why,
        side=side,
        side_ms=content.get("changed") if side is before else content["as_of"],
        price=float(content.get("price", math.nan)),
        bar_ms=content.get("bars", {}).get("last", 0),
        as_of_ms=content.get("as_of", 0),
        at_ms=0 if decided is None else decided.at,
    )
