"""Plan an embedded fleet: which servers and agents to run, for a truth and the options of `up`. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from marketswarm.bus import get_url_variable
from marketswarm.bus_url import format_host_port, pin_certificate
from marketswarm.truth import HEALER, MARKET, SYSTEM, Truth, describe_unknown

LAST_PORT: Final = 65_535
SENTINEL: Final = "sentinel"
BOARD: Final = "board"
LOOPBACK: Final = "127.0.0.1"
SOURCES: Final = "sources"
ARCHIVE: Final = "archive"
"""The services of the market that have a gate, and that need a PostgreSQL."""
DATABASE_URL: Final = "DATABASE_URL"
"""The variable with the URL of a PostgreSQL that runs already."""
SIGNALS: Final = "signals"
SIGNALS_DATABASE_URL: Final = "SIGNALS_DATABASE_URL"
"""The same for signals, which adds rows there as a role of its own."""
BOARD_PORT: Final = 8080
"""The port of the board unless another one is asked for."""


class PlanError(ValueError):
    """The fleet can't be planned as requested, or a service not be added to it; the message says why."""


@dataclass(frozen=True, slots=True)
class PlannedBus:
    """One bus; `port` is the one on which the fleet runs it, None for a server that runs already."""

    name: str
    url: str
    port: int | None

    @property
    def variable(self) -> str:
        return get_url_variable(self.name)


@dataclass(frozen=True, slots=True)
class PlannedAgent:
    """One process: its service, the module that is run, and the port of its metrics (None: no metrics).

    `number` is the number of the process among those of its service, from 1. `board_port` is the port on
    which a board answers browsers; None for all other services.
    """

    svc: str
    module: str
    metrics_port: int | None = None
    number: int = 1
    board_port: int | None = None

    @property
    def name(self) -> str:
        return self.svc if self.number == 1 else f"{self.svc}/{self.number}"

    def environ(self) -> dict[str, str]:
        ports = {"METRICS_PORT": self.metrics_port, "BOARD_PORT": self.board_port}
        return {name: str(port) for name, port in ports.items() if port is not None}


@dataclass(frozen=True, slots=True)
class Plan:
    """The buses and agents of a fleet, in the order of the truth.

    `elsewhere` are services that have no module here, `left_out` those that --only leaves out. `gated` are
    services that start after the gate; without any there is no gate. `needs_database` says whether one of
    the services stores its data in PostgreSQL.
    """

    buses: tuple[PlannedBus, ...]
    agents: tuple[PlannedAgent, ...]
    elsewhere: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    gated: frozenset[str] = frozenset()
    needs_database: bool = False

    def environ(self) -> dict[str, str]:
        return {bus.variable: bus.url for bus in self.buses if bus.port is not None}

    def use_tls(self, certificate: Path) -> "Plan":
        """Return the plan of a fleet whose servers speak TLS alone, with the certificate in this PEM file.

        The fleet's own programs reach them at 127.0.0.1, which the certificate need not be for.
        """
        return replace(self, buses=tuple(_use_tls(bus, certificate) for bus in self.buses))


def make_plan(
    truth: Truth,
    *,
    known: Mapping[str, str],
    modules: Mapping[str, str],
    port: int,
    metrics_port: int | None = None,
    only: Collection[str] = (),
    board_port: int | None = BOARD_PORT,
) -> Plan:
    """Plan which servers and agents a fleet runs.

    Args:
        known: the URLs of buses that run already, by name, including all that the truth names by address
            alone; these get no server.
        port: the port of the first bus; each further bus has the next one.
        metrics_port: the metrics port of the truth's first service. Each further service has the next one,
            started or not, so that no port changes when services are left out; further processes of a service
            come after the last service. None means no metrics.
        only: services to start; empty means all.
        board_port: the port of the board; further processes of it have the next ones. None leaves it out.

    Raises:
        PlanError: `only` has an unknown service or one without a module, or a port is out of range.
    """
    buses = []
    for index, name in enumerate(list_embedded_buses(truth)):
        own = None if name in known else port + index
        if own is not None and not 0 < own <= LAST_PORT:
            raise PlanError(f"--port {port}: {name} would be on port {own}, and the last is {LAST_PORT}")
        buses.append(PlannedBus(name, known.get(name) or f"redis://127.0.0.1:{own}", own))
    buses += [PlannedBus(name, known[name], None) for name in _find_address_buses(truth)]
    for svc in only:
        _require_runnable(svc, truth, modules)
    wanted = [
        svc
        for svc in truth.services
        if (not only or svc in only) and (svc != BOARD or board_port is not None)
    ]
    has_gate = SOURCES in wanted and SOURCES in modules
    return Plan(
        buses=tuple(buses),
        agents=tuple(
            PlannedAgent(
                svc,
                modules[svc],
                _choose_metrics_port(svc, number, truth, metrics_port),
                number,
                _board_port(svc, number, board_port),
            )
            for svc in wanted
            if svc in modules
            for number in range(1, _count_replicas(svc, truth) + 1)
        ),
        elsewhere=tuple(svc for svc in wanted if svc not in modules),
        left_out=tuple(svc for svc in truth.services if svc not in wanted),
        gated=frozenset(svc for svc in wanted if has_gate and SOURCES in truth.services[svc].depends_on),
        needs_database=ARCHIVE in wanted and ARCHIVE in modules,
    )


