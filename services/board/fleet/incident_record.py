"""Read the outages that the medic has on record, and count the alerts.

The record is followed by a position, so that each entry is read and parsed once. Who can write to it writes
what is shown here: all texts are escaped.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.agent.outage_state import (
    MONITOR,
    PROBES,
    SIGNALS,
    SOURCES,
    AlertRule,
    OutageState,
    parse_state,
)
from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.stream import read_entries_by_id
from marketswarm.keys import MEDIC_INCIDENTS
from marketswarm.operator.healing import (
    DIAGNOSIS_FIELD,
    ENTRIES_KEPT,
    ENTRY_FIELD,
    FUSE,
    DiagnosisRecord,
    EntryKind,
    HealingIncident,
    TimelineEntry,
    fold_incidents,
    read_blown_at,
    read_diagnosis,
)
from marketswarm.operator.healing_text import describe_proposal, describe_step
from marketswarm.text import escape_lines, escape_source, escape_text
from marketswarm.web.cache import Cached
from services.board.fleet.alerts import MAX_PAGE_EVENTS, AlertQuery, AlertsAnswer, AlertView, read_alerts

FRESH_SEC: Final = 1.0  # so long the bus is not asked again, because every reader of a page may ask
MAX_COUNTED: Final = 10_000
MAX_HELD: Final = 500
MAX_DIAGNOSES: Final = 20
"""The most diagnoses of one outage that are shown, the newest ones."""
_PAGE: Final = 1000
_ASKED: Final = (PROBES, SOURCES, SIGNALS)
"""The alerts about what a service asks, and not about a service."""


@dataclass(frozen=True, slots=True)
class IncidentSummary:
    """An outage, by the names of the columns of the view `monitor_incidents`; times are epoch seconds.

    `proposal` is the id of a remedy that waits for an approval.
    """

    id: str
    timestamp: float
    container_name: str
    issue_type: str
    severity: str
    healing_attempts: int
    healing_strategies_tried: tuple[str, ...]
    escalated: bool
    resolution_status: str
    resolution_details: str
    resolved_at: float | None
    resolution_time_seconds: float | None
    proposal: str | None = None


@dataclass(frozen=True, slots=True)
class StepView:
    """An entry of a timeline: when, what it says, and how long it took in seconds, if that is known.

    `text` has the words of the record, `words` is a sentence for people.
    """

    ts: float
    what: str
    text: str
    sec: float | None
    words: str = ""


@dataclass(frozen=True, slots=True)
class DiagnosisView:
    """What the second tier said of an outage, and why it was asked; nothing applies the patch.

    `model` is the name of the model or of the command, empty if that is not known. The patch is `altered` if
    something was removed from it when it was stored. `command` shows it; empty without a patch.
    """

    ts: float
    reason: str
    text: str
    remedies: tuple[str, ...]
    patch: str
    model: str = ""
    altered: bool = False
    command: str = ""


@dataclass(frozen=True, slots=True)
class ProposalView:
    """A remedy that waits for an approval by `id`; `fuse` lets the medic continue after too many remedies."""

    id: str
    svc: str
    remedy: str
    since: float
    incident: str
    is_diagnosis: bool = False
    """Whether a diagnosis proposes it, so that a token of the scope `diagnose` is needed."""

    @property
    def act(self) -> str:
        """What is done, in words: `restart feed`."""
        return describe_proposal(self.remedy, self.svc)


@dataclass(frozen=True, slots=True)
class HeldRule:
    """A rule of the medic that holds for a subject, since when (epoch seconds), and what was measured."""

    rule: str
    subject: str
    since: float | None
    why: str

    @property
    def name(self) -> str:
        return f"{self.rule}/{self.subject}"


@dataclass(frozen=True, slots=True)
class DownTarget:
    """A page that massive probes, a source of the market or a check of signals that fails, since when, why.

    `since` is in epoch seconds. `by` is the service that asks it, `massive`, `sources` or `signals`, and
    `key` by what name messages call it, `massive/shop`. `is_alert` says that its loss was published.
    """

    by: str
    key: str
    since: float | None
    why: str
    is_alert: bool = True


@dataclass(frozen=True, slots=True)
class HeldRules:
    """The rules that hold, and what is down, the oldest first; `away` is why some are missing."""

    rules: tuple[HeldRule, ...] = ()
    targets: tuple[DownTarget, ...] = ()
    away: str | None = None


@dataclass(frozen=True, slots=True)
class RecordedIncidents:
    """The incidents on record, the one that changed last first; `away` is why they could not be read.

    `blown_at` is since when the medic does nothing, in epoch seconds, after too many remedies.
    """

    incidents: tuple[HealingIncident, ...] = ()
    unusable: int = 0
    away: str | None = None
    blown_at: float | None = None

    def find(self, ident: str) -> HealingIncident | None:
        return next((each for each in self.incidents if each.id == ident), None)

    def list_proposals(self) -> tuple[ProposalView, ...]:
        """Return what waits for a person; the fuse first, while it is blown."""
        open_ones = [each for each in self.incidents if each.end is None]
        found = [
            ProposalView(
                each.proposal,
                escape_text(each.svc),
                escape_text(each.remedy),
                each.ts,
                each.incident,
                is_diagnosis=each.what is EntryKind.DIAGNOSED,
            )
            for each in (one.proposal for one in open_ones)
            if each is not None and each.proposal != FUSE  # which the state alone proposes
        ]
        fuse = [] if self.blown_at is None else [ProposalView(FUSE, "", "", self.blown_at, "")]
        return (*fuse, *found)


class IncidentRecord:
    """Follow the record of the medic on the bus that `get_bus` returns."""

    def __init__(self, get_bus: Callable[[], Bus]) -> None:
        self._get_bus = get_bus
        self._follower: StreamFollower | None = None
        self._entries: deque[TimelineEntry] = deque(maxlen=ENTRIES_KEPT)
        self._diagnosed: deque[tuple[str, bytes]] = deque(maxlen=ENTRIES_KEPT)
        """The incident and the id of each entry that has a diagnosis."""
        self._known = RecordedIncidents()
        self._unusable, self._has_new = 0, False
        self._lock = asyncio.Lock()  # two looks at once would read the same entries
        self._looks: Cached[str, RecordedIncidents] = Cached(FRESH_SEC)

    async def read(self) -> RecordedIncidents:
        """Return the record, or what was read last, with the reason, if the bus does not answer."""
        return await self._looks.find("", self._look)

    async def read_diagnoses(self, found: HealingIncident) -> list[DiagnosisRecord]:
        """Return the newest diagnoses of an outage that the bus has, MAX_DIAGNOSES at most, in any order.

        None if the bus does not say. Older releases stored one beside the stream alone.
        """
        idents = [ident for incident, ident in self._diagnosed if incident == found.id][-MAX_DIAGNOSES:]
        try:
            last = await read_diagnosis(self._get_bus(), found.svc, found.id)
            entries = await read_entries_by_id(self._get_bus(), MEDIC_INCIDENTS, idents)
        except BusError:
            return []
        raws = ((each.fields or {}).get(DIAGNOSIS_FIELD.encode(), b"") for each in entries)
        records = [last, *map(DiagnosisRecord.parse, raws)]
        return [each for each in records if each is not None and each.incident == found.id]

    def clear(self) -> None:
        """Have the bus read at the next look."""
        self._looks.clear()

    async def _look(self) -> RecordedIncidents:
        incidents, away, blown_at = self._known.incidents, None, self._known.blown_at
        async with self._lock:
            try:
                await self._follow()
                blown_at = await read_blown_at(self._get_bus())
            except BusError as error:
                away = f"bus {error.bus}: {error.reason}"
            if self._has_new:
                incidents, self._has_new = tuple(fold_incidents(self._entries)), False
            self._known = RecordedIncidents(incidents, self._unusable, away, blown_at)
            return self._known

    async def _follow(self) -> None:
        """Read what is new. Raises BusError; what was read before that is kept."""
        bus = self._get_bus()
        if self._follower is None or self._follower.bus is not bus:
            self._follower = StreamFollower(bus, MEDIC_INCIDENTS)
            self._begin_anew()
        while True:
            page, loss = await self._follower.read(_PAGE)
            if loss is not None and loss.oldest is None:  # the stream was created again
                self._begin_anew()
            if not page:
                break
            raws = ((each.fields or {}).get(ENTRY_FIELD.encode(), b"") for each in page)
            parsed = list(map(TimelineEntry.parse, raws))
            self._diagnosed += [
                (entry.incident, each.id)
                for each, entry in zip(page, parsed, strict=True)
                if entry is not None and DIAGNOSIS_FIELD.encode() in (each.fields or {})
            ]
            self._entries += [each for each in parsed if each is not None]
            self._unusable += parsed.count(None)
            self._has_new = True

    def _begin_anew(self) -> None:
        self._entries.clear()
        self._diagnosed.clear()
        self._unusable, self._has_new = 0, True


async def read_held_rules(get_bus: Callable[[], Bus], services: Container[str]) -> HeldRules:
    """Return the medic's rules that hold, and what massive, sources and signals have down.

    There are MAX_HELD of each at most. `services` are those of the truth: a medic that was taken out leaves
    its record. States that can't be parsed are skipped. If the bus fails, there is what was read until then.
    """
    rules, targets, away = list[HeldRule](), list[DownTarget](), None
    try:
        for name, state in await _read_down(get_bus(), MONITOR) if MONITOR.by in services else ():
            rule, _, subject = escape_text(name).partition("/")
            rules.append(HeldRule(rule, subject, state.since, escape_text(state.error or "")))
        for asked in _ASKED if any(each.by in services for each in _ASKED) else ():
            for name, state in await _read_down(get_bus(), asked):
                key, why = escape_text(f"{asked.prefix}{name}"), escape_text(state.error or "")
                targets.append(DownTarget(asked.by, key, state.since, why, is_alert=bool(state.told)))
    except BusError as error:
        away = f"bus {error.bus}: {error.reason}"
    return HeldRules(tuple(rules), tuple(targets), away)


async def _read_down(bus: Bus, rule: AlertRule) -> list[tuple[str, OutageState]]:
    """Return what is down, by name, the oldest first. Raises BusError."""
    stored = await bus.ask(bus.client.hgetall(rule.states))
    states = [
        (name.decode("utf-8", "replace")[:200], parse_state(raw)) for name, raw in sorted(stored.items())
    ]
    down = [(name, state) for name, state in states if state.verdict == "down"]
    return sorted(down, key=lambda each: each[1].since or 0.0)[:MAX_HELD]


def summarize_incident(found: HealingIncident) -> IncidentSummary:
    end, proposal = found.end, found.proposal
    tried = dict.fromkeys(map(escape_text, found.remedies()))
    return IncidentSummary(
        id=found.id,
        timestamp=found.opened_at,
        container_name=escape_text(found.svc),
        issue_type=escape_text(found.symptom),
        severity=escape_text(found.severity),
        healing_attempts=len(found.remedies()),
        healing_strategies_tried=tuple(tried),
        escalated=found.is_escalated,
        resolution_status=escape_text(found.resolution),
        resolution_details=escape_text(found.details),
        resolved_at=None if end is None else end.ts,
        resolution_time_seconds=None if end is None else end.sec,
        proposal=None if proposal is None or end is not None else proposal.proposal,
    )


def _escape(text: str) -> str:
    """Return lines of a diagnosis, however they end, each escaped."""
    return escape_lines("\n".join(text.splitlines()))


def make_diagnoses(incident: str, records: Iterable[DiagnosisRecord]) -> tuple[DiagnosisView, ...]:
    """Return what is shown of the diagnoses of an outage, each once, the newest first."""
    newest_first = sorted(dict.fromkeys(records), key=lambda each: -each.ts)[:MAX_DIAGNOSES]
    return tuple(_make_diagnosis(incident, each, back) for back, each in enumerate(newest_first))


def _make_diagnosis(incident: str, record: DiagnosisRecord, back: int) -> DiagnosisView:
    command = f"marketswarm medic patch {incident}" + (f" --back {back}" if back else "")
    return DiagnosisView(
        ts=record.ts,
        reason=escape_text(record.reason),
        text=_escape(record.text),
        remedies=tuple(map(escape_text, record.remedies)),
        patch=escape_source(record.patch),
        model=escape_text(record.model),
        altered=record.altered,
        command=command if record.patch else "",
    )


def make_steps(found: HealingIncident) -> tuple[StepView, ...]:
    return tuple(
        StepView(each.ts, each.what, escape_text(each.describe()), each.sec, escape_text(describe_step(each)))
        for each in found.timeline
    )


@dataclass(frozen=True, slots=True)
class AlertCount:
    """How many alerts of a type came; `severity` is that of the type."""

    type: str
    severity: str
    count: int


async def read_newest_alerts(buses: Sequence[Bus]) -> AlertsAnswer:
    """Return the newest alerts, MAX_COUNTED or some more; `older` is None if the log has no others.

    An event that several logs have is there once, also if its copies are on different pages.
    """
    alerts: dict[str, AlertView] = {}
    older: str | None = ""
    away: dict[str, str] = {}
    while older is not None and len(alerts) < MAX_COUNTED:
        page = await read_alerts(buses, AlertQuery(before=older), MAX_PAGE_EVENTS)
        for each in page.events:
            alerts.setdefault(each.id, each)
        older, away = page.older, away | page.away
    return AlertsAnswer(tuple(alerts.values()), older, away)


def count_alerts(newest: AlertsAnswer, since: float) -> tuple[tuple[AlertCount, ...], bool]:
    """Return how many alerts of each type came since a time (epoch seconds), and whether that is all."""
    counts = Counter((each.type, each.severity) for each in newest.events if each.ts >= since)
    rows = (AlertCount(kind, severity, n) for (kind, severity), n in counts.most_common())
    return tuple(rows), newest.older is None or newest.events[-1].ts < since
