"""Define the record of healed outages: timelines, evidence, diagnoses, and the approval of a proposal.

The medic adds entries to the stream `medic:incidents`; an incident is what its entries say together. What it
knew of an outage before it did anything is in the stream `medic:evidence`, and its last diagnosis of a
service in a field of `medic:state`. People approve a proposal, once, by a field of `medic:approvals`. All are
on system-redis, and anyone who may write there can write entries, so each is parsed, and one that can't be
parsed is skipped; those of timelines are counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass as plain_dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import parse_epoch, parse_object, read_fields, report_unusable
from marketswarm.bus.stream import read_entries_before
from marketswarm.keys import MEDIC_APPROVALS, MEDIC_EVIDENCE, MEDIC_INCIDENTS, MEDIC_STATE
from marketswarm.operator.fields import STRICT, Epoch, Ident, JsonRecord, Name
from marketswarm.packed_log import MAX_PACKED

ENTRY_FIELD: Final = "entry"
"""The field of the stream that holds an entry."""
DIAGNOSIS_FIELD: Final = "diagnosis"
"""The field of the stream that holds a `DiagnosisRecord`, beside the entry `diagnosed` of its outage."""
ENTRIES_KEPT: Final = 20_000
"""About how many entries the stream is trimmed to."""
MAX_ENTRY_TEXT: Final = 300
"""Characters of the text of one entry."""
MAX_TIMELINE: Final = 500
"""The most entries of one incident that are kept in memory, the newest ones."""
FUSE: Final = "fuse"
"""The approval that lets the medic continue after too many remedies."""
UNDONE: Final = "undone"
"""The reason with which an intent is `abandoned` that was provably not carried out: it is no attempt."""
RETIRED: Final = "retired"
"""The reason with which an incident is `resolved` whose service left the truth: it may be down still."""
LEARNING: Final = "learning"
"""The field of the approvals by which a person has the medic forget what it learned until then."""
EVIDENCE_KEPT: Final = 200
"""About how many entries the stream of evidence is trimmed to."""
MAX_DIAGNOSIS: Final = 2000
MAX_PATCH: Final = 8000
MAX_REMEDIES: Final = 5
MAX_MODEL: Final = 200
_PAGE: Final = 1000
_EVIDENCE_PAGE: Final = 20

Word = Annotated[str, Field(max_length=50)]
Fact = Annotated[str, Field(max_length=500)] | float | int | None


class EntryKind(StrEnum):
    """What an entry of a timeline says."""

    OPENED = "opened"
    WAITING = "waiting"
    PREFERRED = "preferred"
    REFUSED = "refused"
    PROPOSED = "proposed"
    APPROVED = "approved"
    EXPIRED = "expired"
    INTENDED = "intended"
    RUNNING = "running"
    ACTED = "acted"
    ABANDONED = "abandoned"
    VERIFIED = "verified"
    FAILED = "failed"
    RECOVERED = "recovered"
    RELAPSED = "relapsed"
    RESTARTED = "restarted"
    ESCALATED = "escalated"
    DIAGNOSED = "diagnosed"
    TOLD = "told"
    ACKED = "acked"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class TimelineEntry(JsonRecord):
    """One entry about the incident `incident` of a service, written at `ts` (epoch seconds).

    `reason` is the word for why, `sec` how long it took, `text` for people. `severity` is that of the
    service, in the entry that opens an incident, and `proposal` the id by which a remedy that is proposed can
    be approved. Raises ValueError when a field is out of bounds.
    """

    incident: Ident
    ts: Epoch
    svc: Name
    what: EntryKind
    remedy: Word = ""
    reason: Word = ""
    text: Annotated[str, Field(max_length=MAX_ENTRY_TEXT)] = ""
    sec: Annotated[float | None, Field(ge=0, le=1e9, allow_inf_nan=False)] = None
    severity: Annotated[str, Field(max_length=20)] = ""
    proposal: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,50}$")] = ""

    @property
    def is_beside(self) -> bool:
        """Whether no step of the medic's ends by it: others did it, or a diagnosis proposes nothing."""
        return self.what in BESIDE or (self.what is EntryKind.DIAGNOSED and not self.proposal)

    def describe(self) -> str:
        """Return what the entry says, on one line: `refused restart: observed`."""
        head = f"{self.what} {self.remedy}".strip()
        return ": ".join(filter(None, (head, self.reason, self.text)))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class HealingApproval(JsonRecord):
    """A person's approval of the proposal `id`. Raises ValueError when a field is out of bounds."""

    id: Ident
    by: Name
    ts: Epoch


