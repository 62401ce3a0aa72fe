"""Who holds a TCP port of this machine, so that a taken one can be named. It frees none and uses none."""

import errno
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTENS = "0A"


@dataclass(frozen=True, slots=True)
class Holder:
    """The program that listens on a port; None is what could not be found out."""

    pid: int | None = None
    program: str | None = None

    def __str__(self) -> str:
        if self.pid is None:
            return "a program of another user"
        return f"{self.program or 'a program'} (pid {self.pid})"


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a closed one is free
        try:
            probe.bind((host, port))
        except OSError as error:
            # an address that is not here, or of another kind, is for who listens there to complain of
            return error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EPERM)
    return True


def holder(port: int, proc: Path = Path("/proc")) -> Holder:
    """Who listens on `port`: from /proc on Linux, else from `lsof`, if it is there."""
    if not proc.exists():
        return _ask_lsof(port)
    inodes = set(_listening(port, proc))
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        if inodes & set(_sockets(pid, proc)):
            return Holder(pid, _program(pid, proc))
    return Holder()


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


def _ask_lsof(port: int) -> Holder:
    lsof = shutil.which("lsof")
    if lsof is None:
        return Holder()
    try:
        said = subprocess.run(  # noqa: S603 - a number is all that is passed
            [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return Holder()
    facts = {line[0]: line[1:] for line in reversed(said.splitlines()) if line}
    return Holder(int(facts["p"]), facts.get("c")) if facts.get("p", "").isdigit() else Holder()
