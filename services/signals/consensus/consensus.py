"""Weigh votes into one score and a side. Pure, in whole numbers, so that anyone can check a sum by hand.

An opinion is direction x strength x confidence, from -1 to 1. Opinions, weights and results are whole numbers
of 10^-12 (UNIT is one). docs/services/consensus.md has the formulas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Final

VERSION: Final = "6.0"
DIGITS: Final = 12
UNIT: Final[int] = 10**DIGITS
QUORUM_MISSING: Final = "abstained: quorum"
"""The outcome where too few voted, by weight or by count."""


class SignalSide(StrEnum):
    """What a signal says of a symbol."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"


class Abstention(StrEnum):
    """Why a voter's vote does not count. An opinion of 0 is a vote for flat, and no abstention."""

    NO_VOTE = "no_vote"
    LATE = "late"
    LIMITED = "limited"
    FAILED = "failed"
    EXPIRED = "expired"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    BEFORE_CUTOFF = "before_cutoff"
    """The instant is one that a model may know the future of: it was trained on what came after."""


Correlations = Mapping[frozenset[str], int]
"""The correlation of pairs of voters, from -UNIT to UNIT; a pair that is missing counts as independent."""


@dataclass(frozen=True, slots=True)
class ConsensusRules:
    """Hold how votes become a side.

    Attributes:
        weights: of each voter, more than 0, in any unit.
        quorum: the share of all weight that has to vote, from 0 to 1.
        least_votes: how many voters have to vote.
        enter: a side begins at a score this far from 0, in UNIT.
        leave: it ends at a score nearer to 0 than this, in UNIT; at most `enter`.
        cooldown_ms: how long after a change of side no side begins. One may end at any time.
    """

    weights: Mapping[str, int]
    quorum: Fraction = Fraction(1, 2)
    least_votes: int = 2
    enter: int = 3 * UNIT // 10
    leave: int = UNIT // 10
    cooldown_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class Consensus:
    """Hold what votes add up to; all numbers are in UNIT.

    Attributes:
        score: from -UNIT to UNIT; None if no voter voted.
        weights_used: the weight of each voter that voted; they add up to UNIT, but for rounding.
        conflict: 0 if all opinions lean to one side, UNIT if they cancel out; None if no voter voted.
        participation: the share of all weight that voted.
        effective_votes: how many independent votes of equal weight would say as much; None if none voted.
        has_quorum: whether enough voted.
        abstained: why each other voter did not.
    """

    score: int | None
    weights_used: Mapping[str, int]
    conflict: int | None
    participation: int
    effective_votes: int | None
    has_quorum: bool
    abstained: Mapping[str, Abstention] = field(default_factory=lambda: MappingProxyType({}))


def weigh_votes(
    rules: ConsensusRules,
    votes: Mapping[str, int | Abstention],
    correlations: Correlations = MappingProxyType({}),
    unit: int = UNIT,
) -> Consensus:
    """Return what the opinions of `votes` add up to. A voter that is missing in it has no vote.

    An opinion of 1 is `unit`, for opinions with more places than UNIT has. Raises KeyError for a voter
    without a weight.
    """
    if unknown := votes.keys() - rules.weights.keys():
        raise KeyError(min(unknown))
    voting: dict[str, int] = {}
    abstained: dict[str, Abstention] = {}
    for name in rules.weights:
        vote = votes.get(name, Abstention.NO_VOTE)
        if isinstance(vote, Abstention):
            abstained[name] = vote
        elif abs(vote) > unit:
            abstained[name] = Abstention.OUT_OF_RANGE
        else:
            voting[name] = vote
    voted = sum([rules.weights[name] for name in voting])
    everything = sum(rules.weights.values())
    participation = divide(voted * UNIT, everything)
    # by the exact weights and not by the rounded share, which may round a missing vote away
    quorum = rules.quorum
    has_quorum = (
        voted * quorum.denominator >= quorum.numerator * everything and len(voting) >= rules.least_votes
    )
    if not voting:
        return Consensus(None, {}, None, participation, None, has_quorum, abstained)
    leans = [rules.weights[name] * opinion for name, opinion in voting.items()]
    lean, strength = sum(leans), sum(map(abs, leans))
    return Consensus(
        score=divide(lean * UNIT, voted * unit),
        weights_used={name: divide(rules.weights[name] * UNIT, voted) for name in voting},
        conflict=divide((strength - abs(lean)) * UNIT, strength) if strength else 0,
        participation=participation,
        effective_votes=_count_effective({name: rules.weights[name] for name in voting}, correlations),
        has_quorum=has_quorum,
        abstained=abstained,
    )


