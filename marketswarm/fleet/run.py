"""`marketswarm up` from start to end: one fleet in one data folder, until a signal ends it."""

import asyncio
import os
import signal
import threading
import time
from typing import Any

from marketswarm.access.users import OPERATOR
from marketswarm.browser import open_in_browser
from marketswarm.exit import Exit, find_error
from marketswarm.fleet import data_folder
from marketswarm.fleet.control import ControlledAgents, serve_control_socket
from marketswarm.fleet.output import LineWriter, LogFileWriter, LogFormatter, Output
from marketswarm.fleet.plan import find_board_host, find_missed, format_board_url
from marketswarm.fleet.summary import SummaryFacts, describe_listening, format_summary
from marketswarm.fleet.supervisor import FleetSpec, FleetSupervisor
from marketswarm.tasks import run_until_first

_STDERR = 2


async def run_fleet(spec: FleetSpec, formatter: LogFormatter | None, facts: SummaryFacts) -> None:
    """Run the fleet until SIGINT, SIGTERM or SIGHUP; a second signal kills the children that still run.

    The data folder must be claimed. `formatter` is None to write JSON, which has no summary and so needs no
    `facts`. Raises Exit if the fleet could not be started; by then no child is left.
    """
    stop, kill = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def log_unwritable(error: OSError) -> None:
        """Log that log files can't be written."""
        path = str(error.filename or spec.data / "logs")
        output.log_event("logs.unwritable", "warning", path=path, why=error.strerror)

    # the writer's thread reports it
    logs = LogFileWriter(spec.data, lambda error: loop.call_soon_threadsafe(log_unwritable, error))
    lines = LineWriter(_STDERR, lambda: loop.call_soon_threadsafe(stop.set))
    output = Output(lines, formatter, logs)
    _handle_signals(stop, kill)
    address = data_folder.choose_control_address(spec.data)
    fleet = FleetSupervisor(spec, output.log_event, output.write_line, kill, address)
    buses = {bus.name: bus.url for bus in spec.plan.buses}
    agents = ControlledAgents(fleet.agents, fleet.add_service, data_folder.format_data_option(spec.data))
    try:
        async with fleet.supervise(), serve_control_socket(address, agents):
            by_bus = spec.access.find_files(OPERATOR) if spec.access else {}
            files = {bus: str(path) for bus, path in by_bus.items()}
            running = data_folder.RunningFleet(os.getpid(), address, buses, files, **_find_board(spec))
            data_folder.publish_fleet(spec.data, running)
            await run_until_first(_start_and_report(fleet, spec, output, facts, stop), stop.wait())
            output.log_event("fleet.stopping", agents=list(fleet.agents), servers=list(fleet.servers))
        output.log_event("fleet.stopped")
    except BaseExceptionGroup as group:
        raise (find_error(group, Exit) or group) from None
    finally:
        data_folder.withdraw_fleet(spec.data)
        lines.close()
        logs.close()


def _find_board(spec: FleetSpec) -> dict[str, str]:
    """Return the fields of a running fleet that say where its board is; none without one."""
    port = next((agent.board_port for agent in spec.plan.agents if agent.board_port), None)
    if port is None:
        return {}
    found = {"board": format_board_url(port, find_board_host(os.environ))}
    if spec.listening is not None:
        found["shared_board"] = spec.listening.format_board_url(port)
        found["certificate"] = str(spec.listening.certificate.shared.absolute())
    return found


async def _start_and_report(
    fleet: FleetSupervisor, spec: FleetSpec, output: Output, facts: SummaryFacts, stop: asyncio.Event
) -> None:
    """Start the fleet, report that it is up, and wait for `stop`."""
    begun = time.monotonic()
    _report_plan(spec, output)
    await fleet.start_all()
    agents = await fleet.wait_until_up()
    if output.is_for_people:
        output.print_lines(format_summary(spec, agents, fleet.seeding_output, facts, time.monotonic()))
    else:
        urls = {bus.name: bus.url for bus in spec.plan.buses if bus.port is not None}
        took_sec = round(time.monotonic() - begun, 3)
        metrics = {agent.name: agent.metrics_port for agent in spec.plan.agents if agent.metrics_port}
        optional: dict[str, Any] = {"metrics": metrics} if metrics else {}
        output.log_event("fleet.up", agents=agents, buses=urls, took_sec=took_sec, **optional)
        if spec.listening is not None:
            output.log_event("fleet.listening", **describe_listening(spec, facts))
    board = _find_board(spec).get("board")
    if facts.opens_board and board is not None:
        # a thread that nobody waits for: a browser in the terminal takes as long as the person wants
        threading.Thread(target=open_in_browser, args=(board,), daemon=True).start()
    await stop.wait()


def _report_plan(spec: FleetSpec, output: Output) -> None:
    plan = spec.plan
    output.log_event("fleet.starting", agents=[agent.name for agent in plan.agents], data=str(spec.data))
    for bus in plan.buses:
        if bus.port is None:
            output.log_event(
                "bus.external", bus=bus.name, why="the environment or the truth says where it is"
            )
    if plan.elsewhere:
        output.log_event("fleet.elsewhere", services=plan.elsewhere, why="no module here runs them")
    if missed := find_missed(plan, spec.truth):
        output.log_event(
            "fleet.left_out", services=missed, why="reported as missed unless they run elsewhere"
        )


def _handle_signals(stop: asyncio.Event, kill: asyncio.Event) -> None:
    """Make the first signal set `stop` and the second one `kill`. A SIGHUP that is ignored stays ignored."""

    def handle_signal() -> None:
        (kill if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            loop.add_signal_handler(number, handle_signal)
