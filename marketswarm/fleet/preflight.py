"""What a fleet stands on, looked at before anything is started: where its buses are, that ports are free."""

import errno
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from marketswarm.bus import BusError, find_url
from marketswarm.bus.scripts import places_of
from marketswarm.exit import Code, Exit
from marketswarm.fleet.plan import PlannedAgent, PlannedBus, is_url_given
from marketswarm.truth import Truth

_LOOK_EVERY_SEC = 0.05


_LISTENS = "0A"


# these are packages of their own; all others are under `services`
_WATCHERS = ("healer", "sentinel", "notifier")


def find_external_buses(truth: Truth, environ: Mapping[str, str]) -> dict[str, str]:
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
        if is_url_given(name, environ) or urlsplit(url).hostname != name.lower():
            known[name] = url
    return known


def require_free_metrics_ports(
    agents: Iterable[PlannedAgent], host: str, *, patience_sec: float = 0.0
) -> None:
    """Makes sure that the ports of our agents' metrics are free on `host`; see `require_free_ports`.

    Raises:
        Exit: code 2, naming who holds one.
    """
    deadline = time.monotonic() + patience_sec
    for agent in agents:
        port = agent.metrics_port
        while port is not None and not is_port_free(port, host):
            if time.monotonic() >= deadline:
                holder = find_port_holder(port)
                raise Exit(
                    Code.CONFIGURATION,
                    f"METRICS_PORT: port {port}, for {agent.name}, is taken by {holder}. Every "
                    "service of the truth has one, from METRICS_PORT on: choose another, or none.",
                )
            time.sleep(_LOOK_EVERY_SEC)


def require_free_ports(buses: Iterable[PlannedBus], *, patience_sec: float = 0.0) -> None:
    """Makes sure that our buses' ports are free.

    `patience_sec` is for servers of a fleet that was killed just now, which the kernel is about to end.

    Raises:
        Exit: code 2, naming who holds one, and the ways on.
    """
    deadline = time.monotonic() + patience_sec
    for bus in buses:
        while bus.port is not None and not is_port_free(bus.port):
            if time.monotonic() >= deadline:
                holder = find_port_holder(bus.port)
                raise Exit(
                    Code.CONFIGURATION,
                    f"port {bus.port}, for {bus.name}, is taken by {holder}. The ways on: "
                    f"other ports (--port 7379), using that server as it is "
                    f"({bus.variable}=redis://127.0.0.1:{bus.port}), or stopping it.",
                )
            time.sleep(_LOOK_EVERY_SEC)


@dataclass(frozen=True, slots=True)
class PortHolder:
    """The program that listens on a port; None is what could not be found out."""

    pid: int | None = None
    program: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "a program of another user"
        return f"{self.program or 'a program'} (pid {self.pid})"


def is_port_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one is free
        try:
            probe.bind((host, port))
        except OSError as error:
            # an address that is not here, or of another kind, is for who listens there to complain of
            return error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EPERM)
    return True


def find_port_holder(port: int, proc: Path = Path("/proc")) -> PortHolder:
    """Who listens on `port`: from /proc on Linux, else from `lsof`, if it is there."""
    if not proc.exists():
        return _ask_lsof(port)
    inodes = set(_listening(port, proc))
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        if inodes & set(_sockets(pid, proc)):
            return PortHolder(pid, _program(pid, proc))
    return PortHolder()


def _listening(port: int, proc: Path) -> Iterator[str]:
    """Inodes of the sockets that listen on `port`."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _sockets(pid: int, proc: Path) -> Iterator[str]:
    """Inodes of the sockets a process has open; none, where we may not look."""
    try:
        for handle in (proc / str(pid) / "fd").iterdir():
            if match := re.fullmatch(r"socket:\[(\d+)\]", _target(handle)):
                yield match[1]
    except OSError:
        return


def _target(handle: Path) -> str:
    try:
        return os.readlink(handle)  # noqa: PTH115 - the target is no path, and Path would make one of it
    except OSError:  # closed meanwhile
        return ""


def _program(pid: int, proc: Path) -> str | None:
    try:
        return (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _ask_lsof(port: int) -> PortHolder:
    lsof = shutil.which("lsof")
    if lsof is None:
        return PortHolder()
    try:
        said = subprocess.run(  # noqa: S603 - a number is all that is passed
            [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return PortHolder()
    facts = {line[0]: line[1:] for line in reversed(said.splitlines()) if line}
    return PortHolder(int(facts["p"]), facts.get("c")) if facts.get("p", "").isdigit() else PortHolder()


def find_modules(services: Iterable[str]) -> dict[str, str]:
    """The module to run for each service that has one: `services.new_svc` for `new-svc`."""
    found = {}
    for svc in services:
        name = svc.replace("-", "_")
        module = svc if svc in _WATCHERS else f"services.{name}"
        if name.isidentifier() and _runs(module):
            found[svc] = module
    return found


def _runs(module: str) -> bool:
    package, _, rest = module.partition(".")
    return any(Path(place, rest, "__main__.py").is_file() for place in places_of(package))
