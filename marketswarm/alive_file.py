"""Write, read and evaluate the alive file of an agent, which holds when the agent last made progress.

`marketswarm.agent.status` writes the file, and `marketswarm check` reads it. A check is a new process every
few seconds, so this module imports only a little of the standard library.
"""

import json
import os
from collections.abc import Mapping
from enum import StrEnum

VARIABLE = "MARKETSWARM_ALIVE_FILE"
MAX_FILE_BYTES = 4096  # the most bytes that are read; our files have a twentieth of that
ENDED_STATES = "ZX"
"""The states of a process that has ended and was not waited for yet: a zombie, and one that is dead."""
CLOCK_SLACK_SEC = 1.0
"""How far in the future the time in a file may be before the reader's clock counts as another one."""

Facts = Mapping[str, str | int | float | bool | None]
"""The content of an alive file, as `build_facts` makes it."""


class Phase(StrEnum):
    """The phase of its life that an agent is in."""

    JOINING = "joining"  # the agent waits for the truth
    WORKING = "working"
    STOPPING = "stopping"


class AliveFileError(Exception):
    """The alive file is missing or unusable; the message says why in one line."""


def build_facts(svc: str, phase: Phase, at: float, allowed_sec: float, *, beat_accepted: bool) -> Facts:
    """Return the content of this process's alive file.

    Args:
        at: when the agent last made progress, or began to wait for the truth; on the clock of
            `time.monotonic()`, which all processes of a machine share and which stands still while the
            machine is suspended.
    """
    pid = os.getpid()
    process_state = read_process_state(pid)
    return {
        "svc": svc,
        "pid": pid,
        # a pid is used again, and a file stays when its process has ended
        "started": process_state[1] if process_state else None,
        "phase": phase,
        "at": round(at, 3),
        "allowed_sec": round(allowed_sec, 3),
        "taken": beat_accepted,
    }


def write(path: str, facts: Facts) -> None:
    """Replace the file `path` by one with the content `facts`. Raise OSError.

    A reader sees either the old content or the new one.
    """
    temporary_path = f"{path}.{facts['pid']}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(temporary_path, flags, 0o644)  # a health check may be another user
    try:
        os.write(file, json.dumps(facts).encode() + b"\n")
    finally:
        os.close(file)
    os.replace(temporary_path, path)  # noqa: PTH105 - pathlib takes as long to load as all the rest


def read(path: str) -> Facts:
    """Return the content of an alive file. Raise AliveFileError if it is missing or unusable."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe must not block
        try:
            facts = json.loads(os.read(file, MAX_FILE_BYTES))
        finally:
            os.close(file)
    except FileNotFoundError:
        raise AliveFileError(f"no sign of life yet: there is no {path}") from None
    except OSError as error:
        raise AliveFileError(f"no sign of life: {path} can't be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise AliveFileError(f"no sign of life: {path} is something else")
    return facts


def find_trouble(facts: Facts, now: float, *, ready: bool) -> str | None:
    """Return why the agent is not well (with `ready`: or not ready), in words that follow its name, or None.

    Raise AliveFileError if the content lacks a field or has a wrong type.
    """
    try:
        return (
            _find_process_end(facts)
            or _find_hang_or_stop(facts, now)
            or (_find_unready_reason(facts) if ready else None)
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise AliveFileError("no sign of life: the file is something else") from None


def check(environ: Mapping[str, str], now: float, *, ready: bool) -> tuple[int, str]:
    """Return the exit code of `marketswarm check` and the line that it prints.

    The code is 0 if the agent is well (with `ready`: and ready), 1 if it is not or its file is missing or
    unusable, and 2 if `environ` does not name a file. `now` is monotonic.
    """
    path = environ.get(VARIABLE)
    if not path:
        return 2, f"{VARIABLE} is not set: it names the file with the agent's sign of life"
    try:
        facts = read(path)
        trouble = find_trouble(facts, now, ready=ready)
    except AliveFileError as error:
        return 1, str(error)
    if trouble is not None:
        return 1, f"{facts['svc']} {trouble}"
    silent_sec = now - float(facts["at"] or 0)
    if facts["phase"] == Phase.JOINING:
        return 0, f"{facts['svc']} has waited for the truth for {silent_sec:.1f} s"
    return 0, f"{facts['svc']} made progress {max(0.0, silent_sec):.1f} s ago"


def _find_process_end(facts: Facts) -> str | None:
    pid = int(facts["pid"] or 0)
    process = read_process_state(pid) if pid > 0 else None
    if process is None:
        return f"has ended (process {pid})"
    state, started = process
    if state in ENDED_STATES or (None not in (started, facts["started"]) and started != facts["started"]):
        return f"has ended (process {pid})"
    return f"stands still (process {pid} got SIGSTOP)" if state == "T" else None


def _find_hang_or_stop(facts: Facts, now: float) -> str | None:
    silent_sec, allowed_sec = now - float(facts["at"] or 0), float(facts["allowed_sec"] or 0)
    if facts["phase"] == Phase.STOPPING:
        return "is stopping"
    if silent_sec < -CLOCK_SLACK_SEC:
        return "goes by another clock: check it where it runs"
    if silent_sec <= allowed_sec:
        return None
    if facts["phase"] == Phase.JOINING:
        return f"has waited for the truth for {silent_sec:.1f} s and may for {allowed_sec:.1f} s"
    return f"made progress {silent_sec:.1f} s ago and {allowed_sec:.1f} s are allowed"


def _find_unready_reason(facts: Facts) -> str | None:
    if facts["phase"] == Phase.JOINING:
        return "waits for the truth"
    return None if facts["taken"] else "has joined, but no bus took a beat of it yet"


def read_process_state(pid: int) -> tuple[str, int | None] | None:
    """Return the state of a process (`R`, `S`, `T` …) and its start in clock ticks; None if there is none.

    One of ENDED_STATES is that of a process that has ended, and whose parent did not wait for it yet. One of
    which the first thread alone has ended is said to sleep.
    Where there is no /proc, or it hides other users' processes, the state is `?` and the start is None.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            words = file.read().rpartition(b")")[2].split()
    except OSError:
        pass
    else:
        state, threads, started = words[0].decode(), int(words[17]), int(words[19])  # of proc(5): 3, 20, 22
        return "S" if state in ENDED_STATES and threads > 1 else state, started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "?", None
