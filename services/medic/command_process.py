"""Identify the process group of a command, so that the next medic on this host knows that it is over.

A pid alone identifies nothing: it is given to another process later, and is another process on another host
or in another container. So an identity names the boot of the kernel, the namespace of pids, and for the
command and its medic the pid with its start. Linux alone has them; elsewhere there is no identity.
"""

import os
import re
from pathlib import Path
from typing import Final

from marketswarm.alive_file import ENDED_STATES, read_process_state

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE: Final = Path("/proc/self/ns/pid")
_PROCESS: Final = r"([1-9][0-9]{0,6})\.([0-9]{1,19})"
_IDENTITY: Final = re.compile(rf"([!-~]{{1,100}}) {_PROCESS} {_PROCESS}")


def identify_group(pid: int) -> str:
    """Return the identity of a process group that this medic began, by its first process; empty if unknown.

    `<boot id>/<namespace of pids> <pid>.<start in clock ticks> <the same of this medic>`.
    """
    host, group, medic = _read_host(), _read_start(pid), _read_start(os.getpid())
    if not host or group is None or medic is None:
        return ""
    return f"{host} {pid}.{group} {os.getpid()}.{medic}"


def has_group_ended(identity: str) -> bool:
    """Return True if a process group and the medic that began it provably ended; False if nothing proves it.

    Nothing does on another host or in another container. The group lasts as long as one of its processes
    does. A medic that still runs may know how the command ended.
    """
    found = _IDENTITY.fullmatch(identity)
    if found is None or found[1] != _read_host():
        return False
    group, group_start, medic, medic_start = map(int, found.groups()[1:])
    return _has_ended(medic, medic_start) and (_is_taken(group, group_start) or not _is_group(group))


def _read_host() -> str:
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}/{_NAMESPACE.readlink()}"
    except (OSError, UnicodeError):
        return ""


def _read_start(pid: int) -> int | None:
    found = read_process_state(pid)
    return None if found is None else found[1]


def _has_ended(pid: int, start: int) -> bool:
    """Return True if no process has this pid, or one that began at another time, or has ended itself."""
    found = read_process_state(pid)
    if found is None:
        return True
    state, started = found
    return started is not None and (started != start or state in ENDED_STATES)


def _is_taken(pid: int, start: int) -> bool:
    """Return True if a later process has this pid: no process gets one that is the number of a group."""
    found = read_process_state(pid)
    return found is not None and found[1] not in (None, start)


def _is_group(pid: int) -> bool:
    """Return True if a process group with this number has a process, also one that was not waited for."""
    try:
        os.killpg(pid, 0)  # signals nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
