"""Reports of an agent's status to programs outside: a file for health checks, and systemd's socket.

The status is that of the watchdog: when the event loop and the work last made progress. A thread of its own
reports it, since a file system that hangs must block neither the event loop nor the watchdog. If no outlet is
configured, that thread is not started.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from marketswarm import alive_file, log
from marketswarm.agent.watchdog import Watchdog
from marketswarm.alive_file import Phase

STEP_SEC: Final = 1.0
NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The status to report. `at` is when progress was last made, or joining began, in monotonic seconds.

    `limit_sec` is how long the phase may last, or the work be silent; `taken` says whether a bus ever took a
    beat.
    """

    phase: Phase
    at: float
    limit_sec: float
    taken: bool  # a bus took a beat
    status: str


class StatusOutlet(Protocol):
    """Receives the status each second, and at once when it changes. Never raises."""

    def show(self, sign: AgentStatus) -> None:
        """Report the current status; an outlet may skip what it reported before."""


class StatusReporter:
    """Reports the status to all outlets, once a second and on changes, while its `with` block lasts.

    `join_within_sec` is the limit that is reported while the agent waits for the truth.
    """

    def __init__(self, watchdog: Watchdog, outlets: Sequence[StatusOutlet], join_within_sec: float) -> None:
        self._watchdog, self._outlets, self._join_within_sec = watchdog, outlets, join_within_sec
        self._begun = time.monotonic()
        self._taken, self._status = False, "waits for the truth"
        self._woken, self._over = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="signs", daemon=True)

    def __enter__(self) -> Self:
        if self._outlets:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._outlets:
            self._over = True
            self.now()
            self._thread.join(STEP_SEC)

    def now(self) -> None:
        """Have the thread report the status at once."""
        self._woken.set()

    def record_beat(self, status: str, *, taken: bool) -> None:
        """Record that a beat was sent, to be reported.

        `status` is the agent's status in one line, `taken` says whether a bus ever accepted a beat.
        """
        self._status = status
        if taken != self._taken:
            self._taken = taken
            self.now()

    def sign(self, now: float) -> AgentStatus:
        """Return the status to report at `now`, in monotonic seconds."""
        dog = self._watchdog
        if dog.stop_by != NEVER:
            return AgentStatus(Phase.STOPPING, now, 0.0, self._taken, "stopping")
        if dog.limit_sec == NEVER:
            return AgentStatus(Phase.JOINING, self._begun, self._join_within_sec, self._taken, self._status)
        return AgentStatus(Phase.WORKING, dog.alive_at(now), dog.limit_sec, self._taken, self._status)

    def _run(self) -> None:
        """Report the status each second and when woken, in the thread, until the block has ended."""
        while True:
            over = self._over
            self._woken.clear()
            sign = self.sign(time.monotonic())
            for outlet in self._outlets:
                outlet.show(sign)
            if over:
                return
            self._woken.wait(STEP_SEC)


class AliveFile:
    """Writes the status to the file that `marketswarm check` reads.

    A failed write is logged and not raised.
    """

    def __init__(self, svc: str, path: Path) -> None:
        self._svc, self._path = svc, str(path)
        self._shown: tuple[object, ...] = ()
        self._failing: str | None = None

    def show(self, sign: AgentStatus) -> None:
        """Write the status to the file, unless the file has it already."""
        facts = (sign.phase, sign.phase != Phase.STOPPING and sign.at, sign.limit_sec, sign.taken)
        if facts == self._shown:
            return
        # the file may be one step old before it is written again, and the thread may then wait for the CPU
        allowed_sec = sign.limit_sec + 2 * STEP_SEC
        try:
            sent = alive_file.sign(self._svc, sign.phase, sign.at, allowed_sec, taken=sign.taken)
            alive_file.write(self._path, sent)
        except OSError as error:
            if error.strerror != self._failing:
                self._failing = error.strerror
                log.get().warning("alive.unwritable", path=self._path, error=error.strerror)
        else:
            self._shown, self._failing = facts, None
