"""Write, read and evaluate the alive file of an agent, which holds when the agent last made progress.

`marketswarm.agent.status` writes the file, and `marketswarm check` reads it. A check is a new process every
few seconds, so this module imports only a little of the standard library.
"""

import json
import os
from collections.abc import Mapping
from enum import StrEnum

VARIABLE = "MARKETSWARM_ALIVE_FILE"
LONGEST = 4096  # the most bytes that are read; our files have a twentieth of that
CLOCK_SLACK_SEC = 1.0
"""How far in the future the time in a file may be before the reader's clock counts as another one."""

Facts = Mapping[str, str | int | float | bool | None]
"""The content of an alive file, as `sign` makes it."""


class Phase(StrEnum):
    """The phase of its life that an agent is in."""

    JOINING = "joining"  # the agent waits for the truth
    WORKING = "working"
    STOPPING = "stopping"


class NoSign(Exception):  # noqa: N818 - an answer, not an error of the check's
    """The alive file is missing or unusable; the message says why in one line."""


def sign(svc: str, phase: Phase, at: float, allowed_sec: float, *, taken: bool) -> Facts:
    """Return the content of this process's alive file.

    Args:
        svc: the agent's name.
        phase: the phase of its life that the agent is in.
        at: when the agent last made progress, or began to wait for the truth; on the clock of
            `time.monotonic()`, which all processes of a machine share and which stands still while the
            machine is suspended.
        allowed_sec: how many seconds ago that may be.
        taken: whether a bus accepted one of its beats.
    """
    process = os.getpid()
    found = process_state(process)
    return {
        "svc": svc,
        "pid": process,
        "started": found[1]
        if found
        else None,  # a pid is used again, and a file stays when its process has ended
        "phase": phase,
        "at": round(at, 3),
        "allowed_sec": round(allowed_sec, 3),
        "taken": taken,
    }


def write(path: str, said: Facts) -> None:
    """Replace the file `path` by one with the content `said`. Raise OSError.

    A reader sees either the old content or the new one.
    """
    aside = f"{path}.{said['pid']}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(aside, flags, 0o644)  # a health check may be another user
    try:
        os.write(file, json.dumps(said).encode() + b"\n")
    finally:
        os.close(file)
    os.replace(aside, path)  # noqa: PTH105 - pathlib takes as long to load as all the rest


def read(path: str) -> Facts:
    """Return the content of an alive file. Raise NoSign if it is missing or unusable."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe must not block
        try:
            found = json.loads(os.read(file, LONGEST))
        finally:
            os.close(file)
    except FileNotFoundError:
        raise NoSign(f"no sign of life yet: there is no {path}") from None
    except OSError as error:
        raise NoSign(f"no sign of life: {path} can't be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise NoSign(f"no sign of life: {path} is something else") from None
    if not isinstance(found, dict):
        raise NoSign(f"no sign of life: {path} is something else")
    return found


def trouble(found: Facts, now: float, *, ready: bool) -> str | None:
    """Return why the agent is not well at `now` (monotonic), in words that follow its name; None if it is.

    With `ready` an agent that is well but not ready gets a reason too. Raise NoSign if the content lacks a
    field or has a wrong type.
    """
    try:
        return _lost(found) or _unwell(found, now) or (_not_ready(found) if ready else None)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise NoSign("no sign of life: the file is something else") from None


def in_words(found: Facts, now: float) -> str:
    """Return on one line when a well agent last made progress, or since when it waits for the truth."""
    silent_sec = now - float(found["at"] or 0)
    if found["phase"] == Phase.JOINING:
        return f"{found['svc']} has waited for the truth for {silent_sec:.1f} s"
    return f"{found['svc']} made progress {max(0.0, silent_sec):.1f} s ago"


def check(environ: Mapping[str, str], now: float, *, ready: bool) -> tuple[int, str]:
    """Return the exit code of `marketswarm check` and the line that it prints.

    The code is 0 if the agent is well (with `ready`: and ready), 1 if it is not or its file is missing or
    unusable, and 2 if `environ` does not name a file. `now` is monotonic.
    """
    path = environ.get(VARIABLE)
    if not path:
        return 2, f"{VARIABLE} is not set: it names the file with the agent's sign of life"
    try:
        found = read(path)
        why_not = trouble(found, now, ready=ready)
    except NoSign as why:
        return 1, str(why)
    return (0, in_words(found, now)) if why_not is None else (1, f"{found['svc']} {why_not}")


def _lost(found: Facts) -> str | None:
    """Return why the process that wrote the file does not run, or None if it runs."""
    pid = int(found["pid"] or 0)
    process = process_state(pid) if pid > 0 else None
    if process is None:
        return f"has ended (process {pid})"
    state, started = process
    if state in "ZX" or (None not in (started, found["started"]) and started != found["started"]):
        return f"has ended (process {pid})"
    return f"stands still (process {pid} got SIGSTOP)" if state == "T" else None


def _unwell(found: Facts, now: float) -> str | None:
    """Return why a running agent is not well at `now`: it is stopping or made no progress; else None."""
    silent_sec, allowed_sec = now - float(found["at"] or 0), float(found["allowed_sec"] or 0)
    if found["phase"] == Phase.STOPPING:
        return "is stopping"
    if silent_sec < -CLOCK_SLACK_SEC:
        return "goes by another clock: check it where it runs"
    if silent_sec <= allowed_sec:
        return None
    if found["phase"] == Phase.JOINING:
        return f"has waited for the truth for {silent_sec:.1f} s and may for {allowed_sec:.1f} s"
    return f"made progress {silent_sec:.1f} s ago and {allowed_sec:.1f} s are allowed"


def _not_ready(found: Facts) -> str | None:
    """Return why a well agent is not ready: it has no truth, or no bus accepted a beat; else None."""
    if found["phase"] == Phase.JOINING:
        return "waits for the truth"
    return None if found["taken"] else "has joined, but no bus took a beat of it yet"


def process_state(pid: int) -> tuple[str, int | None] | None:
    """Return the state of a process (`R`, `S`, `T` …) and its start in clock ticks; None if it has ended.

    Where there is no /proc, or it hides other users' processes, the state is `?` and the start is None.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
            words = file.read().rpartition(b")")[2].split()
        return words[0].decode(), int(words[19])  # fields 3 and 22 of proc(5)
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "?", None
