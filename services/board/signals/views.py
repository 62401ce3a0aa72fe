"""Describe a signal for the API and the pages: the numbers as they were hashed, and the sum by hand. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from math import lcm
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from marketswarm.bus.stored_values import parse_number
from marketswarm.text import escape_text
from services.market.fields import MAX_COUNT
from services.signals.consensus.consensus import (
    UNIT,
    Abstention,
    Consensus,
    ConsensusRules,
    compute_opinion,
    divide,
    format_number,
    weigh_votes,
)
from services.tables.rows import ColumnType
from services.tables.signal_places import MAX_WORDS, PlacedVote, SignalPlace, parse_place
from services.tables.signal_rules import RULES_DIGEST, StoredRules
from services.tables.signal_wordings import Wording
from services.tables.signals import FoundSignal, PublishedSignal, Witnessed, find_signal_id

PAPER: Final = "paper, no advice"
"""What stands in every answer with signals, and on every page."""
MAX_WEIGHT: Final = 1_000_000
SIGNAL_COLUMNS: Final[Mapping[str, ColumnType]] = {
    "id": ColumnType.TEXT,
    "tick": ColumnType.COUNT,
    "at": ColumnType.TIME,
    "symbol": ColumnType.TEXT,
    "outcome": ColumnType.TEXT,
    "side": ColumnType.TEXT,
    # decimal texts, which CSV has as they are
    "score": ColumnType.NUMBER,
    "confidence": ColumnType.NUMBER,
    "conflict": ColumnType.NUMBER,
    "participation": ColumnType.NUMBER,
    "price": ColumnType.NUMBER,
    "voted": ColumnType.COUNT,
    "voters": ColumnType.COUNT,
    "why": ColumnType.TEXT,
    "source": ColumnType.TEXT,
    "replay": ColumnType.FLAG,
}
"""What the topic says of a signal."""
LISTED_COLUMNS: Final = {
    **SIGNAL_COLUMNS,
    "n": ColumnType.COUNT,
    "witness": ColumnType.TEXT,
    "witnessed_at": ColumnType.TIME,
}
"""What a list says of one: besides, its entry of the log, and whether that was cosigned."""


Made = Annotated[str, Field(strict=True, max_length=MAX_WORDS), AfterValidator(escape_text)]


class TickOrigin(BaseModel):
    """What the entry of a tick says of itself: the code, the truth and the rules that decided it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: Made | None = None
    truth: Made | None = None
    consensus: Made | None = None
    places: Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)] | None = None
    root: Made | None = None
    rules: Annotated[str, Field(strict=True, pattern=RULES_DIGEST)] | None = None
    """The digest of the rules and weights; None of an entry that names none."""


class WitnessState(StrEnum):
    """Say how far a signal can be proven."""

    PROVEN = "proven"
    """A witness has cosigned a checkpoint that has it."""
    WAITING = "not yet witnessed"
    CHANGED = "changed"
    """Its content does not hash to its id: somebody changed it in the database."""


@dataclass(frozen=True, slots=True)
class SignalView:
    """A stored signal: its row, its place (None if it can't be read), and who witnessed it (None: nobody)."""

    found: FoundSignal
    place: SignalPlace | None
    witnessed: Witnessed | None

    @property
    def state(self) -> WitnessState:
        if find_signal_id(self.found.content.encode()) != self.found.id:
            return WitnessState.CHANGED
        return WitnessState.WAITING if self.witnessed is None else WitnessState.PROVEN

    @property
    def since(self) -> int:
        """When its state began, in epoch milliseconds: since the cosignature, or since it was decided."""
        return self.found.at if self.witnessed is None else self.witnessed.at

    @property
    def why(self) -> str:
        return "its content can't be read" if self.place is None else self.place.reason

    @property
    def source(self) -> str | None:
        return None if self.place is None or self.place.bars is None else self.place.bars.source


