"""Start the servers, the truth and the agents of one fleet, in that order, and supervise all of them."""

import asyncio
import contextlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from marketswarm.access.passwords import ACL_FILE, DATABASE_SIGNALS
from marketswarm.access.users import BOOTSTRAP
from marketswarm.agent.service_modules import find_modules
from marketswarm.agent.truth_source import find_first_valid, format_reasons, read_all_truths
from marketswarm.bus import Bus, BusError
from marketswarm.detector import START_UP_SEC
from marketswarm.exit import Code, Exit
from marketswarm.fleet.access import FleetAccess
from marketswarm.fleet.agent_logs import LOGS_FOLDER, bound_log
from marketswarm.fleet.child import Child, LogEvent, Program
from marketswarm.fleet.data_folder import make_private_folder
from marketswarm.fleet.deferred_port import defer_port
from marketswarm.fleet.environment import make_child_environ, make_server_environ
from marketswarm.fleet.forks import ForkServer
from marketswarm.fleet.listen import ListenSetup
from marketswarm.fleet.log_witness import WITNESS, LogWitness
from marketswarm.fleet.plan import (
    ARCHIVE,
    BOARD,
    DATABASE_URL,
    SENTINEL,
    SIGNALS,
    SIGNALS_DATABASE_URL,
    SOURCES,
    Plan,
    PlanError,
    PlannedAgent,
    PlannedBus,
    find_next_metrics_port,
    plan_added_agents,
)
from marketswarm.fleet.postgres import STOP_SIGNAL, PostgresServer
from marketswarm.fleet.preflight import find_external_buses
from marketswarm.fleet.readiness import InstanceCounter, find_ready, have_subscribers
from marketswarm.fleet.server import (
    MAXMEMORY,
    SERVER_LOG,
    build_command,
    build_memory_limits,
    build_tls_directives,
    limit_process_memory,
)
from marketswarm.fleet_control import ProcessState
from marketswarm.log_follower import LogFollower
from marketswarm.net.retry import Backoff
from marketswarm.settings import CommonSettings, read_settings
from marketswarm.tasks import end_tasks
from marketswarm.truth import HEALER, MEDIC, Truth, suggest_name

