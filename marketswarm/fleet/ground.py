"""What a fleet stands on, looked at before anything is started: where its buses are, that ports are free."""

import time
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from marketswarm.bus import BusError, find_url
from marketswarm.exit import Code, Exit
from marketswarm.fleet import ports
from marketswarm.fleet.plan import PlannedAgent, PlannedBus, is_told
from marketswarm.truth import Truth

_LOOK_EVERY_SEC = 0.05


def buses_known(truth: Truth, environ: Mapping[str, str]) -> dict[str, str]:
    """URLs of the buses that someone else runs: the environment or the truth says where.

    A bus whose URL says no more than its own name is nobody's, so it is ours to run.

    Raises:
        Exit: code 2, when a place is given that can't be read.
    """
    known = {}
    for name in truth.bus_names():
        try:
            url = find_url(name, environ, truth)
        except BusError as error:
            raise Exit(Code.CONFIGURATION, str(error)) from None
        if is_told(name, environ) or urlsplit(url).hostname != name.lower():
            known[name] = url
    return known


def need_metrics_ports(agents: Iterable[PlannedAgent], host: str, *, patience_sec: float = 0.0) -> None:
    """Makes sure that the ports of our agents' metrics are free on `host`; see `need_ports`.

    Raises:
        Exit: code 2, naming who holds one.
    """
    deadline = time.monotonic() + patience_sec
    for agent in agents:
        port = agent.metrics_port
        while port is not None and not ports.is_free(port, host):
            if time.monotonic() >= deadline:
                raise Exit(
                    Code.CONFIGURATION,
                    f"METRICS_PORT: port {port}, for {agent.name}, is taken by {ports.holder(port)}. Every "
                    "service of the truth has one, from METRICS_PORT on: choose another, or none.",
                )
            time.sleep(_LOOK_EVERY_SEC)


def need_ports(buses: Iterable[PlannedBus], *, patience_sec: float = 0.0) -> None:
    """Makes sure that our buses' ports are free.

    `patience_sec` is for servers of a fleet that was killed just now, which the kernel is about to end.

    Raises:
        Exit: code 2, naming who holds one, and the ways on.
    """
    deadline = time.monotonic() + patience_sec
    for bus in buses:
        while bus.port is not None and not ports.is_free(bus.port):
            if time.monotonic() >= deadline:
                raise Exit(
                    Code.CONFIGURATION,
                    f"port {bus.port}, for {bus.name}, is taken by {ports.holder(bus.port)}. The ways on: "
                    f"other ports (--port 7379), using that server as it is "
                    f"({bus.variable}=redis://127.0.0.1:{bus.port}), or stopping it.",
                )
            time.sleep(_LOOK_EVERY_SEC)
