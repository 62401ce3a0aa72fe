"""From a verdict to what the world sees of it: the event, the roster's entry, the health key. Pure."""

from typing import Any, Final, Literal

import orjson

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.event import Event, Kind, encode, identify
from marketswarm.keys import health_key
from marketswarm.monitor.publisher import EncodedVerdict
from marketswarm.monitor.store import field_of

LEAST_HEALTH_SEC: Final = 60

_ENDING: Final = {State.UP: "ok", State.DOWN: "miss", State.UNWATCHED: "unwatched"}


class VerdictEncoder:
    """Writes verdicts as one listener's notices.

    Args:
        of: what the events on services are called: `heartbeat_miss` or `healer_miss`.
        by: the service that speaks.
        channel: where alerts are published.
    """

    def __init__(self, *, of: Literal["heartbeat", "healer"], by: str, channel: str) -> None:
        self._of = of
        self.by = by
        self.channel = channel

    @property
    def ok(self) -> Kind:
        """What an ok is called."""
        return Kind(f"{self._of}_ok")

    def event(self, verdict: Verdict) -> Event | None:
        """The alert event of a verdict; None for one of which nothing is said."""
        if verdict.publication is Publication.NONE or (
            verdict.gap_sec is not None and self._of != "heartbeat"
        ):
            return None  # whoever watches the healer says whether it is there, and no more
        if verdict.state is State.UNWATCHED and self._of != "heartbeat":
            return None  # of a healer there is no such event: somebody else's name lay in the roster
        kind = self._kind(verdict)
        return Event(
            kind,
            verdict.svc,
            verdict.ts,
            verdict.event_id or identify(kind, verdict.svc, verdict.ts),
            self.by,
            late_sec=verdict.late_sec,
            timeout_sec=verdict.timeout_sec if verdict.state is State.DOWN else None,
            # the reference gives an age to services only
            age_sec=verdict.age_sec if kind is Kind.HEARTBEAT_OK else None,
            reason=verdict.reason,
            down_sec=verdict.down_sec,
            since=verdict.since,
            gap_sec=verdict.gap_sec,
            restarted=verdict.restarted,
        )

    def _kind(self, verdict: Verdict) -> Kind:
        if verdict.gap_sec is not None:
            return Kind.REACH_GAP if verdict.subject is Subject.REACH else Kind.HEARTBEAT_GAP
        if verdict.subject is Subject.TRUTH:
            return Kind.TRUTH_DRIFT if verdict.state is State.DOWN else Kind.TRUTH_OK
        if verdict.subject is Subject.WATCH:
            return Kind(f"watch_{_ENDING[verdict.state]}")
        return Kind(f"{'bus' if verdict.is_about_bus else self._of}_{_ENDING[verdict.state]}")

    def raw_event(self, verdict: Verdict) -> bytes:
        """The same as JSON, the same bytes each time; empty for one of which nothing is said."""
        event = self.event(verdict)
        return b"" if event is None else encode(event)

    def encode(self, verdict: Verdict) -> EncodedVerdict:
        """All that is to be written of a verdict, in the same words each time."""
        raw = self.raw_event(verdict)
        gone = verdict.state is State.UNWATCHED or (
            verdict.subject is Subject.WATCH and verdict.state is State.UP
        )
        return EncodedVerdict(
            field=field_of(verdict),
            verdict=verdict.state,
            value=b"" if gone else _entry(verdict, raw),
            event=raw,
            channel=self.channel if raw and verdict.publication is Publication.ALERT else "",
            health_key=health_key(verdict.svc),
            health_sec=_health_sec(verdict),
            assumed="unknown" if verdict.subject is Subject.SERVICE else "up",
            mark=verdict.event_id or "",
        )


def health_sec(timeout_sec: float) -> int:
    """The life of a health key in whole seconds: an ok may outlive its healer by that, and no more."""
    return max(LEAST_HEALTH_SEC, round(3 * timeout_sec))


def _health_sec(verdict: Verdict) -> int:
    """As publish.lua takes it: no bus has such a key, and a gap is not the latest word on a service."""
    if verdict.subject is not Subject.SERVICE or verdict.gap_sec is not None:
        return -1
    return 0 if verdict.state is State.UNWATCHED else health_sec(verdict.timeout_sec or 0.0)


def _entry(verdict: Verdict, event: bytes) -> bytes:
    found: dict[str, Any] = {"verdict": verdict.state, "ts": round(verdict.ts, 3)}
    if verdict.since is not None:
        found["since"] = round(verdict.since, 3)
    if verdict.boot is not None:
        found["boot"], found["i"] = verdict.boot, verdict.i
    if verdict.event_id is not None:
        found["mark"] = verdict.event_id
    if verdict.state is State.DOWN:
        found["event"] = orjson.Fragment(event)  # a restarted healer goes on showing it in `health:`
    return orjson.dumps(found)
