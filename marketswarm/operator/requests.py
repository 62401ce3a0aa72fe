"""Define an operator's requests to the notifier and the answers to them; send requests, and collect answers.

A request goes to every bus that accepts it, under one id, and is handled once. Its answers are lines
under a key of its own: one for each channel, or one in all. The last line is marked `done`.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import replace_unusable
from marketswarm.keys import NOTIFIER_REQUESTS, answers_key
from marketswarm.operator.buses import ask_buses
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name

ALL: Final = "*"
"""As `what` of a request: every dead letter, or every channel."""
REQUESTS_KEPT: Final = 1_000
"""About how many entries the stream of requests is trimmed to."""
ANSWERS_KEPT_SEC: Final = 3_600
"""How long the answers to a request are kept, in seconds."""
_POLL_SEC: Final = 0.05
_MAX_ANSWERS: Final = 1_000
MAX_RETRY_SEC: Final = 3_600.0
"""The longest pause of a channel that an answer may announce, in seconds."""
MAX_LEFT: Final = 1_000_000
"""The most dead letters that an answer may say are left; the notifier reads 2,000 of a bus."""


class RequestKind(StrEnum):
    """The kinds of requests; each comment says what the request's `what` holds."""

    ACK = "ack"  # a service's name, or the id of an outage's event or message
    RESEND = "resend"  # the id of a message in `notifier:dead`, or ALL
    TEST = "test"  # the name of a channel, or ALL


_VALID_FOR_SEC: Final = {RequestKind.ACK: 86_400.0, RequestKind.RESEND: 86_400.0, RequestKind.TEST: 60.0}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OperatorRequest(JsonRecord):
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


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Answer(JsonRecord):
    """One line of the answer to a request.

    `channel` and its host `where` are empty when no channel is concerned. `ok` is True if the request
    succeeded, over this channel if there is one. `said` may be shown; it is the receiver's answer, or
    describes what was done. `done` marks the last line. A line with `retry_sec` above 0 is not an outcome:
    the channel is paused, and makes its next attempt after so many seconds. One with `left` above 0 says how
    many dead letters are left for another request; it is no outcome either. Raises ValueError when a field is
    out of bounds.
    """

    ok: bool
    said: Annotated[str, Field(max_length=1000)]
    channel: Annotated[str, Field(max_length=200)] = ""
    where: Annotated[str, Field(max_length=300)] = ""
    done: bool = False
    retry_sec: Annotated[float, Field(ge=0, le=MAX_RETRY_SEC, allow_inf_nan=False)] = 0.0
    left: Annotated[int, Field(ge=0, le=MAX_LEFT)] = 0


def create_request(kind: RequestKind, what: str, by: str, now: float) -> OperatorRequest:
    """Return a request with a new id, made at `now` (epoch seconds).

    Raises ValidationError if a part is out of bounds.
    """
    return OperatorRequest(id=secrets.token_hex(6), do=kind, what=what, by=by, ts=now)


async def send_request(
    buses: Sequence[Bus], request: OperatorRequest
) -> tuple[tuple[Bus, ...], dict[str, str]]:
    """Write a request to every bus; return the buses that took it, and the reasons of the others.

    Raises NoBusError if no bus takes it.
    """
    taken, failed = await ask_buses(buses, lambda bus: _add_request(bus, request))
    return tuple(bus for bus in buses if bus.name in taken), failed


async def _add_request(bus: Bus, request: OperatorRequest) -> None:
    """Write a request to a bus; recreate a stream that has ended, without the others. Raises BusError."""

    def add() -> Awaitable[Any]:
        fields: dict[Any, Any] = {"ask": request.encode()}
        return bus.client.xadd(NOTIFIER_REQUESTS, fields, maxlen=REQUESTS_KEPT, approximate=True)

    try:
        await bus.ask(add())
    except BusError as error:
        if not await replace_unusable(error, bus, {NOTIFIER_REQUESTS: "stream"}):
            raise
        await bus.ask(add())


async def collect_answers(
    buses: Sequence[Bus],
    request_id: str,
    within_sec: float,
    show: Callable[[Answer], None] = lambda _answer: None,
) -> list[Answer]:
    """Return the answers up to the last one, or those that arrive in time; call `show` with each.

    The wait ends after `within_sec`; an answer that announces an attempt extends it to `within_sec` after
    that attempt. The last answer that is returned is `done` unless the time ran out.
    """
    found: list[Answer] = []
    deadline = time.monotonic() + within_sec
    while True:
        for answer in _new_answers(await _read_answers(buses, request_id), found):
            found.append(answer)
            show(answer)
            if answer.retry_sec:
                deadline = max(deadline, time.monotonic() + answer.retry_sec + within_sec)
        # from several buses, the last one may come before another
        found.sort(key=lambda answer: answer.done)
        if (found and found[-1].done) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_POLL_SEC)


def _new_answers(by_bus: Sequence[Sequence[Answer]], known: Sequence[Answer]) -> list[Answer]:
    """Return the answers beyond `known`, each as often as the bus with the most of it has it.

    Each bus holds all or some of the answers; several may be equal.
    """
    counted, new = Counter(known), list[Answer]()
    for answers in by_bus:
        here = Counter[Answer]()
        for answer in answers:
            here[answer] += 1
            if here[answer] > counted[answer]:
                counted[answer] += 1
                new.append(answer)
    return new


async def _read_answers(buses: Sequence[Bus], request_id: str) -> list[list[Answer]]:
    async def read_one(bus: Bus) -> list[Answer]:
        """Return the answers on one bus, without unreadable ones; none if the bus fails."""
        try:
            raw = await bus.ask(bus.client.lrange(answers_key(request_id), 0, _MAX_ANSWERS))
        except BusError:
            return []  # it took the request; another bus may have the answer
        return [answer for answer in map(Answer.parse, raw) if answer is not None]

    return await asyncio.gather(*map(read_one, buses))
