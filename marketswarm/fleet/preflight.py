"""Checks before a fleet starts: where its buses are, and free ports."""

import contextlib
import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from marketswarm.bus import BusError, find_bus_url, get_url_variable
from marketswarm.exit import Mistake
from marketswarm.fleet.listen import ListenAddress, ListenError, find_listen_address
from marketswarm.fleet.plan import DATABASE_URL, LOOPBACK, SIGNALS, SIGNALS_DATABASE_URL, Plan
from marketswarm.fleet.server import knows_tls, read_output
from marketswarm.settings import is_variable_set
from marketswarm.text import format_names
from marketswarm.truth import Truth

_POLL_EVERY_SEC = 0.05
_TCP_LISTEN = "0A"
_UNKNOWN_HOLDER = "a program of another user"


def find_external_buses(truth: Truth, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the URLs of the buses that run already, by name: the environment or the truth has their URL.

    A bus is left out if the environment has no URL for it and its URL has the name of the bus as its host:
    the fleet runs it. Raises Exit, code 2, if a given URL is wrong.
    """
    known = {}
    for name in truth.bus_names():
        try:
            url = find_bus_url(name, environ, truth)
        except BusError as error:
            raise Mistake(str(error)) from None
        if is_variable_set(get_url_variable(name), environ) or urlsplit(url).hostname != name.lower():
            known[name] = url
    return known


def require_listening(text: str, plan: Plan, binary: Path | None, board_host: str) -> ListenAddress:
    """Return the address that `--listen` means, if a fleet can listen there and is safe there.

    `binary` is the program of its servers. Raises Exit, code 2.
    """
    try:
        at = find_listen_address(text)
    except ListenError as error:
        raise Mistake(f"--listen: {error}") from None
    own = [bus for bus in plan.buses if bus.port is not None]
    if binary is None or len(own) < len(plan.buses):
        others = format_names(bus.name for bus in plan.buses if bus.port is None)
        raise Mistake(f"--listen: the fleet must run all of its buses, and {others} it does not")
    if not knows_tls(binary):
        raise Mistake(
            f"--listen: {binary} was built without TLS, so others could read its passwords on the "
            "network. Install a server with it (for instance: apt install redis-server, brew install redis)",
        )
    if board_host != LOOPBACK and any(agent.board_port for agent in plan.agents):
        raise Mistake(
            f"--listen: BOARD_HOST={board_host} would show the board without TLS; --listen lets it listen "
            f"at {at.address} with it: leave BOARD_HOST out",
        )
    return at


def require_signals_database(plan: Plan, environ: Mapping[str, str], *, runs_database: bool) -> None:
    """Raise Exit, code 2, if signals is to run and has no database, so that it could only end with code 2.

    `runs_database` says whether the fleet runs a PostgreSQL of its own, where signals gets a role.
    """
    is_planned = any(agent.svc == SIGNALS for agent in plan.agents)
    if not is_planned or runs_database or is_variable_set(SIGNALS_DATABASE_URL, environ):
        return
    if is_variable_set(DATABASE_URL, environ):
        why = f"{DATABASE_URL} names a PostgreSQL, so none is run here, and {SIGNALS_DATABASE_URL} is not set"
        own = f"or leaving {DATABASE_URL} out as well"
    else:
        why = f"{SIGNALS_DATABASE_URL} is not set, and no archive runs here, so no PostgreSQL either"
        own = "or running archive, too"
    raise Mistake(
        f"signals has no database: {why}. The ways on: setting {SIGNALS_DATABASE_URL} to the database of "
        f"archive, for the role marketswarm_signals (docs/security.md); leaving signals out (--only); {own}.",
    )


def require_free_ports(
    plan: Plan, metrics_host: str, board_host: str, *, listen: str | None = None, patience_sec: float = 0.0
) -> None:
    """Check that the ports of the servers, of the metrics and of the board are free.

    With `listen`, an address, those of servers and board must be free there, too. Wait for up to
    `patience_sec` seconds in all: after a fleet was killed, its children may still be ending. Raises Exit,
    code 2; the message names the holder of a port and the remedies.
    """
    deadline = time.monotonic() + patience_sec
    for port, host, subject, remedy in _list_ports(plan, metrics_host, board_host, listen):
        while not is_port_free(port, host):
            if time.monotonic() >= deadline:
                holder = find_port_holder(port)
                raise Mistake(f"{subject} is taken by {holder}. {remedy}")
            time.sleep(_POLL_EVERY_SEC)


def _list_ports(
    plan: Plan, metrics_host: str, board_host: str, listen: str | None
) -> Iterator[tuple[int, str, str, str]]:
    """Yield each port with its host, what to call it, and what can be done if it is taken."""
    for bus in plan.buses:
        if bus.port is not None:
            remedy = (
                f"The ways on: other ports (--port 7379), using that server as it is "
                f"({bus.variable}=redis://127.0.0.1:{bus.port}), or stopping it."
            )
            yield bus.port, LOOPBACK, f"port {bus.port}, for {bus.name},", remedy
            if listen is not None:
                remedy = "The ways on: other ports (--port 7379), or stopping it."
                yield bus.port, listen, f"port {bus.port} at {listen}, for {bus.name},", remedy
    remedy = "Every service of the truth has one, from METRICS_PORT on: choose another, or none."
    for agent in plan.agents:
        if (port := agent.metrics_port) is not None:
            yield port, metrics_host, f"METRICS_PORT: port {port}, for {agent.name},", remedy
    remedy = "The ways on: another port (--board-port 8090), or no page at all (--no-board)."
    for agent in plan.agents:
        if (port := agent.board_port) is not None:
            yield port, board_host, f"port {port}, for {agent.name},", remedy
            if listen is not None:
                yield port, listen, f"port {port} at {listen}, for {agent.name},", remedy


def is_port_free(port: int, host: str = LOOPBACK) -> bool:
    """Return True if a server could listen on this port now. An unusable host counts as free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, for TIME_WAIT
        try:
            probe.bind((host, port))
        except OSError as error:
            # an unusable address is reported by the program that listens on it
            return error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EPERM)
    return True


