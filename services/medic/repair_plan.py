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
    """What follows from an observation. A repair that is None has ended; `used` are approvals to delete.

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


@dataclass(slots=True)
class PlanDraft:
    """Collect a plan while the planner goes through the repairs; `before` and `fuse` are as they were."""

    before: Mapping[str, Repair]
    fuse: Fuse
    entries: list[TimelineEntry] = field(default_factory=list)
    order: RemedyOrder | None = None
    used: list[str] = field(default_factory=list)

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