def _count_effective(weights: Mapping[str, int], correlations: Correlations) -> int:
    """Return 1 / (w'Rw), which is at most the number of voters, in UNIT.

    Correlations of pairs that were measured on different votes may be no matrix of correlations at all: what
    they say is held between one vote and as many as there are.
    """
    spread = UNIT * sum([weight * weight for weight in weights.values()])
    for pair, correlation in correlations.items():
        if len(pair) == 2 and weights.keys() >= pair:
            first, second = pair
            spread += 2 * weights[first] * weights[second] * correlation
    most = len(weights) * UNIT
    total = sum(weights.values())
    if spread * len(weights) <= total * total * UNIT:
        return most
    return max(UNIT, divide(total * total * UNIT * UNIT, spread))


def find_side(
    rules: ConsensusRules,
    score: int,
    before: SignalSide = SignalSide.FLAT,
    since_change_ms: int | None = None,
) -> SignalSide:
    """Return the side that a score means after the side `before`, which began `since_change_ms` ago.

    None stands for a side that never changed. A score that asks for the other side within the cool-down
    leaves the old one, to flat.
    """
    asked = SignalSide.FLAT
    if abs(score) >= rules.enter:
        asked = SignalSide.LONG if score > 0 else SignalSide.SHORT
    if asked is before:
        return before
    if asked is SignalSide.FLAT:
        towards = score if before is SignalSide.LONG else -score
        return before if towards >= rules.leave else SignalSide.FLAT
    is_cooling = since_change_ms is not None and since_change_ms < rules.cooldown_ms
    return SignalSide.FLAT if is_cooling else asked


def find_outcome(
    rules: ConsensusRules,
    found: Consensus,
    before: SignalSide = SignalSide.FLAT,
    since_change_ms: int | None = None,
) -> str:
    """Return the side that votes mean, as find_side does, or QUORUM_MISSING if too few voted."""
    if found.score is None or not found.has_quorum:
        return QUORUM_MISSING
    return find_side(rules, found.score, before, since_change_ms)


def divide(dividend: int, divisor: int) -> int:
    """Return the quotient, rounded to the nearest whole number; of two equally near ones to the even one."""
    if divisor < 0:
        dividend, divisor = -dividend, -divisor
    quotient, rest = divmod(dividend, divisor)
    return quotient + (2 * rest > divisor or (2 * rest == divisor and quotient % 2 == 1))


def compute_opinion(direction: int | None, strength: str | None, confidence: str | None) -> int:
    """Return direction x strength x confidence of decimal texts, in UNIT, rounded towards 0; None is 0."""
    far, sure = (int(Fraction(each or 0) * UNIT) for each in (strength, confidence))
    return (direction or 0) * (far * sure // UNIT)


def format_number(number: int | None) -> str | None:
    """Return a number as decimal text of 12 places; None stays None."""
    if number is None:
        return None
    text = str(abs(number)).rjust(DIGITS + 1, "0")
    return f"{'-' if number < 0 else ''}{text[:-DIGITS]}.{text[-DIGITS:]}"


def parse_units(text: str) -> int:
    """Return the number of a decimal text, in UNIT; digits after the twelfth are cut."""
    return int(Decimal(text) * UNIT)