class WholeSignal(NamedTuple):
    """A signal with what its tick says of itself, and how a model worded its reason (None: not at all).

    `rules` are those in force when it was decided; None if its tick names none, or they are not stored.
    """

    view: SignalView
    made_by: TickOrigin
    wording: Wording | None = None
    rules: StoredRules | None = None


class WeightsOrigin(StrEnum):
    """Say whose the weights of a sum are."""

    PLACE = "place"
    RULES = "rules"
    """Of the rules in force when it was decided, which its tick names by their digest."""
    TRUTH = "truth"
    """Of the truth as it is now: the tick names none, because an older program made it."""


@dataclass(frozen=True, slots=True)
class WeighedVote:
    """A vote in the sum: its opinion, the weight that it had there, and what it added to the score.

    Numbers are decimal texts; None where the vote does not count, or its weight is not known.
    """

    voter: str
    vote: PlacedVote
    weight: str | None = None
    opinion: str | None = None
    weight_used: str | None = None
    adds: str | None = None

    @property
    def why_not(self) -> str | None:
        """Why it does not count; None if it does."""
        return None if self.vote.has_voted else (self.vote.abstained or "it has no numbers")


@dataclass(frozen=True, slots=True)
class SignalSum:
    """The sum by hand: the votes of a place, weighed anew.

    `adds_up` is None where it can't be computed, because a weight is not known or nobody voted.
    `weights_of` says whose the weights are.
    """

    votes: tuple[WeighedVote, ...]
    weights_of: WeightsOrigin = WeightsOrigin.PLACE
    score: str | None = None
    conflict: str | None = None
    adds_up: bool | None = None


def make_view(found: FoundSignal, witnessed: Witnessed | None) -> SignalView:
    return SignalView(found, parse_place(found.content), witnessed)


def weigh_place(
    place: SignalPlace, truth_weights: Mapping[str, Fraction], rules: StoredRules | None = None
) -> SignalSum:
    """Return the sum of a place's votes, and whether it is the place's score.

    A vote has the weight that the place gives it; if it gives none, that of the rules in force then; if they
    are not known, that of the truth.
    """
    given, origin = truth_weights, WeightsOrigin.TRUTH
    if rules is not None:
        given, origin = {name: Fraction(each) for name, each in rules.weights.items()}, WeightsOrigin.RULES
    opinions = {
        name: compute_opinion(one.direction, one.strength, one.confidence)
        for name, one in place.votes.items()
        if one.has_voted
    }
    own = {name: Fraction(one.weight) for name, one in place.votes.items() if one.weight is not None}
    weights = {name: own.get(name, given.get(name, Fraction(0))) for name in place.votes}
    scale = lcm(*(each.denominator for each in weights.values()))
    is_known = bool(opinions) and all(weights[name] > 0 for name in opinions)
    votes = tuple(
        WeighedVote(name, place.votes[name], _format_weight(weight), format_number(opinions.get(name)))
        for name, weight in sorted(weights.items(), key=lambda each: -each[1])
    )
    weights_of = origin if any(name not in own for name in opinions) else WeightsOrigin.PLACE
    if not is_known:
        return SignalSum(votes, weights_of)
    weighed_by = ConsensusRules({name: int(each * scale) for name, each in weights.items() if each > 0})
    said: dict[str, int | Abstention] = {**opinions}
    found = weigh_votes(weighed_by, said)
    score = found.score or 0
    return SignalSum(
        tuple(_add_share(one, opinions, found) for one in votes),
        weights_of,
        format_number(score),
        format_number(found.conflict),
        place.score is not None and Fraction(place.score) == Fraction(score, UNIT),
    )


def list_weights(entries: Sequence[Any]) -> dict[str, Fraction]:
    """Return the weights of voters in the `endpoints` of signals; an entry that has none is left out."""
    found = {}
    for one in entries:
        name, weight = (one.get("voter"), one.get("weight")) if isinstance(one, Mapping) else (None, None)
        size = parse_number(weight, 0, MAX_WEIGHT)
        if isinstance(name, str) and size:
            found[name] = Fraction(str(size))
    return found


