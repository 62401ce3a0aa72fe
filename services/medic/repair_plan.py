"""Define what follows from an observation: what is to be stored, and the order to carry out then. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from marketswarm.bus.stored_values import MAX_DURATION_SEC
from marketswarm.operator.diagnosis import DiagnosisRecord
from marketswarm.operator.evidence import OutageEvidence
from marketswarm.operator.healing import EntryKind, TimelineEntry
from services.medic.guards import Fuse
from services.medic.remedies import RemedyOrder
from services.medic.repair import Repair
from services.medic.rules.observed_time import ObservedSpans


@dataclass(frozen=True, slots=True)
class RepairPlan:
    """What follows from an observation. A repair that is None is over; `used` are approvals to delete.

    `fuse` is its new state, None if it did not change; so are `questions`, those to the second tier, and
    `observed`. `evidence` was taken before `order` is carried out.
    """

    entries: tuple[TimelineEntry, ...] = ()
    repairs: Mapping[str, Repair | None] = field(default_factory=dict)
    order: RemedyOrder | None = None
    used: tuple[str, ...] = ()
    fuse: Fuse | None = None
    questions: Fuse | None = None
    diagnosis: DiagnosisRecord | None = None
    observed: ObservedSpans | None = None
    evidence: tuple[OutageEvidence, ...] = ()

    def is_empty(self) -> bool:
        stored = self.fuse or self.diagnosis or self.observed
        return not (self.entries or self.repairs or self.used or stored)


class PlanDraft:
    """Collect a plan while the planner goes through the repairs."""

    def __init__(self) -> None:
        self.entries: list[TimelineEntry] = []
        self.order: RemedyOrder | None = None
        self.used: list[str] = []

    def note(
        self,
        repair: Repair,
        what: EntryKind,
        now: float,
        *,
        remedy: str = "",
        reason: str = "",
        text: str = "",
        sec: float | None = None,
        severity: str = "",
        proposal: str = "",
    ) -> None:
        self.entries.append(
            TimelineEntry(
                incident=repair.incident,
                ts=now,
                svc=repair.svc,
                what=what,
                remedy=str(remedy),
                reason=str(reason),
                text=text,
                sec=None if sec is None else min(round(sec, 3), MAX_DURATION_SEC),
                severity=str(severity),
                proposal=proposal,
            )
        )

    def build(
        self, before: Mapping[str, Repair], after: Mapping[str, Repair], fuse: Fuse | None
    ) -> RepairPlan:
        """Return the plan: `fuse` is its new state, None if it did not change."""
        names = sorted(before.keys() | after.keys())
        changed = {svc: after.get(svc) for svc in names if after.get(svc) != before.get(svc)}
        return RepairPlan(tuple(self.entries), changed, self.order, tuple(self.used), fuse)
