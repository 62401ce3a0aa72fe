"""Keep repairs, the fuse, timelines and approvals on system-redis, and read them back.

Anyone with access to the bus may have written there, so each value is parsed with its type and bounds, and
one that can't be used is reported and skipped. A repair that is lost starts again.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from marketswarm.agent import LeaseLost
from marketswarm.bus import Bus
from marketswarm.bus.stored_values import (
    delete_wrong_types,
    parse_epoch,
    read_fields,
    read_time,
    report_unusable,
)
from marketswarm.bus.stream_length import ARCHIVE_READERS, StreamLength
from marketswarm.bus.transaction import BusTransaction, commit
from marketswarm.keys import MEDIC_APPROVALS, MEDIC_EVIDENCE, MEDIC_INCIDENTS, MEDIC_STATE, dry_run_key
from marketswarm.operator.healing import (
    DIAGNOSIS_FIELD,
    ENTRIES_KEPT,
    ENTRY_FIELD,
    EVIDENCE_KEPT,
    FUSE,
    EntryKind,
    HealingApproval,
    TimelineEntry,
    fold_incidents,
    make_diagnosis_field,
    read_timeline,
)
from marketswarm.pages import split_pages
from services.medic.guards import Fuse
from services.medic.planner import RepairPlan
from services.medic.repair import Repair, RepairState, find_proposal
from services.medic.rules.observed_time import MAX_SPANS, Span

OBSERVED: Final = "observed"
"""The field of `medic:state` with the times in which medics observed the fleet, by the clock of the bus."""
QUESTIONS: Final = "questions"
"""The field of `medic:state` with the last questions to the second tier, in the form of a fuse."""
SUPERSEDED: Final = "a medic with a newer lease has written"
_NAMES_AT_ONCE: Final = 1000
RECENT_ENTRIES: Final = 2000
"""Of so many entries of the record, a medic that begins to lead looks for incidents that are open."""
_REPAIR: Final = TypeAdapter(Repair)
_FUSE: Final = TypeAdapter(Fuse)
_SPANS: Final = TypeAdapter(tuple[Span, ...])
T = TypeVar("T")


def make_repair_field(svc: str) -> str:
    """Return the field of `medic:state` for a service."""
    return f"repair:{svc}"


def parse_repair(raw: bytes, svc: str) -> Repair | None:
    """Return a stored repair of a service; None if a part is of a wrong type, out of bounds or at odds."""
    repair = _validate(_REPAIR, raw)
    if repair is None or repair.svc != svc or repair.state is RepairState.RESOLVED:
        return None
    return repair if repair.find_contradiction() is None else None


def parse_fuse(raw: bytes) -> Fuse | None:
    return _validate(_FUSE, raw)


def parse_spans(raw: bytes) -> tuple[Span, ...] | None:
    """Return times in their order; None if they can't be used."""
    spans = _validate(_SPANS, raw)
    moments = [each for span in spans or () for each in span]
    is_usable = all(parse_epoch(each) is not None for each in moments) and moments == sorted(moments)
    return spans if is_usable and len(moments) <= 2 * MAX_SPANS else None


def _validate(adapter: TypeAdapter[T], raw: bytes) -> T | None:
    try:
        return adapter.validate_json(raw, strict=True)
    except ValidationError:
        return None


async def read_state(
    bus: Bus, services: Iterable[str], key: str = MEDIC_STATE
) -> tuple[list[Repair], Fuse, list[str]]:
    """Return the open repairs of these services, the fuse, and the services whose repair can't be used.

    `key` holds them. Raises BusError.
    """
    repairs: list[Repair] = []
    unusable: list[str] = []
    for names in split_pages(services, _NAMES_AT_ONCE):
        (found,) = await read_fields(bus, [key], [make_repair_field(svc) for svc in names])
        for svc in names:
            raw = found.get(make_repair_field(svc).encode())
            repair = None if raw is None else parse_repair(raw, svc)
            repairs += [] if repair is None else [repair]
            if raw is not None and repair is None:
                report_unusable(bus.name, key, make_repair_field(svc))
                unusable.append(svc)
    return repairs, await _read_field(bus, key, FUSE, parse_fuse) or Fuse(), unusable


