"""`marketswarm up` from claim to goodbye: one fleet in one data folder, until a signal ends it."""

import asyncio
import contextlib
import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marketswarm.acl import BOOTSTRAP, OPERATOR
from marketswarm.bus import Bus, BusError
from marketswarm.exit import Code, Exit, exit_in
from marketswarm.fleet.access import FleetAccess
from marketswarm.fleet.child import Child, Program, State, Tell
from marketswarm.fleet.control import controlled
from marketswarm.fleet.data_folder import (
    RunningFleet,
    choose_control_address,
    make_private_folder,
    publish_fleet,
    withdraw_fleet,
)
from marketswarm.fleet.deferred_port import defer_port
from marketswarm.fleet.environment import child_environ, server_environ
from marketswarm.fleet.output import LineWriter, LogFileWriter, LogFormatter, Output
from marketswarm.fleet.plan import Plan, PlannedBus
from marketswarm.fleet.readiness import InstanceCounter, find_ready, have_subscribers
from marketswarm.fleet.server import MAXMEMORY, bounded, command, sized
from marketswarm.passwords import FILE
from marketswarm.truth import HEALER, Truth

_STDERR = 2


_LOOK_EVERY_SEC = 0.01
_GREEN_EVERY_SEC = 0.1
_HEALER_LISTENS_SEC = 4.0
_ROLL_LISTENS_SEC = 2.0
_SAY_WHO_LOADS_SEC = 5.0
_SAY_WHO_IS_LATE_SEC = 15.0
_SERVER_GRACE_SEC = 3.0
_SEEN_SEC = 2.0  # between a miss and the start that ends it, so that both can be read


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What to run, and with what: the plan, the truth it came from, where data goes, which server program.

    With `access` the servers let in only who has a user there. `maxmemory` is what each server may use.
    """

    plan: Plan
    truth: Truth
    truth_path: Path
    data: Path
    binary: Path | None
    access: FleetAccess | None = None
    maxmemory: str = MAXMEMORY

    def places(self, user: str) -> dict[str, str]:
        """What a child needs to know to find the buses that are ours, and to be let in there."""
        return self.plan.environ() if self.access is None else self.access.environ(user)

    def url(self, bus: PlannedBus) -> str:
        """Where a bus is for the fleet itself."""
        return (self.access.url(bus.name) if self.access else None) or bus.url


class FleetSupervisor:
    """All children of one `marketswarm up`.

    Args:
        orders: what to run.
        tell: takes the fleet's own events.
        hear: takes a line of a child's output, with the child's name.
        hurry: once set, whatever is to end is ended without grace.
    """

    def __init__(
        self, orders: FleetSpec, tell: Tell, hear: Callable[[str, bytes], None], hurry: asyncio.Event
    ) -> None:
        self._orders, self._tell, self._hear, self._hurry = orders, tell, hear, hurry
        # a file or a socket for one process's sign of life is not for all of them
        ours = {"MARKETSWARM_ALIVE_FILE": "", "NOTIFY_SOCKET": ""}
        self._environ = {**ours, "LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
        self._buses: dict[str, Bus] = {}
        self._seeded = asyncio.Event()
        self.servers = {bus.name: self._server(bus) for bus in orders.plan.buses if bus.port is not None}
        self._service = {agent.name: agent.svc for agent in orders.plan.agents}
        several = Counter(self._service.values())
        self._roll = InstanceCounter(orders.truth, [svc for svc, count in several.items() if count > 1])
        self._calling: asyncio.Task[None] | None = None
        self.agents = {
            agent.name: self._python(
                agent.name,
                agent.module,
                {**self._declared(agent.module, agent.svc), **orders.places(agent.svc), **agent.environ()},
                missed_after_sec(orders.truth, agent.svc) + _SEEN_SEC,
            )
            for agent in orders.plan.agents
        }

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[None]:
        """Supervises all children while the context lasts; then ends agents and, after them, servers."""
        async with asyncio.TaskGroup() as tasks:
            for child in (*self.servers.values(), *self.agents.values()):
                tasks.create_task(child.supervise(), name=child.name)
            self._calling = tasks.create_task(self._call_the_roll(), name="roll")
            try:
                yield
            finally:
                self._calling.cancel()
                for group in (self.agents, self.servers):
                    await asyncio.gather(*(child.end(self._hurry) for child in group.values()))
                await asyncio.gather(*(bus.aclose() for bus in self._buses.values()))

    async def bring_up(self) -> None:
        """Servers, then the truth, then agents: returns when these are started.

        Raises:
            Exit: a server did not start, or the truth could not be seeded.
        """
        for server in self.servers.values():
            server.start()
        await asyncio.gather(*(self._answers(bus) for bus in self._orders.plan.buses if bus.port is not None))
        await self._seed()
        self._seeded.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ROLL_LISTENS_SEC):
                await self._roll.listens()
        if HEALER in self.agents:  # first, so that it hears everyone's first beat, and not the second
            self.agents[HEALER].start()
            await self._healer_listens()
        for agent in self.agents.values():
            if not agent.wanted:
                agent.start()

    async def _healer_listens(self) -> None:
        """Waits until the healer hears our agents; not for long, since one that cannot is told of later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEALER_LISTENS_SEC):
                while not await have_subscribers(self.agents, self._orders.truth, self._bus):  # noqa: ASYNC110 - a bus tells nobody who subscribes
                    await asyncio.sleep(_LOOK_EVERY_SEC)

    async def all_up(self) -> list[str]:
        """Returns the agents that are up, once all are, those apart that someone stopped on purpose."""
        waited_sec, told = 0.0, False
        while late := await self._late():
            if waited_sec >= _SAY_WHO_IS_LATE_SEC and not told:
                self._tell("fleet.waiting", "warning", late=sorted(late))
                told = True
            await asyncio.sleep(_GREEN_EVERY_SEC)
            waited_sec += _GREEN_EVERY_SEC
        if self._calling is not None:
            self._calling.cancel()
        return [name for name, child in self.agents.items() if child.wanted]

    async def _late(self) -> set[str]:
        agents = {name: child for name, child in self.agents.items() if child.wanted}
        started: dict[str, float] = {}
        for name, child in agents.items():
            if child.state is State.RUNNING:  # before that, `started_at` is not the time of this run
                svc = self._service[name]
                started[svc] = min(child.started_at, started.get(svc, math.inf))
        ready = await find_ready(started, self._orders.truth, self._bus) if started else set()
        wanted = Counter(self._service[name] for name in agents)
        ready = {svc for svc in ready if wanted[svc] == 1 or self._roll.present(svc) >= wanted[svc]}
        return {
            name
            for name, child in agents.items()
            if child.state is not State.RUNNING or self._service[name] not in ready
        }

    async def _call_the_roll(self) -> None:
        await self._seeded.wait()
        await self._roll.call(self._bus)

    def _bus(self, name: str) -> Bus:
        if name not in self._buses:
            bus = next(bus for bus in self._orders.plan.buses if bus.name == name)
            self._buses[name] = Bus(name, self._orders.url(bus))
        return self._buses[name]

    async def _answers(self, bus: PlannedBus) -> None:
        """Waits until the server on that port answers, and is ours."""
        server = self.servers[bus.name]
        tell_at = time.monotonic() + _SAY_WHO_LOADS_SEC
        while not await self._is_ours(bus.name, server):
            if server.restarts:
                raise Exit(
                    Code.NO_BUS, f"the server of {bus.name} did not start: {self._last_words(bus.name)}"
                )
            if time.monotonic() >= tell_at:
                self._tell("bus.waiting", "warning", bus=bus.name, log=self._last_words(bus.name))
                tell_at = math.inf
            await asyncio.sleep(_LOOK_EVERY_SEC)
        self._tell("bus.ready", bus=bus.name, url=bus.url, pid=server.pid)

    async def _is_ours(self, name: str, server: Child) -> bool:
        bus = self._bus(name)
        try:
            info = await bus.ask(bus.client.info("server"))
        except BusError:  # not there yet, or still loading its data
            return False
        return bool(info["process_id"] == server.pid)

    def _last_words(self, bus: str) -> str:
        try:
            lines = (self._orders.data / bus / "server.log").read_text(encoding="utf-8").splitlines()
        except OSError:
            return "it left no log"
        return " / ".join(lines[-3:])

    async def _seed(self) -> None:
        """`python -m bootstrap`, once."""
        places = self._orders.places(BOOTSTRAP)
        environ = {
            **self._declared(BOOTSTRAP, BOOTSTRAP),
            **places,
            "TRUTH_PATH": str(self._orders.truth_path),
        }
        bootstrap = self._python("bootstrap", "bootstrap", environ)
        code = await bootstrap.once(self._hurry)
        if code:
            why = f"bootstrap did not seed the truth (exit code {code}); its last lines say why"
            raise Exit(code if code > 0 else Code.DIED, why)

    def _declared(self, module: str, svc: str) -> dict[str, str]:
        """What a program gets of our environment, and what all of the fleet's have."""
        return {**child_environ(module, svc, self._orders.truth, os.environ), **self._environ}

    def _server(self, bus: PlannedBus) -> Child:
        assert bus.port is not None and self._orders.binary is not None  # noqa: S101, PT018 - it is ours
        folder = self._orders.data / bus.name
        make_private_folder(folder)
        words = command(self._orders.binary, bus.port, folder, **sized(self._orders.maxmemory))
        words = bounded(words, self._orders.maxmemory)
        if self._orders.access:
            words = defer_port(words, bus.port, folder, FILE)
        program = Program(bus.name, words, server_environ(os.environ))
        return Child(program, self._tell, self._hearer(bus.name), _SERVER_GRACE_SEC)

    def _python(self, name: str, module: str, environ: Mapping[str, str], killed_sec: float = 0.0) -> Child:
        program = Program(name, [sys.executable, "-m", module], environ, killed_sec)
        return Child(program, self._tell, self._hearer(name))

    def _hearer(self, name: str) -> Callable[[bytes], None]:
        return lambda line: self._hear(name, line)


