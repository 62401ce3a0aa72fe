"""The lines of the process's log about verdicts."""

from typing import Any, Final

from marketswarm import log as logs
from marketswarm.detector import State, Subject, Verdict

MAX_LOGGED: Final = 100
"""Verdicts that have a line of the log each, in a second."""
LATE_SEC: Final = 1.0
"""A miss that is on the log so long after its deadline is late, and the process's log says so."""
_LOG_EVENTS: Final = {
    (Subject.SERVICE, State.UP): "service.up",
    (Subject.SERVICE, State.DOWN): "service.down",
    (Subject.SERVICE, State.UNWATCHED): "service.unwatched",
    (Subject.WATCH, State.UP): "service.watchable",
    (Subject.WATCH, State.DOWN): "service.unwatchable",
    (Subject.WATCH, State.UNWATCHED): "service.unwatched",
    (Subject.BUS, State.UP): "bus.up",
    (Subject.BUS, State.DOWN): "bus.down",
    (Subject.TRUTH, State.UP): "truth.agrees",
    (Subject.TRUTH, State.DOWN): "truth.drifted",
}

log = logs.get("monitor")


class VerdictLog:
    """Logs each verdict, and only how many there are beyond MAX_LOGGED in a second.

    A line takes a quarter of all the time for a verdict, and all of them are on the log of alerts.
    """

    def __init__(self) -> None:
        self._count = 0  # in this second
        self._late_count, self._latest_sec = 0, 0.0  # the misses that were published late in this second

    def record(self, verdict: Verdict, *, is_leader: bool) -> None:
        """Log a verdict, unless too many were logged in this second.

        `is_leader` is False if another process leads and will publish it.
        """
        self._count += 1
        if self._count > MAX_LOGGED:
            return
        known: dict[str, Any] = {
            "reason": verdict.reason,
            "late_sec": verdict.late_sec,
            "timeout_sec": verdict.timeout_sec if verdict.state is State.DOWN else None,
            "down_sec": verdict.down_sec,
            "gap_sec": verdict.gap_sec,
            "restarted": verdict.restarted,
            "standing_by": None if is_leader else True,
        }
        fields = {
            key: round(v, 3) if isinstance(v, float) else v for key, v in known.items() if v is not None
        }
        is_gap = verdict.gap_sec is not None
        event = f"{verdict.subject}.gap" if is_gap else _LOG_EVENTS[verdict.subject, verdict.state]
        log.info(event, svc=verdict.svc, **fields)

    def note_delay(self, late_sec: float) -> None:
        """Note that a miss was published so many seconds after its deadline."""
        if late_sec > LATE_SEC:
            self._late_count += 1
            self._latest_sec = max(self._latest_sec, late_sec)

    def end_second(self) -> None:
        """Log how many verdicts had no line of their own, and how many were late; call this once a second."""
        if self._late_count:
            log.warning("monitor.late", count=self._late_count, late_sec=round(self._latest_sec, 3))
            self._late_count, self._latest_sec = 0, 0.0
        if self._count > MAX_LOGGED:
            log.info("monitor.verdicts_not_logged", count=self._count - MAX_LOGGED)
        self._count = 0
