"""Implement `marketswarm ack` and `notify test`: send requests to the notifier, print its answers.

`marketswarm resend` sends such a request too.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from marketswarm.cli import output
from marketswarm.cli.completion import complete_channel
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet, describe_refusals
from marketswarm.cli.options import (
    WITHIN_SEC,
    By,
    Data,
    Json,
    Within,
    argument,
    author_name,
    service_argument,
)
from marketswarm.cli.output import pick
from marketswarm.exit import Exit
from marketswarm.operator.requests import (
    ALL,
    MAX_LEFT,
    Answer,
    OperatorRequest,
    RequestKind,
    collect_answers,
    create_request,
    send_request,
)
from marketswarm.text import escape_text, format_duration

REFUSED: Final = 1
"""The exit code when the notifier, or a receiver, did not do what it was asked."""
_NOTIFIER: Final = "notifier"


def ack(
    incident: Annotated[str, service_argument("INCIDENT", "A service that is down, or the id of its miss.")],
    by: By = None,
    within: Within = WITHIN_SEC,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Say that somebody sees to an outage: no reminders and no escalation until it ends.

    JSON is the same as for `notify test`.
    """
    request_notifier(RequestKind.ACK, incident, author_name(by), within, data, as_json=as_json)


def notify_test(
    channel: Annotated[
        str | None, argument("[CHANNEL]", "One channel; all without it.", autocompletion=complete_channel)
    ] = None,
    by: By = None,
    within: Within = WITHIN_SEC,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Send a test message through the notifier's own queue, and show what each receiver answered.

    A channel that is paused after failures is waited for: its next attempt sends the message. JSON has the
    `id` of the request, whether the notifier has `done` it, and its `answers`: `ok`, `said`, `channel`,
    `where` and `retry_sec` of each.
    """
    request_notifier(RequestKind.TEST, channel or ALL, author_name(by), within, data, as_json=as_json)


def request_notifier(
    action: RequestKind, what: str, by: str, within_sec: float, data: Path, *, as_json: bool = False
) -> None:
    """Send one request to the notifier of a fleet and print each answer, or all of them as JSON at the end.

    Raises Exit, code 1, if the request was refused or not answered within `within_sec`.
    """
    try:
        request = create_request(action, what, by, time.time())
    except ValueError:
        raise typer.BadParameter("it has 1 to 200 letters") from None
    ask_fleet(data, lambda fleet: _request_all(request, within_sec, fleet, as_json=as_json))


async def _request_all(
    request: OperatorRequest, within_sec: float, fleet: FleetView, *, as_json: bool
) -> None:
    """Send a request, and another one like it for what it left, as long as all that was sent is accepted."""
    left_before = MAX_LEFT + 1
    while True:
        answers = await _request(request, within_sec, fleet, as_json=as_json)
        left = max(answer.left for answer in answers)
        if left >= left_before or not all(answer.ok or answer.left for answer in answers):
            raise Exit(REFUSED, _describe_left(left, fleet) if left else "")
        if not left:
            return
        left_before, request = left, create_request(request.do, request.what, request.by, time.time())


async def _request(
    request: OperatorRequest, within_sec: float, fleet: FleetView, *, as_json: bool
) -> list[Answer]:
    """Send one request, show its answers, and return them. Raises Exit, code 1, if the last is missing."""
    buses, failed = await send_request(fleet.buses(), request)
    if not as_json:
        output.print_lines(describe_refusals(failed))
    show: Callable[[Answer], None] = (lambda _: None) if as_json else _print_answer
    answers = await collect_answers(buses, request.id, within_sec, show)
    is_done = bool(answers) and answers[-1].done
    if as_json:
        said = [pick(each, "ok", "said", "channel", "where", "retry_sec") for each in answers]
        output.print_json({"id": request.id, "done": is_done, "answers": said, "failed": failed})
    if not is_done:
        raise Exit(REFUSED, await _describe_no_answer(fleet, request, within_sec, answers))
    return answers


def _describe_left(left: int, fleet: FleetView) -> str:
    dead = suggest_command("dead", fleet.data)
    return f"{left} more are not sent yet: {dead} shows them"


def _print_answer(answer: Answer) -> None:
    """Print one line for an answer: `✓ slack (hooks.slack.com): 200 ok`."""
    if not answer.said and not answer.channel:
        return
    where = f" ({answer.where})" if answer.where and answer.where != answer.channel else ""
    head = f"{answer.channel}{where}: " if answer.channel else ""
    mark, more = "✓" if answer.ok else "✗", ""
    if answer.left:
        mark = "·"
    elif answer.retry_sec:
        mark, more = "·", f"; next attempt in {format_duration(round(answer.retry_sec))}, waiting for it"
    output.print_line(escape_text(f"{mark} {head}{answer.said}{more}"))


async def _describe_no_answer(
    fleet: FleetView, request: OperatorRequest, within_sec: float, answers: Sequence[Answer]
) -> str:
    within = f"within {format_duration(within_sec)}"
    stays = (
        "" if request.do is RequestKind.TEST else ". It stays asked: one that runs again within a day does it"
    )
    if answers:
        return f"the notifier did not finish {within}"
    if fleet.found is None or _NOTIFIER not in fleet.truth.services:
        return f"no notifier answered {within}, and no truth names one{stays}"
    # most requests are answered, and need nothing of these
    from marketswarm.status.fleet_state import read_fleet_state  # noqa: PLC0415
    from marketswarm.status.service_rows import make_service_rows  # noqa: PLC0415

    state, _ = await read_fleet_state(fleet.truth, fleet.bus)
    row = next(row for row in make_service_rows(fleet.truth, state) if row.svc == _NOTIFIER)
    if row.silence_sec is None or row.silence_sec > row.timeout_sec or row.status == "stopping":
        return f"no notifier runs: `python -m notifier` is one, and `make run` starts it{stays}"
    beat = f"its last beat was {format_duration(row.silence_sec)} ago"
    return f"the notifier did not answer {within}, though it runs ({beat}){stays}"