@plain_dataclass(frozen=True, slots=True)
class HealingIncident:
    """One outage as the medic recorded it: its timeline, the oldest entry first, at least one."""

    timeline: tuple[TimelineEntry, ...]

    @property
    def id(self) -> str:
        return self.timeline[0].incident

    @property
    def svc(self) -> str:
        return self.timeline[0].svc

    @property
    def opened_at(self) -> float:
        return self.timeline[0].ts

    @property
    def symptom(self) -> str:
        """The word for what was wrong; empty if the entry that says it is trimmed off."""
        first = self.timeline[0]
        return first.reason if first.what is EntryKind.OPENED else ""

    @property
    def severity(self) -> str:
        return self.timeline[0].severity or "warning"

    @property
    def is_escalated(self) -> bool:
        return any(each.what is EntryKind.ESCALATED for each in self.timeline)

    @property
    def details(self) -> str:
        """What the last entry says that is neither a wait, the end, nor about people."""
        said = (each for each in reversed(self.timeline) if each.what not in _PLAIN)
        return next((each.describe() for each in said), "")

    @property
    def proposal(self) -> TimelineEntry | None:
        """The entry of a remedy that waits for an approval; None without one."""
        last = next((each for each in reversed(self.timeline) if not each.is_beside), None)
        return last if last is not None and last.what in _PROPOSING and last.proposal else None

    @property
    def end(self) -> TimelineEntry | None:
        """The entry that ended the incident; None while it is open."""
        return next((each for each in reversed(self.timeline) if each.what is EntryKind.RESOLVED), None)

    @property
    def resolution(self) -> str:
        """How it ended: `healed`, `recovered` …; `escalated` or `open` while it lasts."""
        if (end := self.end) is not None:
            return end.reason
        states = [each.what for each in self.timeline if each.what in _DECISIVE]
        return "escalated" if states and states[-1] is EntryKind.ESCALATED else "open"

    def remedies(self) -> tuple[str, ...]:
        """Return the remedies that were carried out, in their order; one that was repeated is repeated."""
        return tuple(each.remedy for each in self.timeline if each.what is EntryKind.ACTED)


_PLAIN: Final = (EntryKind.WAITING, EntryKind.RESOLVED, EntryKind.TOLD, EntryKind.ACKED)
BESIDE: Final = (EntryKind.RESTARTED, EntryKind.TOLD, EntryKind.ACKED, EntryKind.RUNNING)
"""What others did meanwhile, or how far a remedy has come: no step of the medic's ends by it."""
_PROPOSING: Final = (EntryKind.PROPOSED, EntryKind.DIAGNOSED)
_DECISIVE: Final = (EntryKind.ESCALATED, EntryKind.RECOVERED, EntryKind.VERIFIED, EntryKind.RELAPSED)


def fold_incidents(entries: Iterable[TimelineEntry]) -> list[HealingIncident]:
    """Return the incidents in some entries, which are in order; the one that changed last comes first."""
    found: dict[str, tuple[TimelineEntry, ...]] = {}
    for entry in entries:
        known = found.pop(entry.incident, ())
        found[entry.incident] = (*known, entry)[-MAX_TIMELINE:]
    return [HealingIncident(timeline) for timeline in reversed(found.values())]


async def read_timeline(
    bus: Bus, count: int = ENTRIES_KEPT, stream: str = MEDIC_INCIDENTS
) -> tuple[list[TimelineEntry], int]:
    """Return the newest, oldest first, and how many can't be parsed. Raises BusError."""
    found: list[TimelineEntry] = []
    unusable, before = 0, "+"
    while len(found) + unusable < count:
        wanted = min(_PAGE, count - len(found) - unusable)
        page = await read_entries_before(bus, stream, before.encode(), count=wanted)
        if not page:
            break
        for each in page:
            entry = TimelineEntry.parse((each.fields or {}).get(ENTRY_FIELD.encode(), b""))
            unusable += entry is None
            found += [] if entry is None else [entry]
        before = f"({page[-1].id.decode()}"
    return found[::-1], unusable


async def read_forgotten_at(bus: Bus) -> float:
    """Return until when incidents teach nothing (epoch seconds), as a person last said. Raises BusError."""
    (found,) = await read_fields(bus, [MEDIC_APPROVALS], [LEARNING])
    approval = HealingApproval.parse(found.get(LEARNING.encode(), b""))
    return approval.ts if approval is not None and approval.id == LEARNING else 0.0