def _format_weight(weight: Fraction) -> str | None:
    return None if weight <= 0 else f"{Decimal(weight.numerator) / Decimal(weight.denominator):f}"


def _add_share(one: WeighedVote, opinions: Mapping[str, int], found: Consensus) -> WeighedVote:
    """Return a vote with the weight that it had in the sum, and what it added to the score."""
    used, opinion = found.weights_used.get(one.voter), opinions.get(one.voter)
    if used is None or opinion is None:
        return one
    return replace(one, weight_used=format_number(used), adds=format_number(divide(used * opinion, UNIT)))


def list_cells(view: SignalView) -> tuple[Any, ...]:
    """Return the cells of LISTED_COLUMNS."""
    found = view.found
    witnessed_at = None if view.witnessed is None else view.witnessed.at
    return (*_list_common(found, view.place, view.why), found.n, view.state.value, witnessed_at)


def describe_published(one: PublishedSignal) -> dict[str, Any]:
    """Return what the topic says of a signal that the stream brought."""
    place = parse_place(one.content)
    why = "its content can't be read" if place is None else place.reason
    return dict(zip(SIGNAL_COLUMNS, _list_common(one, place, why), strict=True))


def _list_common(one: FoundSignal | PublishedSignal, place: SignalPlace | None, why: str) -> tuple[Any, ...]:
    price, source, voted, voters = None, None, 0, 0
    if place is not None:
        price, voted, voters = place.price, place.voted, len(place.votes)
        source = None if place.bars is None else place.bars.source
    decided = one.outcome, one.side, one.score, one.confidence, one.conflict, one.participation
    return (one.id, one.tick, one.at, one.symbol, *decided, price, voted, voters, why, source, one.replay)


def describe_signal(whole: WholeSignal, weighed: SignalSum | None, now_ms: int) -> dict[str, Any]:
    """Return all that is known of one signal."""
    view = whole.view
    found, place = view.found, view.place
    about: dict[str, Any] = dict(zip(LISTED_COLUMNS, list_cells(view), strict=True))
    about["place"] = found.place
    about["as_of"] = None if place is None else place.as_of
    about["before"] = None if place is None else place.before
    about["sentence"] = None if place is None else place.sentence
    about["wording"] = None if whole.wording is None else whole.wording._asdict()
    about["effective"] = None if place is None else place.effective
    about["votes"] = [] if weighed is None else [_describe_vote(one) for one in weighed.votes]
    about["sum"] = None if weighed is None else _describe_sum(weighed)
    about["bars"] = None if place is None or place.bars is None else place.bars.model_dump()
    about["made_by"] = whole.made_by.model_dump()
    about["rules"] = None if whole.rules is None else whole.rules.model_dump()
    about["checkpoint"] = None
    if view.witnessed is not None:
        about["checkpoint"] = {"size": view.witnessed.size, "witness": view.witnessed.witness}
    about["content"] = found.content
    about["age_sec"] = round(max(0, now_ms - view.since) / 1000, 3)
    return about


def _describe_sum(weighed: SignalSum) -> dict[str, Any]:
    names = "score", "conflict", "adds_up"
    return {**{name: getattr(weighed, name) for name in names}, "weights_of": str(weighed.weights_of)}


def _describe_vote(one: WeighedVote) -> dict[str, Any]:
    vote = one.vote
    return {
        "voter": one.voter,
        "weight": one.weight,
        "direction": vote.direction,
        "strength": vote.strength,
        "confidence": vote.confidence,
        "opinion": one.opinion,
        "weight_used": one.weight_used,
        "adds": one.adds,
        "expires": vote.expires,
        "abstained": one.why_not,
        "reasons": list(vote.reasons),
        "bars": None if vote.bars is None else vote.bars.model_dump(),
    }


def sort_newest(views: Sequence[SignalView]) -> list[SignalView]:
    """Return signals for a page: the newest tick first, and its symbols by name."""
    return sorted(views, key=lambda one: (-one.found.tick, one.found.symbol))
