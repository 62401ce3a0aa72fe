"""Report to the outside that an agent is alive: to a file for health checks, to systemd by its socket.

What is reported is what the watchdog knows: when the event loop and the work last made progress. Reporting
has a thread of its own, since a file system that hangs must take neither the loop nor the watchdog with it.
Where nobody outside asked for it, there is no such thread.
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
    """The status to report. `at` is when progress was last made, or joining began, in monotonic seconds."""

    phase: Phase
    at: float
    limit_sec: float
    taken: bool  # a bus took a beat
    status: str


class StatusOutlet(Protocol):
    """Receives the status each second, and at once when it changes. Never raises."""

    def show(self, sign: AgentStatus) -> None:
        """Report the current status. The outlet remembers what it reported before."""


class StatusReporter:
    """Reports the status while its `with` block lasts. `join_within_sec` limits the wait for the truth."""

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
        """Report the status at once."""
        self._woken.set()

    def record_beat(self, status: str, *, taken: bool) -> None:
        """Record that a beat was sent.

        `status` is the agent's status in one line, `taken` whether a bus ever accepted a beat.
        """
        self._status = status
        if taken != self._taken:
            self._taken = taken
            self.now()

    def sign(self, now: float) -> AgentStatus:
        """Return the status at `now`."""
        dog = self._watchdog
        if dog.stop_by != NEVER:
            return AgentStatus(Phase.STOPPING, now, 0.0, self._taken, "stopping")
        if dog.limit_sec == NEVER:
            return AgentStatus(Phase.JOINING, self._begun, self._join_within_sec, self._taken, self._status)
        return AgentStatus(Phase.WORKING, dog.alive_at(now), dog.limit_sec, self._taken, self._status)

    def _run(self) -> None:
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
    """The file that `marketswarm check` reads. If it can't be written, that is logged, and no more."""

    def __init__(self, svc: str, path: Path) -> None:
        self._svc, self._path = svc, str(path)
        self._shown: tuple[object, ...] = ()
        self._failing: str | None = None

    def show(self, sign: AgentStatus) -> None:
        """Write the status to the file, unless the file has it already."""
        facts = (sign.phase, sign.phase != Phase.STOPPING and sign.at, sign.limit_sec, sign.taken)
        if facts == self._shown:
            return
        # as old as one step before it is written anew, and then the thread may have to wait for its turn
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