def missed_after_sec(truth: Truth, svc: str) -> float:
    """After what silence an agent is missed: the healer by the sentinel, the others by the healer."""
    if svc == HEALER:
        return 3 * truth.services[svc].heartbeat.interval_sec
    return truth.timeout_of(svc)


async def run_fleet(
    orders: FleetSpec, screen: LogFormatter | None, summary: Callable[[list[str]], list[str]]
) -> None:
    """Runs the fleet until SIGINT, SIGTERM or SIGHUP, a second of which ends it at once.

    The data folder must be claimed. `summary` gives what a person reads once these agents are up.

    Raises:
        Exit: it could not be brought up. By then no child is left.
    """
    leave, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    lines = LineWriter(_STDERR, lambda: loop.call_soon_threadsafe(leave.set))
    logs = LogFileWriter(
        orders.data, lambda error: loop.call_soon_threadsafe(_log_unwritable, speech, orders.data, error)
    )
    speech = Output(lines, screen, logs)
    _on_signals(leave, hurry)
    swarm = FleetSupervisor(orders, speech.log_event, speech.write_line, hurry)
    address = choose_control_address(orders.data)
    buses = {bus.name: bus.url for bus in orders.plan.buses}
    try:
        async with swarm.alive(), controlled(address, swarm.agents):
            publish_fleet(orders.data, RunningFleet(os.getpid(), address, buses, _keys(orders)))
            await _unless(leave, _life(swarm, orders, speech, summary))
            speech.log_event("fleet.stopping", agents=list(swarm.agents), servers=list(swarm.servers))
        speech.log_event("fleet.stopped")
    except BaseExceptionGroup as group:
        raise (exit_in(group) or group) from None
    finally:
        withdraw_fleet(orders.data)
        lines.close()
        logs.close()


