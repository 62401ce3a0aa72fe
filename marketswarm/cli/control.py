"""Implement `marketswarm stop`, `start` and `kill`: control an agent of the embedded fleet here.

`simulate` causes one outage with them, so that a newcomer sees a miss and an ok.
"""

import asyncio
import contextlib
import math
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Final

from marketswarm.bus import Bus, BusError
from marketswarm.cli import event_loop, output
from marketswarm.cli.alerts import follow_log, format_event_line
from marketswarm.cli.data_folder import DATA, suggest_command
from marketswarm.cli.fleet_view import FleetView, ask_fleet
from marketswarm.cli.local_time import format_time
from marketswarm.cli.options import Data, Json, Svc, flag
from marketswarm.exit import Code, Exit, Mistake
from marketswarm.fleet import data_folder
from marketswarm.fleet_control import NoFleetError, send_request
from marketswarm.status.fleet_state import read_beats
from marketswarm.status.service_rows import derive_silence
from marketswarm.tasks import end_tasks
from marketswarm.text import format_duration
from marketswarm.truth import describe_unknown

_EXTRA_WAIT_SEC: Final = 10.0
_START_WITHIN_SEC: Final = 60.0  # a container on a busy machine takes longer to start than to fall silent
_CLEAR_LINE: Final = "\r\x1b[K"

_Control = Callable[[str, str, Path], str]
"""Stops or starts a service: takes the action, the service and the data folder, returns what to print."""


def stop(svc: Svc, data: Data = DATA) -> None:
    """Stop an agent of the embedded fleet; it stays stopped until `start`."""
    output.print_line(request_fleet("stop", svc, data))


def start(svc: Svc, data: Data = DATA) -> None:
    """Start an agent of the embedded fleet: stopped, waiting for its restart, or seeded later."""
    output.print_line(request_fleet("start", svc, data))


def kill(svc: Svc, data: Data = DATA) -> None:
    """Kill an agent of the embedded fleet (-9); it is started again once it was missed."""
    output.print_line(request_fleet("kill", svc, data))


