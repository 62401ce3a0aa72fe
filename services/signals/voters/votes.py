"""Define what a voter says, and put numbers into the form in which votes are added up. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.signals.consensus.consensus import UNIT, Abstention
from services.signals.view import BarWindow

MAX_REASON: Final = 200
MAX_VALUE: Final = 1e18
"""A price or a volume above this is none: its square would have no float."""


class NoVote(StrEnum):
    """Why a voter of bars can't say anything."""

    TOO_FEW_BARS = "too_few_bars"
    NO_VOLUME = "no_volume"
    NOT_A_NUMBER = Abstention.NOT_A_NUMBER.value


@dataclass(frozen=True, slots=True)
class Vote:
    """Hold what a voter says of a symbol.

    Attributes:
        direction: 1 for up, -1 for down, 0 for neither, which is a vote, too.
        strength: how far it goes, from 0 to UNIT.
        confidence: how sure the voter is, from 0 to UNIT.
        expires_ms: from then on the vote does not count, in epoch milliseconds.
        reasons: why, in words for people; each is one line.
    """

    direction: int
    strength: int
    confidence: int
    expires_ms: int
    reasons: tuple[str, ...]

    @property
    def opinion(self) -> int:
        """Direction x strength x confidence, in UNIT, rounded towards 0."""
        return self.direction * (self.strength * self.confidence // UNIT)


def make_vote(lean: float, confidence: float, expires_ms: int, *reasons: str) -> Vote | NoVote:
    """Return a vote whose direction is the sign of `lean`, and whose strength is its size, at most 1."""
    if not (math.isfinite(lean) and math.isfinite(confidence)):
        return NoVote.NOT_A_NUMBER
    strength, sure = _to_units(abs(lean)), _to_units(confidence)
    direction = (lean > 0) - (lean < 0) if strength else 0
    return Vote(direction, strength, sure, expires_ms, tuple(each[:MAX_REASON] for each in reasons))


def _to_units(number: float) -> int:
    return round(min(1.0, max(0.0, number)) * UNIT)


def list_last(window: BarWindow, name: str, count: int) -> list[float] | NoVote:
    """Return the last `count` values of a column, if there are so many and each is up to MAX_VALUE."""
    values: list[float] = getattr(window, name)[-count:].tolist()
    if len(values) < count:
        return NoVote.TOO_FEW_BARS
    if not all(-MAX_VALUE <= each <= MAX_VALUE for each in values):
        return NoVote.NO_VOLUME if name == "volume" else NoVote.NOT_A_NUMBER
    return values


def find_mean(values: Sequence[float]) -> float:
    """Return the mean: the sum is rounded once, so it is the same on every machine."""
    return math.fsum(values) / len(values)


def find_deviation(values: Sequence[float]) -> float:
    """Return how far values are from their mean, as the root of the mean square (n, not n - 1)."""
    mean = find_mean(values)
    return math.sqrt(math.fsum((each - mean) ** 2 for each in values) / len(values))
