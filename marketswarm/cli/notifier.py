"""Implement `marketswarm ack` and `notify test`: send requests to the notifier, print its answers.

A request is written to every bus that takes it, under one id; the notifier acts on it once and adds its
answers to a list of that id. `marketswarm resend` sends such a request too.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from marketswarm.bus import Bus, BusError
from marketswarm.cli import event_loop, output
from marketswarm.cli.fleet_view import FleetView, ask_buses, describe_refusals, open_fleet
from marketswarm.cli.options import DATA, WITHIN_SEC, By, Data, Within, author_name
from marketswarm.exit import Exit
from marketswarm.keys import NOTIFIER_REQUESTS, answers_key
from marketswarm.operator import ALL, Answer, OperatorRequest, RequestKind
from marketswarm.operator.request import REQUESTS_KEPT
from marketswarm.status import make_service_rows, read_fleet_state
from marketswarm.text import escape_text, format_duration

REFUSED: Final = 1
"""The exit code when the notifier, or a receiver, did not do what it was asked."""
_NOTIFIER: Final = "notifier"
_POLL_SEC: Final = 0.05
_MAX_ANSWERS: Final = 1_000


def ack(
    incident: Annotated[
        str, typer.Argument(metavar="INCIDENT", help="A service that is down, or the id of its miss.")
    ],
    by: By = None,
    within: Within = WITHIN_SEC,
    data: Data = DATA,
) -> None:
    """Say that somebody sees to an outage: no reminders and no escalation until it is over."""
    request_notifier(RequestKind.ACK, incident, author_name(by), within, data)


def notify_test(
    channel: Annotated[
        str | None, typer.Argument(metavar="[CHANNEL]", help="One channel; all without it.")
    ] = None,
    by: By = None,
    within: Within = WITHIN_SEC,
    data: Data = DATA,
) -> None:
    """Send a test message through the notifier's own queue, and show what each receiver answered.

    A channel that is paused after failures is waited for: its next attempt sends the message.
    """
    request_notifier(RequestKind.TEST, channel or ALL, author_name(by), within, data)


def request_notifier(action: RequestKind, what: str, by: str, within_sec: float, data: Path) -> None:
    """Send one request to the notifier of a fleet and print each answer.

    Raises BadParameter if `what` is no possible name; Exit with code 1 if the request was refused or not
    answered within `within_sec`, and with code 3 if no bus takes it.
    """
    try:
        request = OperatorRequest(id=secrets.token_hex(6), do=action, what=what, by=by, ts=time.time())
    except ValueError:
        raise typer.BadParameter("it has 1 to 200 letters") from None
    event_loop.run(_request(request, within_sec, data))


async def _request(request: OperatorRequest, within_sec: float, data: Path) -> None:
    """Write a request to every bus and print its answers.

    Raises Exit: code 1 unless all answers are ok, code 3 if no bus takes the request.
    """
    async with open_fleet(data) as fleet:
        taken, failed = await ask_buses(
            fleet.buses(),
            lambda bus: bus.client.xadd(
                NOTIFIER_REQUESTS, {"ask": request.encode()}, maxlen=REQUESTS_KEPT, approximate=True
            ),
        )
        for line in describe_refusals(failed):
            output.print_line(line)
        buses = [bus for bus in fleet.buses() if bus.name in taken]
        answers = await _collect_answers(buses, request.id, within_sec, _print_answer)
        if not answers or not answers[-1].done:
            raise Exit(REFUSED, await _describe_no_answer(fleet, request, within_sec, answers))
    if not all(answer.ok for answer in answers):
        raise Exit(REFUSED, "")


async def _collect_answers(
    buses: Sequence[Bus], request_id: str, within_sec: float, show: Callable[[Answer], None]
) -> list[Answer]:
    """Return the answers up to the last one, or those that arrive in time; call `show` with each.

    The wait ends after `within_sec`; an answer that announces an attempt extends it to `within_sec` after
    that attempt.
    """
    found: list[Answer] = []
    deadline = time.monotonic() + within_sec
    while True:
        for answer in _find_new_answers(await _read_answers(buses, request_id), found):
            found.append(answer)
            show(answer)
            if answer.retry_sec:
                deadline = max(deadline, time.monotonic() + answer.retry_sec + within_sec)
        # from several buses, the last one may come before another
        found.sort(key=lambda answer: answer.done)
        if (found and found[-1].done) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_POLL_SEC)


def _find_new_answers(by_bus: Sequence[Sequence[Answer]], known: Sequence[Answer]) -> list[Answer]:
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
    """Read the answers to a request from each bus; a bus that fails has none."""

    async def read_one(bus: Bus) -> list[Answer]:
        """Return the answers on one bus, without unreadable ones; none if the bus fails."""
        try:
            raw = await bus.ask(bus.client.lrange(answers_key(request_id), 0, _MAX_ANSWERS))
        except BusError:
            return []  # it took the request; another bus may have the answer
        return [answer for answer in map(Answer.parse, raw) if answer is not None]

    return await asyncio.gather(*map(read_one, buses))


def _print_answer(answer: Answer) -> None:
    """Print one line for an answer: `✓ slack (hooks.slack.com): 200 ok`."""
    if not answer.said and not answer.channel:
        return
    where = f" ({answer.where})" if answer.where and answer.where != answer.channel else ""
    head = f"{answer.channel}{where}: " if answer.channel else ""
    mark, more = "✓" if answer.ok else "✗", ""
    if answer.retry_sec:
        mark, more = "·", f"; next attempt in {format_duration(round(answer.retry_sec))}, waiting for it"
    output.print_line(escape_text(f"{mark} {head}{answer.said}{more}"))


async def _describe_no_answer(
    fleet: FleetView, request: OperatorRequest, within_sec: float, answers: Sequence[Answer]
) -> str:
    """Return why the last answer is missing, as far as the notifier's beats show it."""
    within = f"within {format_duration(within_sec)}"
    stays = (
        "" if request.do is RequestKind.TEST else ". It stays asked: one that runs again within a day does it"
    )
    if answers:
        return f"the notifier did not finish {within}"
    if fleet.found is None or _NOTIFIER not in fleet.truth.services:
        return f"no notifier answered {within}, and no truth names one{stays}"
    state, _ = await read_fleet_state(fleet.truth, fleet.bus)
    row = next(row for row in make_service_rows(fleet.truth, state) if row.svc == _NOTIFIER)
    if row.silence_sec is None or row.silence_sec > row.timeout_sec or row.status == "stopping":
        return f"no notifier runs: `python -m notifier` is one, and `make run` starts it{stays}"
    beat = f"its last beat was {format_duration(row.silence_sec)} ago"
    return f"the notifier did not answer {within}, though it runs ({beat}){stays}"
