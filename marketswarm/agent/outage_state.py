"""Decide by several outcomes in a row whether something is down or up, and which events follow. Pure.

A target (of a probe, a source, a rule) is down after some failures in a row, and up after some successes. Its
state is one value, an `OutageState`, stored on the bus and shared by all instances, so that neither a restart
nor a second instance reports anything twice. Times are in epoch seconds, since the next process must be able
to compare them. An `AlertRule` says what a service may alert on, and how its events are named.

Outcomes that the bus has not accepted yet wait in an `OutcomeQueue`: limited, in order. Of a long run of
equal outcomes only the beginning and the last one are kept, since those between decide nothing.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from marketswarm.bus.stored_values import MAX_EPOCH_SEC
from marketswarm.event import Event, Kind, Severity, make_event_id
from marketswarm.keys import (
    MARKET_ALERTS,
    MARKET_OUTAGES,
    MASSIVE_ALERTS,
    MASSIVE_ROSTER,
    MEDIC_ALERTS,
    MEDIC_OUTAGES,
    SIGNALS_ALERTS,
    SIGNALS_OUTAGES,
)

MAX_BOOTS: Final = 4
TICK_SEC: Final = 0.001
MAX_RUNS: Final = 100
"""The number of runs of equal outcomes that are kept of one target; beyond that the oldest are dropped."""
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9_.-]")

Verdict = Literal["unknown", "up", "down"]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
EpochSec = Annotated[float, Field(ge=0, le=MAX_EPOCH_SEC, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """Say what a service may alert on.

    Attributes:
        stream: the key of the stream of its events, on the bus of the alerts.
        states: the key of the hash of the states of its targets, on that bus.
        family: the first word of each id.
        prefix: what the `svc` of each event begins with, before the name of the target.
        miss, ok, unwatched: the kinds of its events; `unwatched` closes a miss, and is not an ok.
    """

    stream: str
    states: str
    by: str
    family: str
    prefix: str
    miss: Kind
    ok: Kind
    unwatched: Kind


PROBES: Final = AlertRule(
    stream=MASSIVE_ALERTS,
    states=MASSIVE_ROSTER,
    by="massive",
    family="massive",
    prefix="massive/",
    miss=Kind.PROBE_MISS,
    ok=Kind.PROBE_OK,
    unwatched=Kind.PROBE_UNWATCHED,
)
SOURCES: Final = AlertRule(
    stream=MARKET_ALERTS,
    states=MARKET_OUTAGES,
    by="sources",
    family="source",
    prefix="source:",
    miss=Kind.SOURCE_MISS,
    ok=Kind.SOURCE_OK,
    unwatched=Kind.SOURCE_UNWATCHED,
)
MONITOR: Final = AlertRule(
    stream=MEDIC_ALERTS,
    states=MEDIC_OUTAGES,
    by="medic",
    family="medic",
    prefix="medic/",
    miss=Kind.MONITOR_MISS,
    ok=Kind.MONITOR_OK,
    unwatched=Kind.MONITOR_UNWATCHED,
)
SIGNALS: Final = AlertRule(
    stream=SIGNALS_ALERTS,
    states=SIGNALS_OUTAGES,
    by="signals",
    family="signals",
    prefix="signals/",
    miss=Kind.SIGNALS_MISS,
    ok=Kind.SIGNALS_OK,
    unwatched=Kind.SIGNALS_UNWATCHED,
)
RULES: Final = (PROBES, SOURCES, MONITOR, SIGNALS)


@dataclass(frozen=True, slots=True)
class TargetOutcome:
    """Hold one outcome of a target, the `n`th of the process `boot`.

    `error` is None if it was a success; `detail` is what else people are to read in a miss that follows.
    """

    boot: str
    n: int
    ts: float
    error: str | None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Set how many failures in a row make a target down, and how many successes make it up again.

    `alerts` is False if the loss of the target is not an alert. `severity` goes into the event of its loss;
    None leaves it to the reader.
    """

    down_after: int
    up_after: int
    alerts: bool = True
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class OutageState:
    """Hold the state of one target, as it is stored on the bus.

    Args:
        since: when the first of these failures was, or the first one of the outage.
        back: when the first of these successes was.
        told: the id of the published miss while the outage is open, otherwise empty.
        seen: for each of the last processes, the `n` of its last outcome that changed this state.
    """

    verdict: Verdict = "unknown"
    fails: Count = 0
    oks: Count = 0
    since: EpochSec | None = None
    back: EpochSec | None = None
    error: str | None = None
    told: str = ""
    ts: EpochSec = 0.0
    seen: dict[str, Count] = field(default_factory=dict)

    def encode(self) -> bytes:
        return orjson.dumps(self)


UNKNOWN_STATE: Final = OutageState()
_STORED_STATE: Final[TypeAdapter[OutageState]] = TypeAdapter(OutageState)


def parse_state(raw: bytes | None) -> OutageState:
    """Return `UNKNOWN_STATE` itself for a missing or invalid value."""
    try:
        return UNKNOWN_STATE if raw is None else _STORED_STATE.validate_json(raw)
    except ValidationError:
        return UNKNOWN_STATE