def _log_unwritable(output: Output, data: Path, error: OSError) -> None:
    output.log_event(
        "logs.unwritable", "warning", path=str(error.filename or data / "logs"), why=error.strerror
    )


async def _life(
    swarm: FleetSupervisor, orders: FleetSpec, speech: Output, summary: Callable[[list[str]], list[str]]
) -> None:
    """Brings all up and says so; then the children go on by themselves."""
    begun = time.monotonic()
    speech.log_event("fleet.starting", agents=list(swarm.agents), data=str(orders.data))
    for bus in orders.plan.buses:
        if bus.port is None:
            speech.log_event("bus.used", bus=bus.name, why="the environment or the truth says where it is")
    if orders.plan.elsewhere:
        speech.log_event("fleet.elsewhere", services=orders.plan.elsewhere, why="no module here runs them")
    await swarm.bring_up()
    agents = await swarm.all_up()
    if speech.is_for_people:
        speech.print_lines(summary(agents))
    else:
        urls = {bus.name: bus.url for bus in orders.plan.buses if bus.port is not None}
        took_sec = round(time.monotonic() - begun, 3)
        metrics = {agent.name: agent.metrics_port for agent in orders.plan.agents if agent.metrics_port}
        facts: dict[str, Any] = {"metrics": metrics} if metrics else {}
        speech.log_event("fleet.up", agents=agents, buses=urls, took_sec=took_sec, **facts)


def _keys(orders: FleetSpec) -> dict[str, str]:
    """The files that let an operator in, by bus."""
    files = orders.access.files[OPERATOR] if orders.access else {}
    return {bus: str(path) for bus, path in files.items()}


async def _unless(leave: asyncio.Event, life: Coroutine[Any, Any, None]) -> None:
    """Returns when `leave` is set; `life` has ended or was given up by then. Raises what `life` raises."""
    work, gone = asyncio.ensure_future(life), asyncio.ensure_future(leave.wait())
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            await gone
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


def _on_signals(leave: asyncio.Event, hurry: asyncio.Event) -> None:
    def ended() -> None:
        (hurry if leave.is_set() else leave).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup means it
            loop.add_signal_handler(number, ended)