def find_free_port() -> int:
    """Return a port of the loopback address that no program listens on now."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def find_port_holder(port: int, proc: Path = Path("/proc")) -> str:
    """Return the program that listens on `port`, for people, by the files in `proc`, or else by `lsof`."""
    if not proc.exists():
        return _ask_lsof(port)
    inodes = set(_find_listening_inodes(port, proc))
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        if inodes & set(_find_socket_inodes(pid, proc)):
            name = None
            with contextlib.suppress(OSError):
                name = (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
            return f"{name or 'a program'} (pid {pid})"
    return _UNKNOWN_HOLDER


def _find_listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == _TCP_LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _find_socket_inodes(pid: int, proc: Path) -> Iterator[str]:
    try:
        for handle in (proc / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):  # the descriptor was closed meanwhile
                target = os.readlink(handle)  # noqa: PTH115 - not a path, and Path would make one of it
                if match := re.fullmatch(r"socket:\[(\d+)\]", target):
                    yield match[1]
    except OSError:
        return


def _ask_lsof(port: int) -> str:
    lsof = shutil.which("lsof")
    if lsof is None:
        return _UNKNOWN_HOLDER
    output, _ = read_output([lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"])
    facts = {line[0]: line[1:] for line in reversed(output.splitlines()) if line}
    pid = facts.get("p", "")
    return f"{facts.get('c') or 'a program'} (pid {pid})" if pid.isdigit() else _UNKNOWN_HOLDER


def is_in_our_tree() -> bool:
    """Return True if the current folder has this project's Makefile."""
    try:
        return "simulate:" in Path("Makefile").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