async def write_approval(bus: Bus, approval: HealingApproval) -> None:
    await bus.ask(bus.client.hset(MEDIC_APPROVALS, approval.id, approval.encode().decode()))


async def read_blown_at(bus: Bus) -> float | None:
    """Return when the medic stopped after too many remedies, in epoch seconds; None if it did not.

    Raises BusError.
    """
    (found,) = await read_fields(bus, [MEDIC_STATE], [FUSE])
    return parse_epoch(parse_object(found.get(FUSE.encode())).get("blown_at"))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class DiagnosisRecord(JsonRecord):
    """A diagnosis of the outage `incident` of a service, made at `ts` (epoch seconds).

    `reason` is the word for why it was asked for. `remedies` are words that the planner knows; `patch` is a
    text for people, which nothing applies; it is `altered` if something was removed from what was answered,
    such as a secret. `model` is the name of the model that made it, or of the command; older releases did not
    store that. Raises ValueError when a field is out of bounds.
    """

    svc: Name
    incident: Ident
    ts: Epoch
    reason: Word
    text: Annotated[str, Field(min_length=1, max_length=MAX_DIAGNOSIS)]
    remedies: Annotated[tuple[Word, ...], Field(max_length=MAX_REMEDIES, strict=False)] = ()
    patch: Annotated[str, Field(max_length=MAX_PATCH)] = ""
    altered: bool = False
    model: Annotated[str, Field(max_length=MAX_MODEL)] = ""


def make_diagnosis_field(svc: str) -> str:
    """Return the field of `medic:state` for the last diagnosis of a service."""
    return f"diagnosis:{svc}"


async def read_diagnosis(bus: Bus, svc: str, incident: str) -> DiagnosisRecord | None:
    """Return the diagnosis of an outage; None if there is none that can be used. Raises BusError.

    That of a later outage of the service has replaced this one.
    """
    name = make_diagnosis_field(svc)
    (found,) = await read_fields(bus, [MEDIC_STATE], [name])
    raw = found.get(name.encode())
    record = None if raw is None else DiagnosisRecord.parse(raw)
    if raw is not None and (record is None or record.svc != svc):
        report_unusable(bus.name, MEDIC_STATE, name)
        return None
    return record if record is not None and record.incident == incident else None


async def find_diagnosis(bus: Bus, incident: str, back: int = 0) -> DiagnosisRecord | None:
    """Return the newest diagnosis of an outage in the stream of timelines, or one so many before it.

    None if no entry has one that can be used: it is trimmed off, or the second tier was never asked. Raises
    BusError.
    """
    before, newer = "+", 0
    while page := await read_entries_before(bus, MEDIC_INCIDENTS, before.encode(), count=_PAGE):
        for each in page:
            raw = (each.fields or {}).get(DIAGNOSIS_FIELD.encode())
            found = None if raw is None else DiagnosisRecord.parse(raw)
            if found is not None and found.incident == incident:
                if newer == back:
                    return found
                newer += 1
        before = f"({page[-1].id.decode()}"
    return None


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class OutageEvidence(JsonRecord):
    """What was known of the outage `incident` of a service at `ts` (epoch seconds).

    `step` is the entry of the timeline with which it was taken: `intended restart`. `facts` are those of the
    target and its process, `readings` what was measured last of its processes and of this machine, in percent
    by metric. `packed_log` is the end of its log (`packed_log.py`). Raises ValueError when a field
    is out of bounds.
    """

    svc: Name
    incident: Ident
    ts: Epoch
    step: Annotated[str, Field(max_length=100)]
    facts: Annotated[dict[Word, Fact], Field(max_length=30)]
    readings: Annotated[
        dict[Word, Annotated[float, Field(allow_inf_nan=False, strict=False)]], Field(max_length=50)
    ]
    packed_log: Annotated[str, Field(max_length=MAX_PACKED)] = ""


async def read_evidence(bus: Bus, incident: str, stream: str = MEDIC_EVIDENCE) -> OutageEvidence | None:
    """Return the newest evidence of an outage; None if there is none, or not any more. Raises BusError."""
    before = "+"
    while page := await read_entries_before(bus, stream, before.encode(), count=_EVIDENCE_PAGE):
        for each in page:
            found = OutageEvidence.parse((each.fields or {}).get(ENTRY_FIELD.encode(), b""))
            if found is not None and found.incident == incident:
                return found
        before = f"({page[-1].id.decode()}"
    return None
