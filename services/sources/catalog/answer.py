"""Define the answers of a source: what came, what did not fit, and which requests were sent. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from services.market.records import Adjustment, Record, VolumeKind

NO_KEY: Final = "no_key"
"""The reason of an answer that FAILED, since the source needs a key and there is none."""
NOT_SERVED: Final = "not_served"
"""The reason of an answer that FAILED, since the source does not have what was asked for."""


class AnswerStatus(StrEnum):
    """Name the answers to a question. Only FAILED and LIMITED count against a source."""

    OK = "ok"
    EMPTY = "empty"  # the source knows the symbol, and has nothing for that time
    REFUSED = "refused"  # it does not take the question, as for a misspelled or delisted symbol
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
        outcome: OK also if only some rows fit.
        reason: why, in one word or in the source's own words; empty for OK.
        records: in the order of the document.
        misfits: what is not a record, the first hundred.
        missing: how many rows have no value, as the source itself marks them.
        next_page: how to ask for more: a token, or an address; None on the last page.
        unknown_actions: how many rows are of actions of a kind that no record can hold, by kind.
    """

    outcome: AnswerStatus
    reason: str = ""
    records: tuple[Record, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    missing: int = 0
    next_page: str | None = field(default=None, repr=False)  # a token may be a secret
    unknown_actions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """Hold what a source answered to a question.

    Attributes:
        outcome: OK if there are records.
        reason: why, in one word or in the source's own; empty for OK.
        records: bars and observations of the time that was asked for, oldest first, each once; quotes.
        missing: how many rows have no value, by the source's own word.
        unknown_actions: how many rows are of actions of a kind that no record can hold, by kind.
        asked_at: when the first request was sent, in epoch seconds.
        digest: the SHA-256 of all bodies, as hexadecimal digits; empty where none came.
        wait_sec: for LIMITED and an open breaker: after how many seconds to ask again.
        is_replay: whether the records were played from a recording, and must be marked as such.
        played_at: of a replay the time of the recording's clock, in epoch seconds; otherwise 0.
        parts_left: how many parts of the question have no answer, most often since the limits allow no more.
        since_ms: of a question for a history: from when on it is answered, in epoch milliseconds. None if no
            part of it is.
        min_interval_sec: for how long this answer counts at least, by the source's file.
        delay_sec: how long after its end a day is complete, by the source's file; None if that says nothing.
        lacks_optional: whether an optional question of its file had no answer: what that had is left out.
        is_untimed: whether its quotes may have no time but that at which they were asked for.
        is_utc_days: whether days end at midnight of UTC, by the source's file.
        adjustment: for what its bars are adjusted, by the source's file; RAW of all but stocks.
        volume_kind: whose trades the volume of its bars counts, by the source's file.
    """

    source: str
    outcome: AnswerStatus
    reason: str = ""
    records: tuple[Record, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    missing: int = 0
    asked_at: float = 0.0
    digest: str = ""
    wait_sec: float = 0.0
    is_replay: bool = False
    played_at: float = 0.0
    parts_left: int = 0
    since_ms: int | None = None
    min_interval_sec: float = 0.0
    delay_sec: float | None = None
    is_utc_days: bool = False
    adjustment: Adjustment = Adjustment.RAW
    volume_kind: VolumeKind | None = None
    is_untimed: bool = False
    lacks_optional: bool = False
    unknown_actions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentRequest:
    """Hold one request and what came back, for those who keep account of them.

    `url` has no key, `body` is as it came. `status` is 0 where nothing came. `outcome`, `reason` and the
    number of `records` are what the body was read as. `is_replay` says that a recording answered, and nothing
    outside was asked.
    """

    source: str
    url: str
    took_sec: float
    status: int = 0
    body: bytes = field(default=b"", repr=False)
    asked_at: float = 0.0
    outcome: AnswerStatus = AnswerStatus.FAILED
    reason: str = ""
    records: int = 0
    is_replay: bool = False
