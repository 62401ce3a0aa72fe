"""Reports of an agent's status to programs outside: a file for health checks, and systemd's socket.

The status comes from the watchdog: when the event loop and the work last made progress. A thread of its own
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

    `limit_sec` is how long the phase may last, or the work be silent; `beat_taken` says whether a bus ever
    took a beat.
    """

    phase: Phase
    at: float
    limit_sec: float
    beat_taken: bool
    text: str


class StatusOutlet(Protocol):
    """Receives the status each second, and at once when it changes. Never raises."""

    def report(self, status: AgentStatus) -> None:
        """Report the current status; an outlet may skip what it reported before."""


class StatusReporter:
    """Reports the status to all outlets, once a second and on changes, while its `with` block lasts.

    `join_within_sec` is the limit that is reported while the agent waits for the truth.
    """

    def __init__(self, watchdog: Watchdog, outlets: Sequence[StatusOutlet], join_within_sec: float) -> None:
        self._watchdog, self._outlets, self._join_within_sec = watchdog, outlets, join_within_sec
        self._started_at = time.monotonic()
        self._beat_taken, self._text = False, "waits for the truth"
        self._report_due, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def __enter__(self) -> Self:
        if self._outlets:
            self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._outlets:
            self._is_over = True
            self.report_now()
            self._thread.join(STEP_SEC)

    def report_now(self) -> None:
        self._report_due.set()

    def record_beat(self, text: str, *, taken: bool) -> None:
        """`text` is the agent's status in one line, `taken` says whether a bus ever accepted a beat."""
        self._text = text
        if taken != self._beat_taken:
            self._beat_taken = taken
            self.report_now()

    def read_status(self, now: float) -> AgentStatus:
        watchdog, taken, text = self._watchdog, self._beat_taken, self._text
        if watchdog.stop_by != NEVER:
            return AgentStatus(Phase.STOPPING, now, 0.0, taken, "stopping")
        if watchdog.limit_sec == NEVER:
            return AgentStatus(Phase.JOINING, self._started_at, self._join_within_sec, taken, text)
        return AgentStatus(Phase.WORKING, watchdog.last_alive_at(now), watchdog.limit_sec, taken, text)

    def _run(self) -> None:
        while True:
            is_over = self._is_over
            self._report_due.clear()
            status = self.read_status(time.monotonic())
            for outlet in self._outlets:
                outlet.report(status)
            if is_over:
                return
            self._report_due.wait(STEP_SEC)


class AliveFile:
    """Writes the status to the file that `marketswarm check` reads; a failed write is only logged."""

    def __init__(self, svc: str, path: Path) -> None:
        self._svc, self._path = svc, str(path)
        self._written: tuple[object, ...] = ()
        self._failure: str | None = None

    def report(self, status: AgentStatus) -> None:
        progress_at = None if status.phase == Phase.STOPPING else status.at
        content = (status.phase, progress_at, status.limit_sec, status.beat_taken)
        if content == self._written:
            return
        # the file may be one step old before it is written again, and the thread may then wait for the CPU
        allowed_sec = status.limit_sec + 2 * STEP_SEC
        try:
            record = alive_file.build_facts(
                self._svc, status.phase, status.at, allowed_sec, beat_accepted=status.beat_taken
            )
            alive_file.write(self._path, record)
        except OSError as error:
            if error.strerror != self._failure:
                self._failure = error.strerror
                log.get().warning("alive.unwritable", path=self._path, error=error.strerror)
        else:
            self._written, self._failure = content, None