def plan_added_agents(
    truth: Truth, svc: str, module: str, metrics_port: int | None
) -> tuple[PlannedAgent, ...]:
    """Plan the processes of a service that is added to a fleet that runs. Raises PlanError.

    `metrics_port` is the port of the first process; each further process has the next one. None means no
    metrics.
    """
    count = _count_replicas(svc, truth)
    if metrics_port is not None and metrics_port + count - 1 > LAST_PORT:
        raise PlanError(f"METRICS_PORT: {svc} would be on port {metrics_port}, and the last is {LAST_PORT}")
    return tuple(
        PlannedAgent(svc, module, None if metrics_port is None else metrics_port + number, number + 1)
        for number in range(count)
    )


def find_next_metrics_port(truth: Truth, first: int | None, agents: Iterable[PlannedAgent]) -> int | None:
    """Return the port after all those that a fleet has given or reserved; None if the fleet has no metrics.

    `truth` is the document that the fleet was planned with, `first` the metrics port of its first service.
    """
    if first is None:
        return None
    reserved = first + sum(_count_replicas(svc, truth) for svc in truth.services)
    return max([reserved, *(1 + agent.metrics_port for agent in agents if agent.metrics_port)])


def find_missed(plan: Plan, truth: Truth) -> tuple[str, ...]:
    """Return the left-out services that the agents of this plan will report as missed.

    A service that runs elsewhere is not missed, but that can't be known here.
    """
    running = {agent.svc for agent in plan.agents}
    monitored = {watch.svc for watch in truth.watched()} if HEALER in running else set[str]()
    if SENTINEL in running:
        monitored.add(HEALER)
    return tuple(svc for svc in plan.left_out if svc in monitored)


def _use_tls(bus: PlannedBus, certificate: Path) -> PlannedBus:
    if bus.port is None:
        return bus
    url = pin_certificate(f"rediss://{LOOPBACK}:{bus.port}", str(certificate.absolute()), check_name=False)
    return replace(bus, url=url)


def list_embedded_buses(truth: Truth) -> tuple[str, ...]:
    """Return the buses that a fleet may run itself, in the order of their ports."""
    return tuple(name for name in truth.bus_names() if name not in _find_address_buses(truth))


def _find_address_buses(truth: Truth) -> list[str]:
    return [name for name in truth.bus_names() if name not in (SYSTEM, MARKET, *truth.buses)]


def _count_replicas(svc: str, truth: Truth) -> int:
    return truth.services[svc].replicas or 1


def _choose_metrics_port(svc: str, number: int, truth: Truth, first: int | None) -> int | None:
    """Return the metrics port of a process: `first` plus the position of its service in the truth.

    Further processes of all services have the ports after these, in the same order. Raises PlanError.
    """
    if first is None:
        return None
    services = list(truth.services)
    before = services[: services.index(svc)]
    own = first + len(before)
    if number > 1:
        own = first + len(services) + sum(_count_replicas(each, truth) - 1 for each in before) + number - 2
    if own > LAST_PORT:
        name = PlannedAgent(svc, "", number=number).name
        raise PlanError(f"METRICS_PORT: {name} would be on port {own}, and the last is {LAST_PORT}")
    return own


def find_board_host(environ: Mapping[str, str]) -> str:
    return environ.get("BOARD_HOST") or LOOPBACK


def format_board_url(port: int, host: str) -> str:
    """Return the URL of a board that listens on `host`, for a browser on this machine."""
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - it listens on all addresses
        host = LOOPBACK
    return f"http://{format_host_port(host, port)}"


def _board_port(svc: str, number: int, first: int | None) -> int | None:
    if svc != BOARD or first is None:
        return None
    own = first + number - 1
    if own > LAST_PORT:
        raise PlanError(
            f"--board-port {first}: {svc}/{number} would be on {own}, and the last is {LAST_PORT}"
        )
    return own


def _require_runnable(svc: str, truth: Truth, modules: Mapping[str, str]) -> None:
    if svc not in truth.services:
        raise PlanError(f"--only {svc}: {describe_unknown(svc, truth.services)}")
    if svc not in modules:
        raise PlanError(f"--only {svc}: there is no module services.{svc} here to run")
