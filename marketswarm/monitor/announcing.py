"""The log line of each verdict, by one name for each thing that can happen."""

from typing import Any, Final

from marketswarm import log as logs
from marketswarm.detector import State, Subject, Verdict

log = logs.get("vigil")

_SAID: Final = {
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


def announce(verdict: Verdict, *, leads: bool) -> None:
    """Logs a verdict; `leads` tells whether it is this listener's to tell."""
    known: dict[str, Any] = {
        "reason": verdict.reason,
        "late_sec": verdict.late_sec,
        "timeout_sec": verdict.timeout_sec if verdict.state is State.DOWN else None,
        "down_sec": verdict.down_sec,
        "gap_sec": verdict.gap_sec,
        "restarted": verdict.restarted,
    }
    if not leads:
        known["standing_by"] = True
    said = {key: round(v, 3) if isinstance(v, float) else v for key, v in known.items() if v is not None}
    event = f"{verdict.subject}.gap" if verdict.gap_sec is not None else _SAID[verdict.subject, verdict.state]
    log.info(event, svc=verdict.svc, **said)
