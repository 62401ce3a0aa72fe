"""Define the answers of a source: what came, and what did not fit. Pure."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from marketswarm.market.records import Record

NO_KEY: Final = "no_key"
"""The reason of an answer that FAILED, since the source needs a key and there is none."""
NOT_SERVED: Final = "not_served"
"""The reason of an answer that FAILED, since the source does not have what was asked for."""


class AnswerStatus(StrEnum):
    """Name the answers to a question. Only FAILED and LIMITED count against a source."""

    OK = "ok"
    EMPTY = "empty"  # the source knows the symbol, and has nothing for that time
    CLOSED = "closed"  # nobody trades now, so nothing newer can be there
    LIMITED = "limited"  # the source refuses more requests for now
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Misfit:
    """Say what of an answer could not be mapped: the row's number, the field, and why."""

    row: int
    field: str
    why: str


@dataclass(frozen=True, slots=True)
class Page:
    """Hold what one document of a source says.

    Attributes:
        outcome: never CLOSED, which no document says.
        reason: why, in one word or in the source's own words; empty for OK.
        records: in the order of the document.
        misfits: what is no record, the first hundred.
        missing: how many rows have no value, as the source itself marks them.
        next_page: how to ask for more: a token, or an address; None on the last page.
    """

    outcome: AnswerStatus
    reason: str = ""
    records: tuple[Record, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    missing: int = 0
    next_page: str | None = field(default=None, repr=False)  # a token may be a secret
