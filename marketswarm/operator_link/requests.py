"""Send requests to the notifier, and collect its answers.

A request is written to every bus that takes it, under one id; the notifier acts on it once and adds its
answers to a list of that id.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from marketswarm.bus import Bus, BusError
from marketswarm.keys import NOTIFIER_REQUESTS, answers_key
from marketswarm.operator import Answer, OperatorRequest, RequestKind
from marketswarm.operator.request import REQUESTS_KEPT
from marketswarm.operator_link.buses import ask_buses

_POLL_SEC: Final = 0.05
_MAX_ANSWERS: Final = 1_000


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
    taken, failed = await ask_buses(
        buses,
        lambda bus: bus.client.xadd(
            NOTIFIER_REQUESTS, {"ask": request.encode()}, maxlen=REQUESTS_KEPT, approximate=True
        ),
    )
    return tuple(bus for bus in buses if bus.name in taken), failed


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
