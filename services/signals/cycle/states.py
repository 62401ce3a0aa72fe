"""Keep what is known of each symbol from one tick to the next, and decide which are evaluated. Pure.

A symbol is evaluated if

- it never was, its market has opened, or the last try failed;
- its price has moved by `skip_move` or more since it was evaluated last;
- it was evaluated so long ago that the votes are old: after 10 to 20 bars of the market's time. Which of
  these it is follows from the symbol's name, so that not all are evaluated in one tick;
- no bar has come for LIFE_BARS bars, so that votes on bars have expired;
- it had no quorum, and there is a new bar or a minute has passed.

All others are unchanged, or closed. The most volatile symbols come first.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from zlib import crc32

import orjson

from services.market.records import TIMEFRAME_SEC, Timeframe
from services.signals.consensus.consensus import SignalSide
from services.signals.cycle.market import MarketBars
from services.signals.log.entries import PlaceOutcome, make_place
from services.signals.log.merkle import hash_entry
from services.tables.signals import SignalRow

LIFE_BARS: Final = 5
"""The bars' time after the end of the last bar at which a vote on it expires."""
REFRESH_BARS: Final = 10
"""The least bars' time after which a symbol is evaluated that did not move, and as many more by its name."""
RETRY_MS: Final = 60_000
"""How long after a tick without a quorum a symbol is evaluated again without a new bar."""
_SPREAD: Final = 1000


@dataclass(frozen=True, slots=True)
class SymbolState:
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


FIRST_STATE: Final = SymbolState()


@dataclass(frozen=True, slots=True)
class ThriftRules:
    """Hold by which rules symbols are left out: the timeframe of the bars, and the move that counts."""

    timeframe: Timeframe
    skip_move: float

    @property
    def bar_ms(self) -> int:
        return 1000 * TIMEFRAME_SEC[self.timeframe]


@dataclass(frozen=True, slots=True)
class TickPlan:
    """Say what a tick is to do, of symbols by name.

    Attributes:
        due: the symbols that are evaluated, the most volatile first, with the instant of each as of which.
        closing: those whose market has closed since the tick before.
        ranges: how volatile each due symbol is.
    """

    due: Mapping[str, int]
    closing: Collection[str]
    ranges: Mapping[str, float]


def plan_tick(
    market: MarketBars,
    states: Mapping[str, SymbolState],
    rules: ThriftRules,
    closed: Collection[str],
    at_ms: int,
    *,
    again: Collection[str] = (),
) -> TickPlan:
    """Decide which symbols are evaluated at `at_ms` (wall time); `closed` are those whose market is.

    Those in `again` are evaluated if their market is open: a vote on them came after its tick.
    """
    closes = market.list_closes().tolist()
    due: dict[str, int] = {}
    closing: list[str] = []
    for symbol, close in zip(market.symbols, closes, strict=True):
        state = states.get(symbol, FIRST_STATE)
        if symbol in closed:
            if state.outcome is not PlaceOutcome.CLOSED:
                closing.append(symbol)
            continue
        as_of_ms = market.find_as_of(symbol, at_ms)
        if symbol in again or _is_due(
            market, symbol, state, rules, close=close, as_of_ms=as_of_ms, at_ms=at_ms
        ):
            due[symbol] = as_of_ms
    ranges = market.find_ranges(list(due))
    ranked = sorted(due, key=lambda symbol: (-ranges[symbol], symbol))
    return TickPlan({symbol: due[symbol] for symbol in ranked}, frozenset(closing), ranges)


def _is_due(
    market: MarketBars,
    symbol: str,
    state: SymbolState,
    rules: ThriftRules,
    *,
    close: float,
    as_of_ms: int,
    at_ms: int,
) -> bool:
    if state.outcome is PlaceOutcome.SIGNAL:
        if has_moved(close, state.price, rules.skip_move):
            return bool(rules.skip_move) or market.find_last(symbol)[0] != state.bar_ms
        elapsed_ms = as_of_ms - state.as_of_ms
        if elapsed_ms < rules.bar_ms:
            return False
        if elapsed_ms >= find_refresh_ms(symbol, rules):
            return True
        return state.as_of_ms < find_expiry_ms(market, symbol, rules) <= as_of_ms
    if state.outcome in (PlaceOutcome.ABSTAINED, PlaceOutcome.FAILED):
        return market.find_last(symbol)[0] != state.bar_ms or not 0 <= at_ms - state.at_ms < RETRY_MS
    return True


def has_moved(close: float, before: float, least: float) -> bool:
    """Return whether a price differs from the one before by a share of `least` or more.

    It always does if `least` is 0. One of two that is not known has moved.
    """
    if math.isnan(close) or math.isnan(before):
        return math.isnan(close) is not math.isnan(before)
    return abs(close - before) >= least * abs(before)


def find_refresh_ms(symbol: str, rules: ThriftRules) -> int:
    """Return after how much of the market's time a symbol is evaluated that did not move."""
    return rules.bar_ms * REFRESH_BARS * (_SPREAD + crc32(symbol.encode()) % _SPREAD) // _SPREAD


def find_expiry_ms(market: MarketBars, symbol: str, rules: ThriftRules) -> int:
    """Return until when a vote on the last bar counts, in epoch milliseconds of the market's time."""
    return market.find_last(symbol)[1] + LIFE_BARS * rules.bar_ms


def describe_absent(votes: Mapping[str, object]) -> str:
    """Return who abstains for which reason, by name; the same for the same reasons."""
    return ",".join(f"{name}:{votes[name]}" for name in sorted(votes))


def restore_state(last: SignalRow, decided: SignalRow | None) -> SymbolState:
    """Return the state of a symbol from its last stored place, and the last one that was decided.

    What was known only in memory is as of that place: the symbol is evaluated earlier, and never later.
    """
    outcome = PlaceOutcome(last.outcome)
    is_closed = outcome is PlaceOutcome.CLOSED
    following = make_place(
        last.symbol, PlaceOutcome.CLOSED if is_closed else PlaceOutcome.UNCHANGED, since=last.tick
    )
    content: Any = {} if decided is None else orjson.loads(decided.content)
    before = SignalSide(content.get("before", SignalSide.FLAT))
    side = before if decided is None or decided.side is None else SignalSide(decided.side)
    why = "" if is_closed else content.get("why", "")
    if outcome is PlaceOutcome.ABSTAINED:
        votes = content["votes"].items()
        absent = {name: vote["abstained"] for name, vote in votes if "abstained" in vote}
        why = f"{why} {describe_absent(absent)}"
    return SymbolState(
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
