"""Encoding of verdicts: the alert event, the roster entry and the health key of each. Pure."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import orjson

from marketswarm.detector import Publication, State, Subject, Verdict
from marketswarm.event import Event, Kind, dump_compact, make_event_id, make_event_object
from marketswarm.keys import health_key
from marketswarm.text import extract_line

MIN_HEALTH_SEC: Final = 60

BUS_FIELD: Final = f"{Subject.BUS}:"
TRUTH_FIELD: Final = f"{Subject.TRUTH}:"
WATCH_FIELD: Final = f"{Subject.WATCH}:"
REACH_FIELD: Final = f"{Subject.REACH}:"
"""Prefixes of the roster fields for buses, the truth on a bus, refused channels, and reach.

No service's name can contain a colon, so a field without a prefix is a service's.
"""
_OWN_FAMILIES: Final = frozenset({Subject.BUS, Subject.WATCH})
"""Subjects by which the types of events on them begin; those on services are of the publisher's family."""
_KIND_ENDINGS: Final = {State.UP: "ok", State.DOWN: "miss", State.UNWATCHED: "unwatched"}


# before Python 3.12 an attribute of an enum takes as long as a call, and these are read for each verdict
_SERVICE, _WATCH = Subject.SERVICE, Subject.WATCH
_UP, _DOWN, _UNWATCHED = State.UP, State.DOWN, State.UNWATCHED
_NOWHERE: Final = Publication.NONE
_ALERT: Final = Publication.ALERT
_OK: Final = Kind.HEARTBEAT_OK


def roster_field(verdict: Verdict) -> str:
    """Return the roster's field for the subject of a verdict: the service, or `bus:<name>` and so on."""
    if verdict.subject is _SERVICE:
        return verdict.svc
    return f"{verdict.subject}:{verdict.svc}"


def deletes_entry(verdict: Verdict) -> bool:
    """Return True if the roster has no entry once the verdict is published."""
    return verdict.state is _UNWATCHED or (verdict.subject is _WATCH and verdict.state is _UP)


class EncodedVerdict(NamedTuple):
    """One verdict as publish.lua takes it; the script's header explains each, in its order."""

    field: str
    assumed: Literal["unknown", "up"]
    verdict: str
    mark: str
    value: bytes
    event: bytes
    channel: str
    after: str
    health_sec: int
    health_key: str


class VerdictEncoder:
    """Encodes the verdicts of one publisher; the same verdict always gives the same bytes.

    `family` is the prefix of event types about services: `heartbeat` (_miss, _ok) or `healer`.
    """

    def __init__(self, *, family: Literal["heartbeat", "healer"], by: str, channel: str) -> None:
        self._family = family
        self.by = by
        self.channel = channel
        self.on_event: Callable[[Event], None] | None = None
        """Called by `report_event`, so that an event that no bus takes is known, too."""

    @property
    def ok_kind(self) -> Kind:
        return Kind(f"{self._family}_ok")

    def build_event(self, verdict: Verdict) -> Event | None:
        """Return a verdict's alert event, None without one; `healer` has neither gaps nor unwatched."""
        document = self._make_document(verdict)
        return None if document is None or verdict.publication is _NOWHERE else Event(**document)

    def report_event(self, verdict: Verdict) -> None:
        """Call `on_event`, if it is set, with the event of a verdict that this process is to publish.

        The same event may be reported more than once.
        """
        if self.on_event is not None and (event := self.build_event(verdict)) is not None:
            self.on_event(event)

    def _make_document(self, verdict: Verdict) -> dict[str, Any] | None:
        """Return the alert event of a verdict as `encode_event` writes it; None for a verdict without one.

        A removal has one even if it is to be published nowhere: it is if the roster has the service down.

        An `Event` on the way there would take as long as all else, and many services may die at once.
        """
        state, gap_sec = verdict.state, verdict.gap_sec
        if verdict.publication is _NOWHERE and state is not _UNWATCHED:
            return None
        if self._family != "heartbeat" and (gap_sec is not None or state is _UNWATCHED):
            return None
        kind, svc, ts = self._choose_kind(verdict), verdict.svc, verdict.ts
        return make_event_object(
            (
                kind,
                svc,
                verdict.late_sec,
                # the reference gives an age to services only
                verdict.age_sec if kind is _OK else None,
                verdict.timeout_sec if state is _DOWN else None,
                ts,
                verdict.event_id or make_event_id(kind, svc, ts),
                verdict.reason,
                verdict.down_sec,
                verdict.since,
                self.by,
                gap_sec,
                verdict.restarted,
                verdict.host,
                verdict.exit_code,
                verdict.down_since,
                None,  # how urgent it is, a healer does not know
                None if verdict.detail is None else extract_line(verdict.detail),
                # the sentinel, which watches healers alone, knows of no other services
                verdict.host_up if self._family == "heartbeat" else None,
            )
        )

    def _choose_kind(self, verdict: Verdict) -> Kind:
        if verdict.gap_sec is not None:
            return Kind.REACH_GAP if verdict.subject is Subject.REACH else Kind.HEARTBEAT_GAP
        if verdict.subject is Subject.TRUTH:
            return Kind.TRUTH_DRIFT if verdict.state is _DOWN else Kind.TRUTH_OK
        family = verdict.subject if verdict.subject in _OWN_FAMILIES else self._family
        return _find_kind(family, verdict.state)

    def encode(self, verdict: Verdict) -> EncodedVerdict:
        """Return the form that publish.lua takes. Report its event first."""
        self.report_event(verdict)
        document = self._make_document(verdict)
        raw = b"" if document is None else dump_compact(document)
        return EncodedVerdict(
            roster_field(verdict),
            "unknown" if verdict.subject is _SERVICE else "up",
            verdict.state,
            verdict.event_id or "",
            b"" if deletes_entry(verdict) else _encode_roster_entry(verdict, document, raw),
            raw,
            self.channel if raw else "",
            # an outage that only the healer before this one knew ends with a first ok, or with a removal
            "" if verdict.publication is _ALERT else _DOWN,
            _choose_health_sec(verdict),
            health_key(verdict.svc),
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
    if verdict.subject is not _SERVICE or verdict.gap_sec is not None:
        return -1
    return 0 if verdict.state is _UNWATCHED else compute_health_sec(verdict.timeout_sec or 0.0)


def _encode_roster_entry(verdict: Verdict, document: Mapping[str, Any] | None, event: bytes) -> bytes:
    """Return JSON; the entry of a miss contains its event, which is `document` as JSON; None without one."""
    # the times of an event are rounded already, which takes longer than most of what is done here
    ts = round(verdict.ts, 3) if document is None else document["ts"]
    found: dict[str, Any] = {"verdict": verdict.state, "ts": ts}
    if verdict.since is not None:
        found["since"] = round(verdict.since, 3) if document is None else document["since"]
    if verdict.boot is not None:
        found["boot"], found["i"] = verdict.boot, verdict.i
    if verdict.event_id is not None:
        found["mark"] = verdict.event_id
    if verdict.state is _UP and verdict.down_since is not None:
        found["down_since"] = round(verdict.down_since, 3)
    if verdict.via is not None:
        found["via"] = verdict.via
    if verdict.state is _DOWN:
        found["event"] = orjson.Fragment(event)  # a restarted healer keeps showing it in `health:`
    return orjson.dumps(found)
