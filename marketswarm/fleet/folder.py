"""The data folder of an embedded fleet: who has it, and what others in the same folder may know of it.

`fleet.pid` is locked by the fleet that runs, so a stale one is no obstacle. `fleet.json` says where its buses
are; it counts only while that fleet answers on its control socket.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from marketswarm.fleet.private_files import is_own_folder, open_own, own_folder

DEFAULT = Path(".marketswarm")
# what a socket's address holds is less than a path may have
_LONGEST_ADDRESS = 100


class TakenError(Exception):
    """Another fleet runs in this folder."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"pid {pid}" if pid else "pid unknown")
        self.pid = pid


@dataclass(frozen=True, slots=True)
class Running:
    """A fleet that runs: its pid, its control socket, its buses' URLs by name.

    `keys` are the files with the URLs for an operator, where a bus lets in nobody else; `running` has read
    them: what they hold is in `buses`.
    """

    pid: int
    control: str
    buses: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Makes `folder` ours while the context lasts, or longer if this process is killed: until it is gone.

    Raises:
        TakenError: a fleet that runs has it.
        PermissionError: the folder, or its `fleet.pid`, is not ours alone to write to.
    """
    own_folder(folder, closed=False)
    handle = open_own(folder / "fleet.pid", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    with open(handle, "a+", encoding="ascii") as file:  # noqa: PTH123 - a descriptor, not a path
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            said = file.read().strip()
            raise TakenError(int(said) if said.isdigit() else None) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
        file.truncate(0)


def control_address(folder: Path) -> str:
    """Where the control socket of a fleet in `folder` is to be; elsewhere if the path is too long for one."""
    path = (folder / "control.sock").absolute()
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS:
        return str(path)
    return str(Path(tempfile.mkdtemp(prefix="marketswarm-"), "control.sock"))


def publish(folder: Path, running: Running) -> None:
    """Tells others in this folder of the fleet."""
    draft = folder / "fleet.json.new"
    said = {"pid": running.pid, "control": running.control, "buses": running.buses, "keys": running.keys}
    draft.unlink(missing_ok=True)
    with os.fdopen(open_own(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(orjson.dumps(said))
    draft.replace(folder / "fleet.json")


def withdraw(folder: Path) -> None:
    """Takes that back."""
    (folder / "fleet.json").unlink(missing_ok=True)


def ended_badly(folder: Path) -> bool:
    """Whether the last fleet here had no time to clean up."""
    return (folder / "fleet.json").exists()


def running(folder: Path) -> Running | None:
    """The fleet that runs in `folder`, None if none does; what others may write to says nothing of ours."""
    if not is_own_folder(folder):
        return None
    try:
        with os.fdopen(open_own(folder / "fleet.json", os.O_RDONLY), "rb") as file:
            said = orjson.loads(file.read())
        keys = dict(said.get("keys") or {})
        buses = {**said["buses"], **{bus: Path(key).read_text("utf-8").strip() for bus, key in keys.items()}}
        fleet = Running(int(said["pid"]), str(said["control"]), buses, keys)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(fleet.control)
        except OSError:
            return None
    return fleet