def apply_outcome(
    rule: AlertRule, name: str, state: OutageState, outcome: TargetOutcome, thresholds: Thresholds
) -> tuple[OutageState, Event | None]:
    """Return the state of target `name` after one more outcome, and the event that follows, if any.

    The state is the same object if the outcome changes nothing, or was applied before.
    """
    if outcome.n <= state.seen.get(outcome.boot, 0):
        return state, None  # it was stored before, and the bus's answer was lost
    after, event = _next_state(rule, name, state, outcome, thresholds)
    if after == state:
        return state, None
    others = [(boot, n) for boot, n in state.seen.items() if boot != outcome.boot]
    seen = dict([*others, (outcome.boot, outcome.n)][-MAX_BOOTS:])
    return replace(after, seen=seen, ts=state.ts if event is None else event.ts), event


def close_outage(rule: AlertRule, name: str, state: OutageState, now: float) -> Event | None:
    """Return the event that closes the open outage of a target that is no longer followed.

    Return None if no outage is open.
    """
    return _make_event(rule, rule.unwatched, name, state, now) if state.told else None


def _next_state(
    rule: AlertRule, name: str, state: OutageState, outcome: TargetOutcome, thresholds: Thresholds
) -> tuple[OutageState, Event | None]:
    """Return the event that follows, too; `seen` and `ts` are left unchanged."""
    if state.verdict == "down":
        if outcome.error is not None:
            return _report_miss(rule, name, replace(state, oks=0, back=None), outcome, thresholds)
        oks = state.oks + 1
        back = outcome.ts if state.back is None else state.back
        if oks < thresholds.up_after:
            return replace(state, oks=oks, back=back), None
        event = None
        if state.told:
            down_sec = None if state.since is None else max(0.0, back - state.since)
            event = _make_event(rule, rule.ok, name, state, outcome.ts, down_sec=down_sec)
        return OutageState("up", seen=state.seen), event
    if outcome.error is None:
        return replace(state, verdict="up", fails=0, since=None, error=None), None
    fails = state.fails + 1
    since = outcome.ts if state.since is None else state.since
    after = replace(state, fails=fails, since=since, error=outcome.error)
    if fails < thresholds.down_after:
        return after, None
    return _report_miss(rule, name, replace(after, verdict="down", fails=0), outcome, thresholds)


def _report_miss(
    rule: AlertRule, name: str, state: OutageState, outcome: TargetOutcome, thresholds: Thresholds
) -> tuple[OutageState, Event | None]:
    """Return no event if the miss was published, or if the target does not alert."""
    if state.told or not thresholds.alerts:
        return state, None
    late_sec = None if state.since is None else max(0.0, outcome.ts - state.since)
    more = {
        "late_sec": late_sec,
        "reason": state.error,
        "severity": thresholds.severity,
        "detail": outcome.detail,
    }
    event = _make_event(rule, rule.miss, name, state, outcome.ts, **more)
    return replace(state, told=event.id), event


def _make_event(rule: AlertRule, kind: Kind, name: str, state: OutageState, now: float, **more: Any) -> Event:
    """Set `now`, but at least TICK_SEC after the target's last event."""
    # readers order events by `ts`: even with a clock that was set back, an end must come after its beginning
    ts = max(round(now, 3), round(state.ts + TICK_SEC, 3))
    # only characters that an id may have; different names stay different
    plain = _NOT_IN_IDS.sub("_", name)
    if plain != name:
        plain += f"-{sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
    event_id = make_event_id(kind, f"{rule.family}:{plain}", ts)
    return Event(kind, f"{rule.prefix}{name}", ts, event_id, rule.by, since=state.since, **more)


NamedOutcome = tuple[str, TargetOutcome]
"""The name of a target, and an outcome of it."""


class OutcomeQueue:
    """Keep the outcomes that are not in the stored states yet, by target.

    `max_run` is how many equal outcomes in a row can matter: the largest of all thresholds.
    """

    def __init__(self, max_run: int) -> None:
        self.max_run = max_run
        self._size = 0
        self._runs: dict[str, deque[list[TargetOutcome]]] = {}

    def __len__(self) -> int:
        return self._size

    def add(self, name: str, outcome: TargetOutcome) -> None:
        """Add an outcome of a target, which must be newer than its earlier ones.

        In a long run of equal outcomes it replaces the last one; of over MAX_RUNS runs the oldest is dropped.
        """
        runs = self._runs.setdefault(name, deque())
        is_equal = bool(runs) and (runs[-1][-1].error is None) == (outcome.error is None)
        if is_equal and len(runs[-1]) > self.max_run:
            runs[-1][-1] = outcome
            return
        self._size += 1
        if is_equal:
            runs[-1].append(outcome)
        else:
            runs.append([outcome])
        if len(runs) > MAX_RUNS:
            self._size -= len(runs.popleft())

    def oldest(self, count: int) -> list[NamedOutcome]:
        """The outcomes stay in the queue."""
        every = ((name, outcome) for name, runs in self._runs.items() for run in runs for outcome in run)
        return sorted(every, key=lambda each: each[1].n)[:count]

    def remove(self, stored: Iterable[NamedOutcome]) -> None:
        """Remove outcomes that are in the stored states now; skip those that are not in the queue."""
        for name, outcome in stored:
            runs = self._runs.get(name)
            run = runs[0] if runs else None
            if runs is None or run is None or outcome not in run:
                continue
            run.remove(outcome)
            self._size -= 1
            if not run:
                runs.popleft()
            if not runs:
                del self._runs[name]

    def remove_target(self, name: str) -> None:
        self._size -= sum(map(len, self._runs.pop(name, ())))
