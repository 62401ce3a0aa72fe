"""What a person asks of the notifier, and what it answers.

An ask goes to every bus that takes it, under one id, and is to be done once. Answers are lines under the
ask's own key, one for each thing done, as they come; the last one says that it is.
"""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.operator.fields import MAX_BYTES, STRICT, Epoch, Ident, Name, encode_fields

ALL: Final = "*"
"""As `what` of an ask: every dead message, or every channel."""


class RequestKind(StrEnum):
    """What can be asked for, and what `what` is then."""

    ACK = "ack"  # a service's name, or the id of the event that is seen to
    RESEND = "resend"  # the id of a message in `notifier:dead`, or ALL
    TEST = "test"  # the name of a channel, or ALL


_GOOD_FOR_SEC: Final = {RequestKind.ACK: 86_400.0, RequestKind.RESEND: 86_400.0, RequestKind.TEST: 60.0}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OperatorRequest:
    """Something asked of the notifier at `ts`, epoch seconds, by `by`, a person's name."""

    id: Ident
    do: RequestKind
    what: Name
    by: Name
    ts: Epoch

    def lapsed(self, now: float) -> bool:
        """Whether nobody expects it to be done any more, at `now`, epoch seconds: a test is of the moment."""
        return now - self.ts > _GOOD_FOR_SEC[self.do]

    def encode(self) -> bytes:
        """As JSON."""
        return encode_fields(self)

    @classmethod
    def parse(cls, raw: bytes) -> "OperatorRequest | None":
        """Reads one back; None when the bytes are none."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            return _ASK.validate_json(raw)
        except ValidationError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Answer:
    """One line of what came of an ask.

    `channel` and its host `where` are empty when no channel had to do with it. `said` is fit to be shown:
    what the receiver answered, or what was done or not. `done` marks the last line.
    """

    ok: bool
    said: Annotated[str, Field(max_length=1000)]
    channel: Annotated[str, Field(max_length=200)] = ""
    where: Annotated[str, Field(max_length=300)] = ""
    done: bool = False

    def encode(self) -> bytes:
        """As JSON."""
        return encode_fields(self)

    @classmethod
    def parse(cls, raw: bytes) -> "Answer | None":
        """Reads one back; None when the bytes are none."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            return _ANSWER.validate_json(raw)
        except ValidationError:
            return None


_ASK: Final = TypeAdapter(OperatorRequest)
_ANSWER: Final = TypeAdapter(Answer)