async def _read_field(bus: Bus, key: str, name: str, parse: Callable[[bytes], T | None]) -> T | None:
    """Return what a field of the state says; None without it, or, reported, if it can't be used."""
    (found,) = await read_fields(bus, [key], [name])
    raw = found.get(name.encode())
    value = None if raw is None else parse(raw)
    if raw is not None and value is None:
        report_unusable(bus.name, key, name)
    return value


class MedicStore:
    """The medic's keys on one bus. Every method may raise BusError.

    A dry run has keys of its own, `medic:dry:…`, and so changes nothing by which the real medic goes. The
    record of incidents from which a medic learns is that of the real one, which a dry run only reads.
    """

    def __init__(self, bus: Bus, *, is_dry_run: bool = False) -> None:
        self.bus = bus
        real = (MEDIC_STATE, MEDIC_INCIDENTS, MEDIC_APPROVALS, MEDIC_EVIDENCE)
        self._keys = [dry_run_key(key) for key in real] if is_dry_run else list(real)
        self._state, self._incidents, self._approvals, self._evidence = self._keys
        self._lengths = {each: StreamLength(ARCHIVE_READERS) for each in (self._incidents, self._evidence)}
        self._repairs, self._fuse = dict[str, Repair](), Fuse()
        """What the bus has, as far as this medic knows: what it loaded or saved last."""

    async def repair_keys(self) -> None:
        """Delete keys of ours that hold a value of another type."""
        kinds = dict.fromkeys((self._state, self._approvals), "hash")
        kinds |= dict.fromkeys((self._incidents, self._evidence), "stream")
        await delete_wrong_types(self.bus, kinds)

    async def load(self, services: Iterable[str], epoch: int) -> tuple[list[Repair], Fuse]:
        """Return the open repairs, and the fuse; delete each repair that can't be used.

        They are those of these services, and of services that left the truth while no medic led: their
        outages are open in the record until they are retired.

        Before that, writes under an older lease are shut out: one that comes late would not be in what is
        returned, and be overwritten. Raises LeaseLost, with nothing changed, if a newer medic has written.
        """
        if not await self.save(RepairPlan(), epoch):
            raise LeaseLost(SUPERSEDED)
        known = sorted({*services, *await self._list_open_services()})
        repairs, fuse, unusable = await read_state(self.bus, known, self._state)
        if unusable and not await self.save(RepairPlan(repairs=dict.fromkeys(unusable)), epoch):
            raise LeaseLost(SUPERSEDED)
        self._repairs, self._fuse = {each.svc: each for each in repairs}, fuse
        return repairs, fuse

    async def find_changed(self, epoch: int) -> RepairPlan | None:
        """Return what mends the state if it is not what this medic loaded or saved; None if it is.

        Someone else wrote there, or deleted it: a newer medic, which the next write under this lease shows,
        or a person. Without the number of the lease, nothing keeps an older medic from writing.
        """
        fields = {svc: make_repair_field(svc).encode() for svc in self._repairs}
        names = ["epoch", FUSE, *map(bytes.decode, fields.values())]
        (found,) = await read_fields(self.bus, [self._state], names)
        repairs = {
            svc: self._repairs[svc]
            for svc, name in fields.items()
            if parse_repair(found.get(name, b""), svc) != self._repairs[svc]
        }
        is_same_fuse = (parse_fuse(found.get(FUSE.encode(), b"")) or Fuse()) == self._fuse
        is_fenced = found.get(b"epoch") == str(epoch).encode()
        if is_fenced and is_same_fuse and not repairs:
            return None
        return RepairPlan(repairs=repairs, fuse=None if is_same_fuse else self._fuse)

    async def save(self, plan: RepairPlan, epoch: int) -> bool:
        """Store a plan in one step; return False, with nothing stored, if a newer medic has written."""
        values = [
            (make_repair_field(svc), b"" if each is None else orjson.dumps(each))
            for svc, each in plan.repairs.items()
        ]
        if plan.diagnosis is not None:
            values.append((make_diagnosis_field(plan.diagnosis.svc), plan.diagnosis.encode()))
        if plan.questions is not None:
            values.append((QUESTIONS, orjson.dumps(plan.questions)))
        if plan.fuse is not None:
            values.append((FUSE, orjson.dumps(plan.fuse)))
        if plan.observed is not None:
            ahead_sec = await read_time(self.bus) - plan.observed.at
            shifted = [[each + ahead_sec for each in span] for span in plan.observed.spans]
            values.append((OBSERVED, orjson.dumps(shifted)))
        record = BusTransaction()
        record.require_epoch(self._state, "epoch", epoch)
        written = (
            (self._evidence, EVIDENCE_KEPT, plan.evidence),
            (self._incidents, ENTRIES_KEPT, plan.entries),
        )
        for stream, keep, entries in written:
            length = await self._lengths[stream].compute(self.bus, stream, keep) if entries else keep
            for each in entries:
                fields = {ENTRY_FIELD: each.encode().decode()}
                if (
                    plan.diagnosis is not None
                    and isinstance(each, TimelineEntry)
                    and each.what is EntryKind.DIAGNOSED
                ):
                    fields[DIAGNOSIS_FIELD] = plan.diagnosis.encode().decode()
                record.add_entry(stream, fields, length, begin_anew=True)
        if plan.used:
            record.write_hash(self._approvals, {}, plan.used)
        kept = {name: value for name, value in values if value}
        gone = [name for name, value in values if not value]
        record.write_hash(self._state, kept | {"epoch": str(epoch).encode()}, gone)
        if not await commit(self.bus, record):
            return False
        known = {**self._repairs, **plan.repairs}.items()
        self._repairs = {svc: each for svc, each in known if each is not None}
        self._fuse = self._fuse if plan.fuse is None else plan.fuse
        return True

    async def load_observed(self, get_now: Callable[[], float]) -> tuple[Span, ...]:
        """Return in which times earlier medics observed the fleet, by the clock that `get_now` reads.

        Clocks are set, so ages and these times are by that of a bus. What is later than now is left out.
        """
        spans = await _read_field(self.bus, self._state, OBSERVED, parse_spans)
        bus_now = await read_time(self.bus)
        ahead_sec = get_now() - bus_now
        return tuple((first + ahead_sec, last + ahead_sec) for first, last in spans or () if last <= bus_now)

    async def _list_open_services(self) -> set[str]:
        """Return the services whose incident is open by the newest RECENT_ENTRIES entries of the record."""
        entries, _ = await read_timeline(self.bus, RECENT_ENTRIES, stream=self._incidents)
        return {incident.svc for incident in fold_incidents(entries) if incident.end is None}

    async def load_record(self) -> list[TimelineEntry]:
        """Return the entries of the record that can be used, oldest first."""
        entries, unusable = await read_timeline(self.bus)
        if unusable:
            report_unusable(self.bus.name, MEDIC_INCIDENTS, f"{unusable} entries")
        return entries

    async def load_questions(self) -> Fuse:
        """Return the last questions to the second tier; none if they can't be used."""
        return await _read_field(self.bus, self._state, QUESTIONS, parse_fuse) or Fuse()

    async def read_approvals(
        self, repairs: Collection[Repair], now: float, valid_sec: float
    ) -> Mapping[str, str]:
        """Return who approved each open proposal, and the fuse, within the last `valid_sec` seconds.

        An older approval of these, or one that can't be used, is deleted.
        """
        names = [FUSE, *(open_one.ident for each in repairs if (open_one := find_proposal(each)) is not None)]
        (found,) = await read_fields(self.bus, [self._approvals], names)
        approvals: dict[str, str] = {}
        unusable: list[str] = []
        for name in names:
            raw = found.get(name.encode())
            approval = None if raw is None else HealingApproval.parse(raw)
            if approval is not None and approval.id == name and abs(now - approval.ts) <= valid_sec:
                approvals[name] = approval.by
            elif raw is not None:
                report_unusable(self.bus.name, self._approvals, name)
                unusable.append(name)
        if unusable:
            await self.bus.ask(self.bus.client.hdel(self._approvals, *unusable))
        return approvals
