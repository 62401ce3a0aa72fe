"""Start programs, exchange lines with them, and read their processor time and memory. Linux only: /proc."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

T = TypeVar("T")
WITHIN_SEC: Final = 300.0
"""For how long something is waited for; a machine with other work is slow."""
ROOT: Final = Path(__file__).parent.parent


class HasUrl(Protocol):
    """A server that programs find by a URL."""

    url: str


@contextmanager
def run_program(
    module: str, buses: tuple[HasUrl, HasUrl], **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m <module>` while the block runs, on these two buses and with these variables.

    Its log is printed to stderr if its exit code is not 0.
    """
    env = os.environ | {
        "SYSTEM_REDIS_URL": buses[0].url,
        "MARKET_REDIS_URL": buses[1].url,
        "LOG_LEVEL": "WARNING",
        **settings,
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-m", module], env=env, cwd=ROOT, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            if process.wait(15):
                log.seek(0)
                sys.stderr.write(log.read().decode()[-4000:])


class Worker:
    """`python -m <module> <words>`, a program of the bench, while a `with` block runs.

    It prints a line of JSON for each line that it reads, and one when it is ready. Its module is found from
    `folder`; `env` are variables besides ours.
    """

    def __init__(
        self, module: str, *words: object, folder: Path = ROOT, env: Mapping[str, str] | None = None
    ) -> None:
        command = [sys.executable, "-m", module, *map(str, words)]
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | dict(env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self) -> Any:
        """Return its next line. Raise RuntimeError if it ended instead."""
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"{self._process.args!r} ended")
        return json.loads(line)

    def send(self, order: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def ask(self, order: Any) -> Any:
        self.send(order)
        return self.read()


def answer(value: Any) -> None:
    """Print a line for the process that started this one as a `Worker`."""
    print(json.dumps(value), flush=True)


def read_order() -> Any:
    """Return the next line that the process that started this one sent; exit if there is none."""
    return json.loads(sys.stdin.readline() or sys.exit())


def read_result(module: str, *words: object, folder: Path = ROOT) -> Any:
    """Run a program of the bench to its end, and return the JSON that it prints."""
    with Worker(module, *words, folder=folder) as worker:
        return worker.read()


def find_tree(pid: int) -> list[int]:
    """Return a process and those that it has started, and so on."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{each}/task/{each}/children").read_text().split())
    return found


def cpu_sec(pid: int) -> float:
    """Return the processor time of a process and of all that it has started."""
    return sum(map(_own_cpu_sec, find_tree(pid)))


def _own_cpu_sec(pid: int) -> float:
    """Count threads to the nanosecond, and threads and children that have ended to the tick (10 ms)."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    running = sum(int(each.read_text().split()[0]) / 1e9 for each in threads)
    user, system, *children = _read_times(pid, 11, 15)
    return max(running, user + system) + sum(children)


def age_sec(pid: int) -> float:
    """Return how long ago a process started, to the tick. Raises OSError if it is gone.

    The time of a start that psutil tells is up to a second too early: the kernel says in whole seconds when
    it was started itself.
    """
    (started,) = _read_times(pid, 19, 20)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def _read_times(pid: int, first: int, last: int) -> list[float]:
    """Return some fields behind the name of a process, which are in ticks, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in fields[first:last]]


def pss_mb(pid: int) -> float:
    """Return the memory of a process and of all that it has started; what processes share is divided."""
    return sum(map(_own_pss_mb, find_tree(pid)))


def _own_pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (pss,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(pss) * 1024 / 1e6


class Usage:
    """The processor time of a process, and the time, since this was made."""

    def __init__(self, pid: int) -> None:
        self._pid, self._began, self._before = pid, time.monotonic(), cpu_sec(pid)

    def cpu_sec(self) -> float:
        return cpu_sec(self._pid) - self._before

    def sec(self) -> float:
        return time.monotonic() - self._began

    def percent(self) -> float:
        """Return the processor time as percent of a core."""
        return 100 * self.cpu_sec() / self.sec()


def wait_until(done: Callable[[], T | None], what: str, every_sec: float = 0.01) -> T:
    """Wait until `done` returns a true value, and return that; check it every `every_sec` seconds.

    The wait is not measured, or no more exactly than `every_sec`. Raises RuntimeError if `what` was not done
    within WITHIN_SEC seconds, so there is nothing to measure.
    """
    by = time.monotonic() + WITHIN_SEC
    while not (found := done()):
        if time.monotonic() > by:
            raise RuntimeError(f"not within {WITHIN_SEC:g} s: {what}")
        time.sleep(every_sec)
    return found


def wait_until_idle(pid: int) -> None:
    """Wait until a process uses at most 0.02 s of processor time in half a second."""
    last = -1.0
    while (now := cpu_sec(pid)) > last + 0.02:
        last = now
        time.sleep(0.5)
