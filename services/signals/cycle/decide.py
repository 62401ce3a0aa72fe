"""Decide a tick: weigh the votes on each symbol that is evaluated, and give every symbol its place. Pure.

`vote_by_rules` asks the voters of bars, and `decide_tick` weighs what all voters say. Neither changes what it
is given: what a tick changes is in its TickDecision, and counts once the tick is stored.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Any, Final

from services.market.entries import format_number as format_price
from services.signals.consensus.consensus import (
    QUORUM_MISSING,
    UNIT,
    Abstention,
    Consensus,
    ConsensusRules,
    Correlations,
    SignalSide,
    find_outcome,
    format_number,
    weigh_votes,
)
from services.signals.cycle.correlations import name_pairs
from services.signals.cycle.market import MarketBars
from services.signals.cycle.states import (
    SignalState,
    SignalStates,
    ThriftRules,
    TickPlan,
    describe_absent,
    find_expiry_ms,
)
from services.signals.log.entries import PlaceOutcome, TickPlaces, make_place
from services.signals.log.merkle import hash_entry
from services.signals.log.places import make_following
from services.signals.view import BarWindow
from services.signals.voters import breakout, reversion, trend, volume
from services.signals.voters.votes import NoVote, Vote
from services.tables.signals import SignalRow

GivenVote = Vote | Abstention | NoVote
"""What a voter says of a symbol: a vote, or why it has none."""
GivenVotes = Mapping[tuple[str, str], GivenVote]
"""Votes by symbol and voter."""
RuleFunction = Callable[[BarWindow, int], Vote | NoVote]
VOTER_RULES: Final[Mapping[str, RuleFunction]] = {
    "trend": trend.vote,
    "reversion": reversion.vote,
    "breakout": breakout.vote,
    "volume": volume.vote,
}
NO_QUORUM: Final = QUORUM_MISSING.removeprefix("abstained: ")
MAX_REASONS: Final = 5
MAX_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class BarVoter:
    """Hold a voter of kind `bars`: its rule, and the source whose bars alone it sees, if there is one."""

    name: str
    rule: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class TickRules:
    """Hold how a tick is decided, by one revision of the truth."""

    consensus: ConsensusRules
    bar_voters: tuple[BarVoter, ...]
    thrift: ThriftRules


@dataclass(frozen=True, slots=True)
class TickDecision:
    """Hold what a tick says, and what changes with it once it is stored.

    Attributes:
        places: of all symbols.
        rows: the places that are stored, because they do not follow from the tick before.
        states: of the symbols that were evaluated, or whose market closed.
        opinions: of each evaluation, by voter: for correlations.
        counts: how many symbols have which outcome.
        with_quorum: how many were evaluated and had a quorum, `without_quorum` how many had none.
        errors: by voter, the name of an error that it raised; by an empty name, of a place.
    """

    tick: int
    at_ms: int
    places: TickPlaces
    rows: tuple[SignalRow, ...]
    states: Mapping[str, SignalState]
    opinions: Sequence[Mapping[str, int]]
    counts: Mapping[str, int]
    with_quorum: int
    without_quorum: int
    errors: Mapping[str, str]


def vote_by_rules(
    market: MarketBars, plan: TickPlan, rules: TickRules
) -> tuple[dict[tuple[str, str], GivenVote], dict[str, str]]:
    """Return the votes of the voters of bars on all symbols that are due, and errors by voter.

    A voter that raises an error abstains, and changes no other vote.
    """
    votes: dict[tuple[str, str], GivenVote] = {}
    errors: dict[str, str] = {}
    sources = {voter.source for voter in rules.bar_voters}
    for symbol in plan.due:
        expiries = {source: find_expiry_ms(market, symbol, rules.thrift, source) for source in sources}
        windows = {source: market.see(symbol, source) for source in sources}
        for voter in rules.bar_voters:
            vote: GivenVote
            try:
                vote = VOTER_RULES[voter.rule](windows[voter.source], expiries[voter.source])
            except Exception as error:  # noqa: BLE001 - whatever a voter does, the others vote
                errors[voter.name] = type(error).__name__
                vote = Abstention.FAILED
            votes[symbol, voter.name] = vote
    return votes, errors


def decide_tick(
    tick: int,
    at_ms: int,
    market: MarketBars,
    plan: TickPlan,
    rules: TickRules,
    *,
    votes: GivenVotes,
    states: SignalStates,
    correlations: Correlations,
) -> TickDecision:
    """Return what tick number `tick` at `at_ms` (wall time, epoch milliseconds) says of all symbols.

    `votes` are those on the symbols of the plan; one that is missing is no vote. `correlations` are known
    from earlier ticks.
    """
    decider = _TickDecider(tick, at_ms, market, rules, correlations)
    for symbol in plan.closing:
        decider.close(symbol, states[symbol])
    for symbol, as_of_ms in plan.due.items():
        given = {name: votes.get((symbol, name), Abstention.NO_VOTE) for name in rules.consensus.weights}
        decider.evaluate(symbol, as_of_ms, given, states[symbol])
    return decider.finish(states, plan)


@dataclass(frozen=True, slots=True)
class _StoredPlace:
    text: bytes
    digest: bytes
    outcome: PlaceOutcome
    content: Mapping[str, Any]


class _TickDecider:
    """Collect the places of one tick."""

    def __init__(
        self, tick: int, at_ms: int, market: MarketBars, rules: TickRules, correlations: Correlations
    ) -> None:
        self._tick, self._at_ms, self._market, self._rules = tick, at_ms, market, rules
        self._correlations = correlations
        pairs = name_pairs(correlations)
        self._pairs = {pair: format_number(pairs[pair]) for pair in sorted(pairs)}
        self._bar_voters = {each.name: each for each in rules.bar_voters}
        self._stored: dict[str, _StoredPlace] = {}
        self._states: dict[str, SignalState] = {}
        self._opinions: dict[str, dict[str, int]] = {}
        self._with_quorum = self._without_quorum = 0
        self._errors: dict[str, str] = {}

    def close(self, symbol: str, state: SignalState) -> None:
        """Say that the market of a symbol is closed since this tick."""
        text = make_place(symbol, PlaceOutcome.CLOSED, since=self._tick)
        following = text, hash_entry(text)
        self._stored[symbol] = _StoredPlace(*following, PlaceOutcome.CLOSED, {})
        self._states[symbol] = replace(
            state, outcome=PlaceOutcome.CLOSED, since=self._tick, following=following, why=""
        )

    def evaluate(
        self, symbol: str, as_of_ms: int, votes: Mapping[str, GivenVote], state: SignalState
    ) -> None:
        """Weigh the votes on a symbol, and decide its side; whatever goes wrong is said in its place."""
        start_ms, _, close = self._market.find_last(symbol)
        state = replace(state, price=close, bar_ms=start_ms, as_of_ms=as_of_ms, at_ms=self._at_ms)
        try:
            self._evaluate(symbol, votes, state)
        except Exception as error:  # noqa: BLE001 - one symbol must not keep a tick from being decided
            why = type(error).__name__
            self._opinions.pop(symbol, None)
            self._errors[""] = why
            content = {"tick": self._tick, "as_of": as_of_ms, "before": str(state.side), "why": why}
            if state.side_ms is not None:
                content["changed"] = state.side_ms
            self._store(symbol, PlaceOutcome.FAILED, content, state, why)

    def _evaluate(self, symbol: str, votes: Mapping[str, GivenVote], state: SignalState) -> None:
        rules, as_of_ms = self._rules.consensus, state.as_of_ms
        checked = {name: check_vote(vote, as_of_ms) for name, vote in votes.items()}
        opinions = {name: vote.opinion for name, vote in checked.items() if isinstance(vote, Vote)}
        found = weigh_votes(
            rules,
            {
                name: vote.opinion if isinstance(vote, Vote) else _find_abstention(vote)
                for name, vote in checked.items()
            },
            self._correlations,
        )
        since_ms = None if state.side_ms is None else max(0, as_of_ms - state.side_ms)
        outcome = find_outcome(rules, found, state.side, since_ms)
        content = self._describe(symbol, checked, found, state)
        self._opinions[symbol] = opinions
        if isinstance(outcome, SignalSide):
            self._with_quorum += 1
            side_ms = state.side_ms if outcome is state.side else as_of_ms
            content["side"] = str(outcome)
            self._store(symbol, PlaceOutcome.SIGNAL, content, state, side=outcome, side_ms=side_ms)
        else:
            self._without_quorum += 1
            content["why"] = NO_QUORUM
            absent = {name: vote for name, vote in checked.items() if not isinstance(vote, Vote)}
            why = f"{NO_QUORUM} {describe_absent(absent)}"
            self._store(symbol, PlaceOutcome.ABSTAINED, content, state, why)

    def _store(
        self,
        symbol: str,
        outcome: PlaceOutcome,
        content: Mapping[str, Any],
        state: SignalState,
        why: str = "",
        **changed: Any,
    ) -> None:
        """Store a place, unless the symbol has no signal, and its last place says the same."""
        if outcome is not PlaceOutcome.SIGNAL and state.outcome is outcome and state.why == why:
            self._states[symbol] = state
            return
        text = make_place(symbol, outcome, **content)
        self._stored[symbol] = _StoredPlace(text, hash_entry(text), outcome, content)
        following = make_following(symbol, outcome, self._tick)
        self._states[symbol] = replace(
            state,
            outcome=outcome,
            since=self._tick,
            following=(following, hash_entry(following)),
            why=why,
            **changed,
        )

    def _describe(
        self, symbol: str, votes: Mapping[str, GivenVote], found: Consensus, state: SignalState
    ) -> dict[str, Any]:
        """Return the content of a place, without its side: all that its side was computed from."""
        origin = self._market.find_origin(symbol)
        score = found.score
        content: dict[str, Any] = {
            "tick": self._tick,
            "as_of": state.as_of_ms,
            "before": str(state.side),
            "changed": state.side_ms,
            "score": format_number(score),
            "confidence": None if score is None else format_number(abs(score)),
            "conflict": format_number(found.conflict),
            "participation": format_number(found.participation),
            "effective": format_number(found.effective_votes),
            "correlations": self._pairs or None,
            "price": None if isnan(state.price) else format_price(state.price),
            "replay": origin.is_replay,
            "votes": {name: self._describe_vote(symbol, name, vote) for name, vote in votes.items()},
            "bars": self._describe_bars(symbol, None),
        }
        return {name: value for name, value in content.items() if value is not None}

    def _describe_vote(self, symbol: str, name: str, vote: GivenVote) -> dict[str, Any]:
        if not isinstance(vote, Vote):
            described: dict[str, Any] = {"abstained": str(vote)}
        else:
            described = {
                "direction": vote.direction,
                "strength": format_number(vote.strength),
                "confidence": format_number(vote.confidence),
                "expires": vote.expires_ms,
                "reasons": list(vote.reasons),
            }
        voter = self._bar_voters.get(name)
        if voter is not None and voter.source is not None:
            bars = self._describe_bars(symbol, voter.source)
            return described if bars is None else {**described, "bars": bars}
        return described

    def _describe_bars(self, symbol: str, source: str | None) -> dict[str, Any] | None:
        starts = self._market.see_starts(symbol, source)
        if not len(starts):
            return None
        separate = {"separate": True} if source and self._market.is_separate(symbol, source) else {}
        return {
            "timeframe": self._market.timeframe,
            "source": source or self._market.find_origin(symbol).source,
            **separate,
            "first": starts[0].item(),
            "last": starts[-1].item(),
            "count": len(starts),
            "digest": self._market.hash_bars(symbol, source),
        }

    def finish(self, states: SignalStates, plan: TickPlan) -> TickDecision:
        """Return the decision, with a place for every symbol of the market."""
        texts, tree = list(states.texts), states.tree.copy()
        rows: list[SignalRow] = []
        counts = Counter(str(each.outcome) for each in self._stored.values())
        for symbol, stored in sorted(self._stored.items()):
            place = states.find_place(symbol)
            texts[place] = stored.text
            rows.append(self._make_row(symbol, place, stored))
        tree.replace({row.place: row.hash for row in rows})
        followed = len(texts) - len(rows)
        closed = len(frozenset(plan.closed).difference(plan.closing))
        counts[PlaceOutcome.CLOSED] += closed
        counts[PlaceOutcome.UNCHANGED] += followed - closed
        return TickDecision(
            tick=self._tick,
            at_ms=self._at_ms,
            places=TickPlaces(states.symbols, tuple(texts), tree.hashes, tree.root),
            rows=tuple(rows),
            states=self._states,
            opinions=[self._opinions[symbol] for symbol in sorted(self._opinions)],
            counts={outcome: count for outcome, count in counts.items() if count},
            with_quorum=self._with_quorum,
            without_quorum=self._without_quorum,
            errors=self._errors,
        )

    def _make_row(
        self,
        symbol: str,
        place: int,
        stored: _StoredPlace,
    ) -> SignalRow:
        content = stored.content
        return SignalRow(
            tick=self._tick,
            symbol=symbol,
            place=place,
            at=self._at_ms,
            outcome=str(stored.outcome),
            side=content.get("side"),
            score=content.get("score"),
            confidence=content.get("confidence"),
            conflict=content.get("conflict"),
            participation=content.get("participation"),
            replay=self._market.find_origin(symbol).is_replay,
            hash=stored.digest,
            content=stored.text.decode(),
        )


def check_vote(vote: object, as_of_ms: int) -> GivenVote:
    """Return a vote that counts at an instant, or why it does not: a voter may be foreign code.

    Reasons are cut to MAX_REASONS of MAX_REASON characters, and to what can be printed.
    """
    if not isinstance(vote, Vote):
        return vote if isinstance(vote, Abstention | NoVote) else Abstention.FAILED
    direction, strength, confidence = vote.direction, vote.strength, vote.confidence
    if not (type(direction) is type(strength) is type(confidence) is type(vote.expires_ms) is int):
        return Abstention.NOT_A_NUMBER
    if direction not in (-1, 0, 1) or not (0 <= strength <= UNIT and 0 <= confidence <= UNIT):
        return Abstention.OUT_OF_RANGE
    if vote.expires_ms <= as_of_ms:
        return Abstention.EXPIRED
    if type(vote.reasons) is not tuple or len(vote.reasons) > MAX_REASONS:
        return _cut_reasons(vote)
    for each in vote.reasons:
        if type(each) is not str or len(each) > MAX_REASON or not each.isprintable():
            return _cut_reasons(vote)
    return vote


def _cut_reasons(vote: Vote) -> GivenVote:
    if not isinstance(vote.reasons, tuple) or not all(isinstance(each, str) for each in vote.reasons):
        return Abstention.FAILED
    cut = (each[:MAX_REASON] for each in vote.reasons[:MAX_REASONS])
    return replace(
        vote, reasons=tuple("".join(char if char.isprintable() else " " for char in each) for each in cut)
    )


def _find_abstention(vote: GivenVote) -> Abstention:
    if isinstance(vote, Abstention):
        return vote
    return Abstention.NOT_A_NUMBER if vote is NoVote.NOT_A_NUMBER else Abstention.NO_VOTE