_POLL_EVERY_SEC = 0.01
_READY_POLL_EVERY_SEC = 0.1
_HEALER_LISTENS_WITHIN_SEC = 4.0
_COUNTER_LISTENS_WITHIN_SEC = 2.0
_REPORT_LOADING_AFTER_SEC = 5.0
_REPORT_LATE_AFTER_SEC = 15.0
_BOUND_LOGS_EVERY_SEC = 10.0
_READ_TRUTH_WITHIN_SEC = 2.0
_SERVER_GRACE_SEC = 3.0
_DATABASE_GRACE_SEC = 10.0  # its last checkpoint
_DATABASE_READY_WITHIN_SEC = 60.0
DATABASE = "postgres"
"""The name of the PostgreSQL of a fleet, among its servers and its folders."""
WITHOUT_BOARD = "truth-without-board.json"
"""The file in the data folder with the truth that `up --no-board` seeds."""
_FLEET_SOCKET = "MEDIC_FLEET_SOCKET"
"""The variable with the control socket of the fleet, by which the medic restarts agents."""
_FLEET_LOGS = "MEDIC_FLEET_LOGS"
"""The variable with the folder of the agents' log files, which the medic reads."""
_STARTING_SERVICES = "STARTING_SERVICES"
_STARTING_UNTIL = "STARTING_UNTIL"
"""The variables by which healer and sentinel know which services the fleet starts, and until when."""
_GATE = "services.sources.gate"
"""The one-shot program after which the services start that depend on SOURCES."""
_GATE_CLOSED = 1
"""The exit code of a gate that could load too little."""
_GATE_BACKOFF = Backoff(first_sec=10.0, longest_sec=60.0)  # as marketswarm-gate.service
_RESTART_AFTER_MISS_SEC = 2.0  # so that people can read the miss before the recovery


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What to run: the plan, the truth that it was made from, the data folder, the server program.

    With `access`, the servers let in only users with a password there. `maxmemory` is the memory limit of
    each server, such as `1gb`. `metrics_port` is the metrics port of the truth's first service; None means no
    metrics. `database` is the PostgreSQL that the fleet runs, prepared; None if it needs none, or one runs
    already. With `listening`, which takes `access`, other machines reach the servers and the board over TLS.
    `witness` cosigns the log of signals; None if the fleet runs none.
    """

    plan: Plan
    truth: Truth
    truth_path: Path
    data: Path
    binary: Path | None
    access: FleetAccess | None = None
    maxmemory: str = MAXMEMORY
    metrics_port: int | None = None
    database: PostgresServer | None = None
    listening: ListenSetup | None = None
    witness: LogWitness | None = None

    def bus_environ(self, user: str) -> dict[str, str]:
        return self.plan.environ() if self.access is None else self.access.environ(user)

    def bus_url(self, bus: PlannedBus) -> str:
        return (self.access.url(bus.name) if self.access else None) or bus.url


class FleetSupervisor:
    """Own all children of one `marketswarm up`: `servers` and `agents` have them by name.

    Once the event `kill` is set, children that are being stopped are killed at once. The medic is given the
    path of the control socket, `control_address`.
    """

    def __init__(
        self,
        spec: FleetSpec,
        log_event: LogEvent,
        write_line: Callable[[str, bytes], None],
        kill: asyncio.Event,
        control_address: str = "",
    ) -> None:
        self._spec, self._log_event, self._write_line, self._kill = spec, log_event, write_line, kill
        self._control_address = control_address
        self.seeding_output: list[bytes] = []
        """The lines that bootstrap logged."""
        self._buses: dict[str, Bus] = {}
        self._seeded = asyncio.Event()
        self._is_stopping = False
        self._tasks: asyncio.TaskGroup | None = None
        self.servers = {bus.name: self._make_server(bus) for bus in spec.plan.buses if bus.port is not None}
        if spec.database is not None:
            command, environ = spec.database.command, spec.database.environ
            program = Program(DATABASE, command, environ, stop_signal=STOP_SIGNAL)
            write = partial(write_line, DATABASE)
            self.servers[DATABASE] = Child(program, log_event, write, _DATABASE_GRACE_SEC)
        if spec.witness is not None:
            program = Program(WITNESS, spec.witness.command, spec.witness.child_environ)
            self.servers[WITNESS] = Child(program, log_event, partial(write_line, WITNESS))
        self._forks = ForkServer(log_event, partial(write_line, "fork-server"))
        self._service_by_agent = {agent.name: agent.svc for agent in spec.plan.agents}
        several = Counter(self._service_by_agent.values())
        self._counter = InstanceCounter(spec.truth, [svc for svc, count in several.items() if count > 1])
        self._counting_task: asyncio.Task[None] | None = None
        self._gate_task: asyncio.Task[None] | None = None
        self._monitor_environs: list[dict[str, str]] = []
        self.agents = {agent.name: self._make_agent(agent, spec.truth) for agent in spec.plan.agents}
        self._added: list[PlannedAgent] = []

    @contextlib.asynccontextmanager
    async def supervise(self) -> AsyncIterator[None]:
        """Supervise all children while the context lasts; then end the agents, and then the servers."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for child in (*self.servers.values(), *self.agents.values()):
                tasks.create_task(child.supervise(), name=child.name)
            self._counting_task = tasks.create_task(self._count_instances(), name="instance-counter")
            bounding = tasks.create_task(self._bound_server_logs(), name="server-logs")
            try:
                yield
            finally:
                self._is_stopping = True
                self._counting_task.cancel()
                bounding.cancel()
                if self._gate_task is not None:
                    await end_tasks(self._gate_task)
                for group in (self.agents, self.servers):
                    await asyncio.gather(*(child.end(self._kill) for child in group.values()))
                await asyncio.gather(*(bus.aclose() for bus in self._buses.values()))

    async def start_all(self) -> None:
        """Start the servers, seed the truth, start the healer, then the other agents.

        Readers of the market that must wait for the gate of sources are started as soon as it opens, which
        may be later. Raises Exit if a server did not start, the truth could not be seeded, or the gate can't
        run.
        """
        for server in self.servers.values():
            server.start()
        async with self._forks.serve():
            await self._start_agents()
            for agent in list(self.agents.values()):  # `marketswarm start` may add one meanwhile
                if agent.is_wanted:
                    await agent.started.wait()

    async def _start_agents(self) -> None:
        ours = [bus for bus in self._spec.plan.buses if bus.port is not None]
        await asyncio.gather(*(self._wait_for_server(bus) for bus in ours), self._wait_for_database())
        await self._seed()
        self._seeded.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_COUNTER_LISTENS_WITHIN_SEC):
                await self._counter.wait_until_listening()
        self._announce_starts()
        if HEALER in self.agents:  # first, so that it receives the first beat of each agent
            self.agents[HEALER].start()
            await self._wait_for_healer()
        gated = self._spec.plan.gated
        for name, agent in self.agents.items():
            if not agent.is_wanted and self._service_by_agent[name] not in gated:
                agent.start()
        if gated:
            await self._pass_gate()

    def _announce_starts(self) -> None:
        """Put into the environment of healers and sentinels that all services start now, and until when.

        One that is started again later finds that this time has ended.
        """
        starting = {
            _STARTING_SERVICES: ",".join(sorted({agent.svc for agent in self._spec.plan.agents})),
            _STARTING_UNTIL: f"{time.time() + START_UP_SEC:.3f}",
        }
        for environ in self._monitor_environs:
            environ.update(starting)

    async def _wait_for_database(self) -> None:
        database = self._spec.database
        if database is None:
            return
        child = self.servers[DATABASE]
        try:
            async with asyncio.timeout(_DATABASE_READY_WITHIN_SEC):
                while not database.is_ready(child.pid):  # noqa: ASYNC110 - a file reports it
                    await asyncio.sleep(_POLL_EVERY_SEC)
        except TimeoutError:
            why = f"PostgreSQL did not start in {_DATABASE_READY_WITHIN_SEC:g} s; its last lines say why"
            raise Exit(Code.DIED, why) from None
        self._log_event("database.ready", port=database.port, version=database.programs.major, pid=child.pid)

    async def _pass_gate(self) -> None:
        """Run the gate and start what waits for it. If it is closed, keep trying while the fleet runs."""
        code = await self._run_gate()
        if code == Code.DONE:
            self._start_readers()
        elif code == _GATE_CLOSED and self._tasks is not None:
            self._gate_task = self._tasks.create_task(self._retry_gate(), name="gate")
        else:
            why = f"the gate of the sources did not run (exit code {code}); its last lines say why"
            raise Exit(code if code > 0 else Code.DIED, why)

    async def _retry_gate(self) -> None:
        """Run the gate again, after growing pauses, until it is open; then start what waits for it."""
        attempts, is_open = 0, False
        while not is_open:
            attempts += 1
            pause_sec = _GATE_BACKOFF.pause_sec(attempts)
            waiting = sorted(self._spec.plan.gated)
            self._log_event("gate.waiting", "warning", services=waiting, again_in_sec=round(pause_sec))
            await asyncio.sleep(pause_sec)
            is_open = await self._run_gate() == Code.DONE
        self._start_readers()

    async def _run_gate(self) -> int:
        environ = self._make_environ(_GATE, SOURCES, self._spec.truth)
        program = Program("gate", [sys.executable, "-m", _GATE], environ)
        return await self._make_child(program).run_once(self._kill)

    def _start_readers(self) -> None:
        for name, agent in self.agents.items():
            if self._service_by_agent[name] in self._spec.plan.gated:
                agent.start()

    async def _wait_for_healer(self) -> None:
        planned = [agent.svc for agent in self._spec.plan.agents]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HEALER_LISTENS_WITHIN_SEC):
                while not await have_subscribers(planned, self._spec.truth, self._get_bus):  # noqa: ASYNC110 - a bus reports no new subscriber
                    await asyncio.sleep(_POLL_EVERY_SEC)

    async def wait_until_up(self) -> list[str]:
        """Return all wanted agents once each of them is up; log those that are late once, after 15 s."""
        waited_sec, reported = 0.0, False
        while late := await self._find_late():
            if waited_sec >= _REPORT_LATE_AFTER_SEC and not reported:
                self._log_event("fleet.waiting", "warning", late=sorted(late))
                reported = True
            await asyncio.sleep(_READY_POLL_EVERY_SEC)
            waited_sec += _READY_POLL_EVERY_SEC
        if self._counting_task is not None:
            self._counting_task.cancel()
        return [name for name, child in self.agents.items() if child.is_wanted]

    async def add_service(self, svc: str) -> None:
        """Supervise the agents of a service that does not run. Raises PlanError if it can't be run."""
        truth, revision = await self._read_truth()
        if svc not in truth.services:
            hint = suggest_name(svc, [*self.agents, *truth.services], "there are")
            known = f"revision {revision}" if revision is not None else "its truth"
            raise PlanError(f"this fleet runs no {svc}, and {known} names none; {hint}")
        module = find_modules([svc]).get(svc)
        if module is None:
            package = f"services/{svc.replace('-', '_')}"
            raise PlanError(f"{svc} has no {package}/__main__.py here: it is started where it lives")
        self._require_known_buses(truth)
        port = find_next_metrics_port(self._spec.truth, self._spec.metrics_port, self._added)
        self._supervise_added(plan_added_agents(truth, svc, module, port), truth)

    def _supervise_added(self, added: tuple[PlannedAgent, ...], truth: Truth) -> None:
        if self._is_stopping or self._tasks is None:
            raise PlanError("the fleet is stopping")
        for agent in added:
            if agent.name not in self.agents:  # else another request has added it meanwhile
                self._added.append(agent)
                self._service_by_agent[agent.name] = agent.svc
                child = self.agents[agent.name] = self._make_agent(agent, truth)
                self._tasks.create_task(child.supervise(), name=agent.name)

    async def _read_truth(self) -> tuple[Truth, int | None]:
        """Return the truth that the buses hold now, and its revision, None if that is not known."""
        buses = [self._get_bus(bus.name) for bus in self._spec.plan.buses]
        settings = read_settings(CommonSettings)
        seen = await read_all_truths(buses, settings.truth_redis_key, None, _READ_TRUTH_WITHIN_SEC)
        found = find_first_valid(seen)
        if found is None:
            raise PlanError(f"no bus has a valid truth ({', '.join(format_reasons(seen))})")
        return found.loaded.truth.with_default_timeout(settings.default_timeout_sec), found.revision

    def _require_known_buses(self, truth: Truth) -> None:
        known = {*find_external_buses(truth, os.environ), *(bus.name for bus in self._spec.plan.buses)}
        new = [name for name in truth.bus_names() if name not in known]
        if new:
            raise PlanError(
                f"the truth names a new bus, {new[0]}: end the fleet, and `marketswarm up` runs it"
            )

    async def _find_late(self) -> set[str]:
        planned = [agent.name for agent in self._spec.plan.agents]
        agents = {name: self.agents[name] for name in planned if self.agents[name].is_wanted}
        started: dict[str, float] = {}
        for name, child in agents.items():
            if child.state is ProcessState.RUNNING:  # before that, `started_at` is not the time of this run
                svc = self._service_by_agent[name]
                started[svc] = min(child.started_at, started.get(svc, math.inf))
        ready = await find_ready(started, self._spec.truth, self._get_bus) if started else set()
        wanted = Counter(self._service_by_agent[name] for name in agents)
        ready = {svc for svc in ready if wanted[svc] == 1 or self._counter.count(svc) >= wanted[svc]}
        return {
            name
            for name, child in agents.items()
            if child.state is not ProcessState.RUNNING or self._service_by_agent[name] not in ready
        }

    async def _count_instances(self) -> None:
        await self._seeded.wait()
        await self._counter.listen(self._get_bus)

    def _get_bus(self, name: str) -> Bus:
        if name not in self._buses:
            bus = next(bus for bus in self._spec.plan.buses if bus.name == name)
            self._buses[name] = Bus(name, self._spec.bus_url(bus))
        return self._buses[name]

    async def _wait_for_server(self, bus: PlannedBus) -> None:
        server = self.servers[bus.name]
        report_at = time.monotonic() + _REPORT_LOADING_AFTER_SEC
        while not await self._is_our_server(bus.name, server):
            if server.restarts:
                raise Exit(
                    Code.NO_BUS, f"the server of {bus.name} did not start: {self._read_log_end(bus.name)}"
                )
            if time.monotonic() >= report_at:
                self._log_event("bus.waiting", "warning", bus=bus.name, log=self._read_log_end(bus.name))
                report_at = math.inf
            await asyncio.sleep(_POLL_EVERY_SEC)
        self._log_event("bus.ready", bus=bus.name, url=bus.url.partition("?")[0], pid=server.pid)

    async def _is_our_server(self, name: str, server: Child) -> bool:
        bus = self._get_bus(name)
        try:
            info = await bus.ask(bus.client.info("server"))
        except BusError:  # not started yet, or still loading its data
            return False
        return bool(info["process_id"] == server.pid)

    def _read_log_end(self, bus: str) -> str:
        lines = LogFollower(self._spec.data / bus / SERVER_LOG).read_tail(3)
        return " / ".join(line.decode("utf-8", "replace") for line in lines) or "it left no log"

    async def _bound_server_logs(self) -> None:
        """Rotate the log of each server of ours when it is too large: strangers may cause lines there."""
        paths = [
            self._spec.data / bus.name / SERVER_LOG for bus in self._spec.plan.buses if bus.port is not None
        ]
        refused: set[Path] = set()
        while True:
            for path in paths:
                try:
                    bound_log(path)
                    refused.discard(path)
                except OSError as error:
                    if path not in refused:
                        self._log_event("logs.unwritable", "warning", path=str(path), why=error.strerror)
                    refused.add(path)
            await asyncio.sleep(_BOUND_LOGS_EVERY_SEC)

    async def _seed(self) -> None:
        """Run bootstrap, which seeds the truth file into the buses. Raise Exit if it fails."""
        environ = self._make_environ(BOOTSTRAP, BOOTSTRAP, self._spec.truth)
        environ["TRUTH_PATH"] = str(self._spec.truth_path)

        def keep_line(line: bytes) -> None:
            self.seeding_output.append(line)
            self._write_line("bootstrap", line)

        program = Program("bootstrap", [sys.executable, "-m", "bootstrap"], environ)
        child = Child(program, self._log_event, keep_line, start_first=self._forks.spawn)
        code = await child.run_once(self._kill)
        if code:
            why = f"bootstrap did not seed the truth (exit code {code}); its last lines say why"
            raise Exit(code if code > 0 else Code.DIED, why)

    def _make_environ(self, module: str, svc: str, truth: Truth) -> dict[str, str]:
        """Return the variables of an agent: those of ours that it may see, and where fleet and buses are."""
        # a file or a socket by which one process reports is not for all of them
        fixed = {"MARKETSWARM_ALIVE_FILE": "", "NOTIFY_SOCKET": ""}
        fixed |= {"LOG_FORMAT": "json", "PYTHONUNBUFFERED": "1"}
        given = dict(os.environ)
        if (database := self._spec.database) is not None:
            # only programs that declare these variables get them
            url_file = database.url_file if svc == ARCHIVE else database.reader_url_file
            given[f"{DATABASE_URL}_FILE"] = str(url_file)
            if svc == SIGNALS:
                given[f"{SIGNALS_DATABASE_URL}_FILE"] = str(database.url_file_of(DATABASE_SIGNALS))
            given["POSTGRES_BIN"] = str(database.programs.folder)
            given.setdefault("ARCHIVE_BACKUP_FOLDER", str(self._spec.data / "backups"))
            given.setdefault("BOARD_BACKTEST_FOLDER", str(self._spec.data / "backtests"))
        if svc == SIGNALS and self._spec.witness is not None:
            given |= self._spec.witness.environ()
        if svc == MEDIC:
            given[_FLEET_LOGS] = str((self._spec.data / LOGS_FOLDER).resolve())
            if self._control_address:
                given[_FLEET_SOCKET] = self._control_address
        return make_child_environ(module, svc, truth, given) | fixed | self._spec.bus_environ(svc)

    def _make_server(self, bus: PlannedBus) -> Child:
        assert bus.port is not None and self._spec.binary is not None  # noqa: S101, PT018 - we run it
        folder = self._spec.data / bus.name
        make_private_folder(folder)
        limits = build_memory_limits(self._spec.maxmemory)
        listening = self._spec.listening
        if listening is not None:
            assert self._spec.access is not None  # noqa: S101 - or else it would let everyone in
            limits |= build_tls_directives(listening.at.address, listening.certificate.file, folder)
        line = build_command(self._spec.binary, bus.port, folder, **limits)
        line = limit_process_memory(line, self._spec.maxmemory)
        if self._spec.access:
            directive = "port" if listening is None else "tls-port"
            line = defer_port(line, bus.port, folder, ACL_FILE, directive=directive)
        program = Program(bus.name, line, make_server_environ(os.environ))
        return Child(program, self._log_event, partial(self._write_line, bus.name), _SERVER_GRACE_SEC)

    def _make_agent(self, agent: PlannedAgent, truth: Truth) -> Child:
        environ = self._make_environ(agent.module, agent.svc, truth) | agent.environ()
        if agent.svc == BOARD and (listening := self._spec.listening) is not None:
            environ |= listening.make_board_environ(environ)
        if agent.svc in (HEALER, SENTINEL):
            self._monitor_environs.append(environ)
        missed_after_sec = truth.timeout_of(agent.svc)
        if agent.svc == HEALER:  # the sentinel misses it after three intervals
            missed_after_sec = 3 * truth.services[HEALER].heartbeat.interval_sec
        pause_after_kill_sec = missed_after_sec + _RESTART_AFTER_MISS_SEC
        program = Program(agent.name, [sys.executable, "-m", agent.module], environ, pause_after_kill_sec)
        return self._make_child(program)

    def _make_child(self, program: Program) -> Child:
        write_line = partial(self._write_line, program.name)
        return Child(program, self._log_event, write_line, start_first=self._forks.spawn)
