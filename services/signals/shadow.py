"""Play another revision of voters and rules in the shadow of the one in force, on the same ticks. Pure.

A shadow decides on the symbols that a tick evaluates, from the votes that the tick has and from those of its
own voters of bars. It asks nobody outside, and leaves nothing in the log. What it would have decided is held
against what was: each difference is counted, and the last ones are listed for people to read.

It begins with the side in force of each symbol, and compares from the next evaluation on, so that a
difference comes of its rules and not of its start.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.signals.consensus.consensus import (
    ConsensusRules,
    SignalSide,
    find_outcome,
    format_number,
    weigh_votes,
)
from services.signals.cycle.decide import (
    BarVoter,
    GivenVotes,
    TickDecision,
    TickRules,
    check_vote,
    vote_by_rules,
)
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import FIRST_STATE, SignalState, ThriftRules, TickPlan
from services.signals.log.entries import PlaceOutcome
from services.signals.settings import SignalsSettings
from services.signals.voters.votes import Vote
from services.tables.signal_shadow import MAX_LISTED, ShadowDifference, ShadowReport, ShadowWord

_WORDS: Final[Mapping[PlaceOutcome, ShadowWord]] = {
    PlaceOutcome.ABSTAINED: "abstained",
    PlaceOutcome.FAILED: "failed",
}
_SIDES: Final[Mapping[SignalSide, ShadowWord]] = {
    SignalSide.LONG: "long",
    SignalSide.SHORT: "short",
    SignalSide.FLAT: "flat",
}


@dataclass(frozen=True, slots=True)
class ShadowRules:
    """Hold what a shadow decides by: its name, the rules of its consensus, and its own voters of bars.

    A voter of `consensus.weights` that is not one of `own` is one in force, whose votes it takes.
    """

    name: str
    consensus: ConsensusRules
    own: tuple[BarVoter, ...]
    thrift: ThriftRules


@dataclass(frozen=True, slots=True)
class ShadowState:
    """Hold the side that a shadow has of a symbol, and since when, in the market's time."""

    side: SignalSide = SignalSide.FLAT
    side_ms: int | None = None


def make_shadow(settings: SignalsSettings) -> ShadowRules | None:
    """Return what the truth has in the shadow; None if it has nothing there."""
    shadow, rules = settings.settings.shadow, settings.shadow_rules
    if shadow is None or rules is None:
        return None
    own = tuple(
        BarVoter(each.voter, each.rule, each.source) for each in shadow.voters if each.rule is not None
    )
    # a voter in force that sees bars votes on the symbols of the tick anyway
    return ShadowRules(shadow.name, rules, own, ThriftRules(settings.settings.timeframe, 0.0))


class ShadowRun:
    """Decide in the shadow, and count how that differs.

    Attributes:
        ticks: the ticks in which a symbol was compared.
        evaluated: the symbols that were, over all ticks.
        same: how many of these were decided alike.
        counts: the others, by what was decided and what the shadow would have decided.
        now: the symbols that differ at present.
        last: the last differences, the newest first.
        has_failed: set by who plays it, if an error ended it.
    """

    def __init__(self, rules: ShadowRules, began_ms: int) -> None:
        """Begin at `began_ms` (wall time, epoch milliseconds)."""
        self.rules, self.began_ms = rules, began_ms
        self._states: dict[str, ShadowState] = {}
        self.ticks = self.evaluated = self.same = 0
        self.has_failed = False
        self.counts: Counter[tuple[ShadowWord, ShadowWord]] = Counter()
        self.now: dict[str, ShadowDifference] = {}
        self.last: deque[ShadowDifference] = deque(maxlen=MAX_LISTED)

    def follow(self, decision: TickDecision, market: MarketBars, plan: TickPlan, votes: GivenVotes) -> None:
        """Decide the same symbols as a tick that is stored; `votes` are those that it was decided by.

        A symbol that comes for the first time is not compared. Those that the market has no more, and those
        whose market closes, differ no longer.
        """
        for symbol in (*plan.closing, *(self.now.keys() - set(market.symbols))):
            self.now.pop(symbol, None)
        if not plan.due:
            return
        own = TickRules(self.rules.consensus, self.rules.own, self.rules.thrift)
        own_votes, _ = vote_by_rules(market, plan, own)
        known = {**votes, **own_votes}
        scores = {row.symbol: row.score for row in decision.rows}
        compared = self.evaluated
        for symbol, as_of_ms in plan.due.items():
            state = decision.states.get(symbol, FIRST_STATE)
            live = _find_word(state)
            if symbol not in self._states:
                self._states[symbol] = ShadowState(state.side, state.side_ms)
                continue
            if live is None:
                continue
            shadow, score = self._decide(symbol, as_of_ms, known)
            found = ShadowDifference(
                tick=decision.tick,
                at=decision.at_ms,
                symbol=symbol,
                live=live,
                shadow=shadow,
                live_score=scores.get(symbol),
                shadow_score=score,
            )
            self._count(found)
        self.ticks += self.evaluated > compared

    def _decide(self, symbol: str, as_of_ms: int, votes: GivenVotes) -> tuple[ShadowWord, str | None]:
        """Return what the shadow decides of a symbol, with its score, and keep its side."""
        rules, state = self.rules.consensus, self._states[symbol]
        checked = {name: check_vote(votes.get((symbol, name)), as_of_ms) for name in rules.weights}
        opinions = {name: vote.opinion for name, vote in checked.items() if isinstance(vote, Vote)}
        found = weigh_votes(rules, opinions)
        since_ms = None if state.side_ms is None else max(0, as_of_ms - state.side_ms)
        outcome = find_outcome(rules, found, state.side, since_ms)
        if not isinstance(outcome, SignalSide):
            return "abstained", format_number(found.score)
        if outcome is not state.side:
            self._states[symbol] = ShadowState(outcome, as_of_ms)
        return _SIDES[outcome], format_number(found.score)

    def _count(self, found: ShadowDifference) -> None:
        self.evaluated += 1
        if found.live == found.shadow:
            self.same += 1
            self.now.pop(found.symbol, None)
            return
        self.counts[found.live, found.shadow] += 1
        self.now[found.symbol] = found
        self.last.appendleft(found)

    def report(self, at_ms: int) -> ShadowReport:
        """Return what is known of it at `at_ms` (epoch milliseconds)."""
        return ShadowReport(
            name=self.rules.name,
            began=self.began_ms,
            at=at_ms,
            ticks=self.ticks,
            evaluated=self.evaluated,
            same=self.same,
            counts={f"{live} {shadow}": count for (live, shadow), count in sorted(self.counts.items())},
            now_count=len(self.now),
            now=[self.now[symbol] for symbol in sorted(self.now)[:MAX_LISTED]],
            last=list(self.last),
        )


def _find_word(state: SignalState) -> ShadowWord | None:
    """Return what was decided of a symbol; None if nothing was: its market is closed."""
    if state.outcome is PlaceOutcome.SIGNAL:
        return _SIDES[state.side]
    return None if state.outcome is None else _WORDS.get(state.outcome)
