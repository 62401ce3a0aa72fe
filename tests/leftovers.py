"""Finds and ends processes that tests left running: whoever inherited the run's tag, orphans too."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

TAG = "MARKETSWARM_TEST_RUN"


def end_leftovers(run: str) -> list[str]:
    """One line a process that still lived: its pid, its command, where known the test that started it."""
    found = list(from_proc(run) if Path("/proc/self/environ").exists() else from_ps())
    for pid, _ in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"{pid} {what}" for pid, what in found]


def from_proc(run: str) -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            environ = dict(_.split("=", 1) for _ in text_of(folder / "environ") if "=" in _)
            if environ.get(TAG) == run and int(folder.name) != os.getpid():
                command = " ".join(text_of(folder / "cmdline"))
                yield int(folder.name), f"{command} <- {environ.get('PYTEST_CURRENT_TEST', 'no test')}"


def text_of(file: Path) -> list[str]:
    return file.read_bytes().decode(errors="replace").rstrip("\0").split("\0")


def from_ps() -> Iterator[tuple[int, str]]:
    """Where there is no /proc, children only: an orphan has another parent by now."""
    answer = subprocess.run(["ps", "-axo", "pid=,ppid=,command="], capture_output=True, text=True, check=True)
    for pid, ppid, command in (line.split(None, 2) for line in answer.stdout.splitlines()):
        if int(ppid) == os.getpid() and not command.startswith("ps "):
            yield int(pid), command
