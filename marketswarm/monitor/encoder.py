"""Encoding of verdicts: the alert event, the roster entry and the health key of each. Pure."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import orjson

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.event import Event, Kind, dump_compact, encode_event, make_event_id
from marketswarm.keys import health_key

MIN_HEALTH_SEC: Final = 60

BUS_FIELD: Final = "bus:"
TRUTH_FIELD: Final = "truth:"
WATCH_FIELD: Final = "watch:"
REACH_FIELD: Final = "reach:"
"""Prefixes of the roster fields for buses, the truth on a bus, refused channels, and reach.

No service's name can contain a colon, so a field without a prefix is a service's.
"""
_FIELD_PREFIXES: Final = {
    Subject.BUS: BUS_FIELD,
    Subject.TRUTH: TRUTH_FIELD,
    Subject.REACH: REACH_FIELD,
    Subject.WATCH: WATCH_FIELD,
}
_FAMILIES: Final = {Subject.WATCH: "watch", Subject.BUS: "bus"}
"""Beginnings of the types of events; those on services are of the publisher's family."""
_KIND_ENDINGS: Final = {State.UP: "ok", State.DOWN: "miss", State.UNWATCHED: "unwatched"}


def roster_field(verdict: Verdict) -> str:
    """Return the roster's field for the subject of a verdict: the service, or `bus:<name>` and so on."""
    if verdict.subject is Subject.SERVICE:
        return verdict.svc
    return _FIELD_PREFIXES[verdict.subject] + verdict.svc


class EncodedVerdict(NamedTuple):
    """One verdict as publish.lua takes it; the script's header explains each value."""

    field: str
    verdict: str
    value: bytes
    event: bytes
    channel: str
    health_key: str
    health_sec: int
    assumed: Literal["unknown", "up"] = "unknown"
    mark: str = ""
    after: str = ""

    def script_args(self) -> list[str | bytes | float]:
        """Return the script's nine arguments for this verdict, in its order."""
        names = (self.field, self.assumed, self.verdict, self.mark)
        return [*names, self.value, self.event, self.channel, self.after, self.health_sec]


class VerdictEncoder:
    """Encodes the verdicts of one publisher; the same verdict always gives the same bytes.

    `family` is the prefix of event types about services: `heartbeat` (_miss, _ok) or `healer`.
    """

    def __init__(self, *, family: Literal["heartbeat", "healer"], by: str, channel: str) -> None:
        self._family = family
        self.by = by
        self.channel = channel
        self.on_event: Callable[[Event], None] | None = None
        """Called with each event before it is encoded, so that an event that no bus takes is known, too."""

    @property
    def ok_kind(self) -> Kind:
        return Kind(f"{self._family}_ok")

    def build_event(self, verdict: Verdict) -> Event | None:
        """Return a verdict's alert event, None without one; `healer` has neither gaps nor unwatched."""
        if verdict.publication is Publication.NONE:
            return None
        if self._family != "heartbeat" and (verdict.gap_sec is not None or verdict.state is State.UNWATCHED):
            return None
        kind = self._choose_kind(verdict)
        return Event(
            kind,
            verdict.svc,
            verdict.ts,
            verdict.event_id or make_event_id(kind, verdict.svc, verdict.ts),
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
            host=verdict.host,
            exit_code=verdict.exit_code,
            down_since=verdict.down_since,
        )

    def _choose_kind(self, verdict: Verdict) -> Kind:
        if verdict.gap_sec is not None:
            return Kind.REACH_GAP if verdict.subject is Subject.REACH else Kind.HEARTBEAT_GAP
        if verdict.subject is Subject.TRUTH:
            return Kind.TRUTH_DRIFT if verdict.state is State.DOWN else Kind.TRUTH_OK
        family = _FAMILIES.get(verdict.subject, self._family)
        return _find_kind(family, verdict.state)

    def encode(self, verdict: Verdict) -> EncodedVerdict:
        """Return the form that publish.lua takes."""
        event = self.build_event(verdict)
        if self.on_event is not None and event is not None:
            self.on_event(event)
        raw = b"" if event is None else encode_event(event)
        is_deleted = verdict.state is State.UNWATCHED or (
            verdict.subject is Subject.WATCH and verdict.state is State.UP
        )
        return EncodedVerdict(
            field=roster_field(verdict),
            verdict=verdict.state,
            value=b"" if is_deleted else _encode_roster_entry(verdict, raw),
            event=raw,
            channel=self.channel if raw else "",
            health_key=health_key(verdict.svc),
            health_sec=_choose_health_sec(verdict),
            assumed="unknown" if verdict.subject is Subject.SERVICE else "up",
            mark=verdict.event_id or "",
            # a first ok is an alert if it ends an outage that only the healer before this one knew
            after=State.DOWN if verdict.publication is Publication.LOG else "",
        )


@lru_cache  # a type that is found by its text takes longer than all else about it
def _find_kind(family: str, state: State) -> Kind:
    return Kind(f"{family}_{_KIND_ENDINGS[state]}")


@lru_cache(maxsize=1024)
def compute_health_sec(timeout_sec: float) -> int:
    """Return the life of a health key in whole seconds: three timeouts, at least 60 s.

    An ok outlives its healer by no more than that.
    """
    return max(MIN_HEALTH_SEC, round(3 * timeout_sec))


def _choose_health_sec(verdict: Verdict) -> int:
    """Return the life of the verdict's health key in seconds; 0 deletes the key, -1 leaves it unchanged.

    A bus has no health key, and a gap is not the latest state of a service.
    """
    if verdict.subject is not Subject.SERVICE or verdict.gap_sec is not None:
        return -1
    return 0 if verdict.state is State.UNWATCHED else compute_health_sec(verdict.timeout_sec or 0.0)


def _encode_roster_entry(verdict: Verdict, event: bytes) -> bytes:
    """Return JSON; the entry of a miss contains its event."""
    found: dict[str, Any] = {"verdict": verdict.state, "ts": round(verdict.ts, 3)}
    if verdict.since is not None:
        found["since"] = round(verdict.since, 3)
    if verdict.boot is not None:
        found["boot"], found["i"] = verdict.boot, verdict.i
    if verdict.event_id is not None:
        found["mark"] = verdict.event_id
    if verdict.state is State.UP and verdict.down_since is not None:
        found["down_since"] = round(verdict.down_since, 3)
    if verdict.state is State.DOWN:
        found["event"] = orjson.Fragment(event)  # a restarted healer goes on showing it in `health:`
    return dump_compact(found)
