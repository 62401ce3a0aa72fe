"""Finds and ends what tests left running: processes, orphans too, and fleets on a container engine.

A test's process has inherited the run's tag, or works in one of the run's temporary folders, as servers do
that were started with an environment of their own. A fleet in containers has the tag in its name.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

TAG = "MARKETSWARM_TEST_RUN"
PROJECTS = "marketswarm-test"
PROJECT = "com.docker.compose.project"


def end_leftovers(run: str, folder: Path) -> list[str]:
    """End the processes that a run left; return a line for each: pid, command, and the test, if known."""
    found = list(from_proc(run, folder) if Path("/proc/self/environ").exists() else from_ps())
    for pid, _ in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"{pid} {what}" for pid, what in found]


def from_proc(run: str, folder: Path) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile, or another user's
            environ = dict(_.split("=", 1) for _ in text_of(entry / "environ") if "=" in _)
            place = (entry / "cwd").readlink()
            working = place.is_relative_to(folder) and age_order(entry) > age_order(Path("/proc/self"))
            if environ.get(TAG) == run or working:
                command = " ".join(text_of(entry / "cmdline"))
                yield int(entry.name), f"{command} <- {environ.get('PYTEST_CURRENT_TEST', place)}"


def age_order(entry: Path) -> int:
    """When a process started, in ticks since the machine did."""
    return int((entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19])


def text_of(file: Path) -> list[str]:
    return file.read_bytes().decode(errors="replace").rstrip("\0").split("\0")


def from_ps() -> Iterator[tuple[int, str]]:
    """Yield this process' children, for systems without /proc. An orphan is not found."""
    answer = subprocess.run(["ps", "-axo", "pid=,ppid=,command="], capture_output=True, text=True, check=True)
    for pid, ppid, command in (line.split(None, 2) for line in answer.stdout.splitlines()):
        if int(ppid) == os.getpid() and not command.startswith("ps "):
            yield int(pid), command


def begun_project(name: str) -> None:
    """Notes that there is one, from before its first part is made until its last one is gone."""
    _note(name).touch()


def end_projects(run: str) -> list[str]:
    """The names of the fleets in containers that were still there."""
    found = sorted(note.name for note in _note("").glob(f"{PROJECTS}-{run}-*"))
    for name in found:
        end_project(name)
    return found


def end_project(name: str) -> None:
    """Removes all that a project of compose has: containers, volumes, networks, and images with its tag."""
    mine = ("--filter", f"label={PROJECT}={name}")
    _docker("rm", "--force", "--volumes", *_docker("ps", "--all", "--quiet", *mine))
    _docker("volume", "rm", "--force", *_docker("volume", "ls", "--quiet", *mine))
    _docker("network", "rm", *_docker("network", "ls", "--quiet", "--filter", f"name={name}"))
    tagged = ("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", f"reference=*:{name}*")
    _docker("image", "rm", "--force", *_docker(*tagged))
    _note(name).unlink(missing_ok=True)


def _note(name: str) -> Path:
    return Path(tempfile.gettempdir()) / name


def _docker(*words: str) -> list[str]:
    """The words that it answers; none where it has nothing to be done to."""
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, timeout=60, check=False
    ).stdout.split()