def simulate(
    svc: Svc,
    by_hand: Annotated[
        bool, flag("--by-hand", "Say when to stop it and when to start it; somebody else does.")
    ] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Stop an agent, wait for its miss, start it, wait for its ok.

    Says which last beat the miss counts from, and counts down to it on a terminal. Ctrl-C, SIGTERM and SIGHUP
    start the agent again; after Ctrl-C it ends with 130. JSON is a line for each of the two: the alert as
    `event`, and `after_sec`, the seconds from the stop to the miss and from the start to the ok.
    """
    if "/" in svc:
        all_of_them = suggest_command(f"simulate {svc.partition('/')[0]}", data)
        raise Mistake(
            f"{svc} is one of several: it is not missed while another one beats. {all_of_them} stops them "
            f"all, {suggest_command(f'stop {svc}', data)} this one alone",
        )
    try:
        ask_fleet(
            data,
            lambda fleet: _simulate(svc, fleet, by_hand=by_hand, as_json=as_json),
            event_loop.run_until_signal,
        )
    except KeyboardInterrupt:
        raise Exit(event_loop.INTERRUPTED, "") from None


async def _simulate(svc: str, fleet: FleetView, *, by_hand: bool, as_json: bool) -> None:
    print_step: Callable[[str], None] = output.print_aside if as_json else output.print_line
    print_event = _print_event_as_json if as_json else _print_event
    control: _Control = (lambda action, svc, _: f"{action} {svc} now") if by_hand else request_fleet
    truth, data = fleet.truth, fleet.data
    if svc not in truth.services:
        raise Mistake(describe_unknown(svc, truth.services))
    timeout_sec = truth.timeout_of(svc)
    within_sec = 2 * timeout_sec + _EXTRA_WAIT_SEC
    events = await follow_log([fleet.bus(truth.alert_target("")[0])])
    async with contextlib.aclosing(events):
        stopped_at = time.monotonic()
        print_step(control("stop", svc, data))
        try:
            # one that is stopped by hand may still be running, and beat again
            bus = fleet.bus(truth.bus_of(svc))
            silence_sec = None if by_hand else await _read_silence(bus, svc, timeout_sec)
            print_step(_describe_wait(silence_sec, timeout_sec))
            async with _show_countdown(None if silence_sec is None else timeout_sec - silence_sec):
                miss = await _wait_for_event(events, svc, "_miss", within_sec, data)
            print_event(miss, stopped_at, "stop")
        finally:
            started_at = time.monotonic()
            print_step(control("start", svc, data))
        within_sec = max(within_sec, _START_WITHIN_SEC)
        print_event(await _wait_for_event(events, svc, "_ok", within_sec, data), started_at, "start")


def request_fleet(action: str, svc: str, data: Path) -> str:
    """Ask the embedded fleet in folder `data` to stop, start or kill an agent; return its answer."""
    fleet = data_folder.find_fleet(data)
    if fleet is None:
        raise Mistake(
            f"no embedded fleet runs in {data}\n"
            f"Start one here:     {suggest_command('up', data).strip('`')}\n"
            f"In another folder:  --data DIR\n"
            f"In containers:      docker compose {action} {svc}",
        )
    try:
        done, answer = send_request(fleet.control, action, svc)
    except NoFleetError as error:
        raise Mistake(f"the fleet (pid {fleet.pid}) did not answer: {error}") from None
    if not done:
        raise Mistake(answer)
    return answer


async def _read_silence(bus: Bus, svc: str, timeout_sec: float) -> float | None:
    try:
        stored = (await read_beats(bus, [svc], with_runs=False))[svc]
    except BusError:
        return None
    return derive_silence(stored.ttl_sec, timeout_sec, stored.beat)


def _describe_wait(silence_sec: float | None, timeout_sec: float) -> str:
    timeout = format_duration(timeout_sec)
    if silence_sec is None:
        return f"the healer misses it {timeout} after its last beat"
    last = format_time(time.time() - silence_sec)
    left = format_duration(max(0.0, timeout_sec - silence_sec))
    return f"its last beat was at {last}: the healer misses it {timeout} after that, in {left}"


@contextlib.asynccontextmanager
async def _show_countdown(left_sec: float | None) -> AsyncIterator[None]:
    if left_sec is None or not sys.stderr.isatty():
        yield
        return
    counting = asyncio.ensure_future(_count_down(time.monotonic() + left_sec))
    try:
        yield
    finally:
        await end_tasks(counting)
        sys.stderr.write(_CLEAR_LINE)
        sys.stderr.flush()


async def _count_down(until: float) -> None:
    while True:
        left_sec = until - time.monotonic()
        words = f"{math.ceil(left_sec)} s to the miss" if left_sec > 0 else "the miss is due"
        sys.stderr.write(f"{_CLEAR_LINE}{words}")
        sys.stderr.flush()
        await asyncio.sleep(left_sec % 1 or 1.0)


def _print_event_as_json(event: dict[str, Any], since: float, _action: str) -> None:
    output.print_json({"event": event, "after_sec": round(time.monotonic() - since, 3)})


def _print_event(event: dict[str, Any], since: float, action: str) -> None:
    waited = format_duration(time.monotonic() - since)
    output.print_line(f"{format_event_line(event)[0]}   [{waited} after the {action}]")


async def _wait_for_event(
    events: AsyncGenerator[tuple[bytes, dict[str, Any]], None],
    svc: str,
    ending: str,
    within_sec: float,
    data: Path,
) -> dict[str, Any]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_sec):
            async for _, event in events:
                if event.get("svc") == svc and str(event.get("type")).endswith(ending):
                    return event
    why = f"does the healer run? {suggest_command('status', data)}"
    raise Exit(Code.DIED, f"no {ending} of {svc} within {within_sec:.0f} s; {why}")
