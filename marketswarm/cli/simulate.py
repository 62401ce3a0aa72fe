"""`marketswarm simulate`: one outage from beginning to end, so that a newcomer sees a miss and an ok."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from marketswarm.cli import event_loop, output
from marketswarm.cli.alerts import follow_log
from marketswarm.cli.control import request_fleet
from marketswarm.cli.event_text import describe_event
from marketswarm.cli.fleet_view import open_fleet
from marketswarm.cli.options import DATA, Data, Svc
from marketswarm.exit import Code, Exit
from marketswarm.text import format_duration
from marketswarm.truth import Truth, nearest

_EXTRA_WAIT_SEC: Final = 10.0

_Control = Callable[[str, str, Path], str]
"""Stops or starts a service: takes the action, the service and the data folder, returns what to print."""


def simulate(
    svc: Svc,
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Say when to stop it and when to start it; somebody else does.")
    ] = False,
    data: Data = DATA,
) -> None:
    """Stop an agent, wait for its miss, start it, wait for its ok.

    Ctrl-C starts it again and ends with 130.
    """
    if "/" in svc:
        raise Exit(
            Code.CONFIGURATION,
            f"{svc} is one of several: it is not missed while another one beats. `marketswarm simulate "
            f"{svc.partition('/')[0]}` stops them all, `marketswarm stop {svc}` this one alone",
        )
    try:
        event_loop.run(_simulate(svc, data, _instruct_person if by_hand else request_fleet))
    except KeyboardInterrupt:
        raise Exit(event_loop.INTERRUPTED, "") from None


async def _simulate(svc: str, data: Path, control: _Control) -> None:
    async with open_fleet(data) as fleet:
        truth = fleet.truth
        _require_service(svc, truth)
        timeout_sec = truth.timeout_of(svc)
        within_sec = 2 * timeout_sec + _EXTRA_WAIT_SEC
        events = await follow_log([fleet.bus(truth.alert_target("")[0])])
        async with contextlib.aclosing(events):
            stopped_at = time.monotonic()
            output.print_line(control("stop", svc, data))
            try:
                output.print_line(f"the healer misses it after {format_duration(timeout_sec)} of silence")
                miss = await _wait_for_event(events, svc, "_miss", within_sec)
                _print_event(miss, stopped_at, "stop")
            finally:
                started_at = time.monotonic()
                output.print_line(control("start", svc, data))
            _print_event(await _wait_for_event(events, svc, "_ok", within_sec), started_at, "start")


def _instruct_person(action: str, svc: str, _data: Path) -> str:
    """Return what a person, or tools/fleet.sh, is to do: for --by-hand."""
    return f"{action} {svc} now"


def _print_event(event: dict[str, Any], since: float, action: str) -> None:
    waited = format_duration(time.monotonic() - since)
    output.print_line(f"{describe_event(event)}   [{waited} after the {action}]")


def _require_service(svc: str, truth: Truth) -> None:
    """Raise Exit, code 2, for a service that the truth does not name: the healer would not miss it."""
    if svc not in truth.services:
        hint = nearest(svc, truth.services)
        known = f"did you mean {hint}?" if hint else f"it names {', '.join(truth.services) or 'none'}"
        raise Exit(Code.CONFIGURATION, f"the truth names no {svc}; {known}")


async def _wait_for_event(
    events: AsyncGenerator[tuple[bytes, dict[str, Any]], None], svc: str, ending: str, within_sec: float
) -> dict[str, Any]:
    """Return the next event on that service whose type has that ending.

    Raises:
        Exit: code 5, when none comes within the time.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_sec):
            async for _, event in events:
                if event.get("svc") == svc and str(event.get("type")).endswith(ending):
                    return event
    raise Exit(Code.DIED, f"no {ending} of {svc} within {within_sec:.0f} s; does the healer run?")
