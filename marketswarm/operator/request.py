"""Define an operator's request to the notifier, and the answers to it.

A request goes to every bus that accepts it, under one id, and is handled once. Its answers are lines
under a key of its own: one for each channel, or one in all. The last line is marked `done`.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.operator.fields import MAX_BYTES, STRICT, Epoch, Ident, Name, encode_fields

ALL: Final = "*"
"""As `what` of a request: every dead letter, or every channel."""
REQUESTS_KEPT: Final = 1_000
"""About how many entries the stream of requests is trimmed to."""
ANSWERS_KEPT_SEC: Final = 3_600
"""How long the answers to a request are kept, in seconds."""


class RequestKind(StrEnum):
    """The kinds of requests; each comment says what the request's `what` holds."""

    ACK = "ack"  # a service's name, or the id of an outage's event or message
    RESEND = "resend"  # the id of a message in `notifier:dead`, or ALL
    TEST = "test"  # the name of a channel, or ALL


MAX_RETRY_SEC: Final = 3_600.0
"""The longest pause of a channel that an answer may announce, in seconds."""
_VALID_FOR_SEC: Final = {RequestKind.ACK: 86_400.0, RequestKind.RESEND: 86_400.0, RequestKind.TEST: 60.0}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OperatorRequest:
    """A request of the operator `by`, made at `ts` (epoch seconds); `do` is its kind, `what` its object.

    Raises ValueError when a field is out of bounds.
    """

    id: Ident
    do: RequestKind
    what: Name
    by: Name
    ts: Epoch

    def is_expired(self, now: float) -> bool:
        """Return True if the request is too old to be handled at `now` (epoch seconds)."""
        return now - self.ts > _VALID_FOR_SEC[self.do]

    def encode(self) -> bytes:
        return encode_fields(self)

    @classmethod
    def parse(cls, raw: bytes) -> "OperatorRequest | None":
        """Return None if the JSON can't be parsed or is longer than MAX_BYTES."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            return _REQUEST_ADAPTER.validate_json(raw)
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Answer:
    """One line of the answer to a request.

    `channel` and its host `where` are empty when no channel is concerned. `ok` is True if the request
    succeeded, over this channel if there is one. `said` may be shown: it is the receiver's answer, or
    describes what was done. `done` marks the last line. A line with `retry_sec` above 0 is not an outcome:
    the channel is paused, and makes its next attempt after so many seconds. Raises ValueError when a field is
    out of bounds.
    """

    ok: bool
    said: Annotated[str, Field(max_length=1000)]
    channel: Annotated[str, Field(max_length=200)] = ""
    where: Annotated[str, Field(max_length=300)] = ""
    done: bool = False
    retry_sec: Annotated[float, Field(ge=0, le=MAX_RETRY_SEC, allow_inf_nan=False)] = 0.0

    def encode(self) -> bytes:
        return encode_fields(self)

    @classmethod
    def parse(cls, raw: bytes) -> "Answer | None":
        """Return None if the JSON can't be parsed or is longer than MAX_BYTES."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            return _ANSWER_ADAPTER.validate_json(raw)
        except ValidationError:
            return None


_REQUEST_ADAPTER: Final = TypeAdapter(OperatorRequest)
_ANSWER_ADAPTER: Final = TypeAdapter(Answer)
