"""Read votes and weights from a file, for whoever checks a sum by hand. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import lcm
from typing import Any, Final

from services.signals.consensus.consensus import (
    DIGITS,
    UNIT,
    VERSION,
    Abstention,
    ConsensusRules,
    find_outcome,
    format_number,
    weigh_votes,
)

MAX_BYTES: Final = 1_000_000
MAX_VOTERS: Final = 1000
MAX_PLACES: Final = 60
_KEYS: Final = ("weights", "quorum", "votes")


class VotesError(ValueError):
    """A file of votes can't be weighed; the message names the path in it."""


@dataclass(frozen=True, slots=True)
class VotesFile:
    """Hold the votes of a file: opinions in `unit`, and the rules by which they are weighed."""

    rules: ConsensusRules
    votes: Mapping[str, int | Abstention]
    unit: int


def parse_votes(text: bytes) -> VotesFile:
    """Parse `{"weights": {name: number}, "quorum": number, "votes": {name: opinion or null}}`.

    Numbers are taken exactly as they are written. NaN is a vote that does not count, as it would be in the
    service; a weight or a quorum can't be NaN. Raises VotesError.
    """
    document = _read(text)
    weights = {name: _parse(f"weights.{name}", each) for name, each in _object(document, "weights").items()}
    for name, weight in weights.items():
        if weight is None or weight <= 0:
            raise VotesError(f"weights.{name}: must be more than 0")
    quorum = _parse("quorum", document.get("quorum", Decimal("0.5")))
    if quorum is None or not 0 <= quorum <= 1:
        raise VotesError("quorum: must be from 0 to 1")
    opinions = {name: _parse_vote(name, each) for name, each in _object(document, "votes").items()}
    if unknown := opinions.keys() - weights.keys():
        raise VotesError(f"votes.{min(unknown)}: has no weight")
    unit = lcm(UNIT, *(each.denominator for each in opinions.values() if isinstance(each, Fraction)))
    scale = lcm(*(each.denominator for each in weights.values() if each is not None))
    return VotesFile(
        ConsensusRules(
            {name: int(each * scale) for name, each in weights.items() if each is not None}, quorum
        ),
        {name: int(each * unit) if isinstance(each, Fraction) else each for name, each in opinions.items()},
        unit,
    )


def _read(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise VotesError(f"is larger than {MAX_BYTES} bytes")
    try:
        document = json.loads(
            text,
            parse_float=Decimal,
            parse_int=Decimal,
            parse_constant=Decimal,
            object_pairs_hook=_refuse_twice,
        )
    except VotesError:
        raise
    except (ValueError, RecursionError) as error:
        raise VotesError(f"is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise VotesError("must be an object with weights and votes")
    if unknown := document.keys() - set(_KEYS):
        raise VotesError(f"{min(unknown)}: is not known; there are {', '.join(_KEYS)}")
    return document


def _parse_vote(name: str, value: object) -> Fraction | Abstention:
    if value is None:
        return Abstention.NO_VOTE
    opinion = _parse(f"votes.{name}", value)
    return Abstention.NOT_A_NUMBER if opinion is None else opinion


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise VotesError("has a key twice")
    return found


def _object(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict) or (name == "weights" and not value):
        raise VotesError(f"{name}: must be an object of numbers by name of voter")
    if len(value) > MAX_VOTERS:
        raise VotesError(f"{name}: has more than {MAX_VOTERS} names")
    return value


def _parse(path: str, value: object) -> Fraction | None:
    """Return a number exactly; None for one that is not finite."""
    if not isinstance(value, Decimal):
        raise VotesError(f"{path}: must be a number")
    if not value.is_finite():
        return None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > MAX_PLACES or value.adjusted() > DIGITS:
        raise VotesError(f"{path}: has more than {MAX_PLACES} places, or {DIGITS + 1} digits before them")
    return Fraction(value)


def describe_consensus(file: VotesFile) -> dict[str, Any]:
    """Return what the votes add up to: numbers as decimal text of 12 places, None where there is none.

    The outcome is the side that the score means for a symbol that was flat before.
    """
    found = weigh_votes(file.rules, file.votes, unit=file.unit)
    return {
        "consensus": VERSION,
        "outcome": str(find_outcome(file.rules, found)),
        "score": format_number(found.score),
        "weights_used": {name: format_number(each) for name, each in found.weights_used.items()},
        "conflict": format_number(found.conflict),
        "participation": format_number(found.participation),
        "effective_votes": format_number(found.effective_votes),
        "abstained": {name: str(reason) for name, reason in found.abstained.items()},
    }
