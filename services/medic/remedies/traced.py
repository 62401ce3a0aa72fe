"""Define what remedies have in common that leave a trace of their own, by which they are verified."""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from services.medic.facts import FleetFacts, Health, RemedyEvidence, Symptom, TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies.remedy import RemedyContext, RemedyType


@dataclass(frozen=True, kw_only=True)
class TracedRemedy(RemedyType):
    """A remedy whose trace says to what it can be applied, and whether an order was carried out and helped.

    A healthy beat proves nothing of it: only the trace that names the order does.
    """

    symptoms: frozenset[Symptom] = frozenset({Symptom.DEGRADED, Symptom.ALERT})
    binds_proposal: bool = True

    @abstractmethod
    async def read_evidence(
        self, services: Collection[str], facts: FleetFacts, context: RemedyContext, now: float
    ) -> Mapping[str, RemedyEvidence]:
        """Return what is known of this remedy at `now` (epoch seconds) for each of these services.

        One of which nothing is known is left out. A trace that all of them have in common is read once.
        Raises BusError and NoBusError.
        """

    def find_evidence(self, target: TargetFacts) -> RemedyEvidence | None:
        return target.evidence.get(self.name)

    def is_useful(self, target: TargetFacts) -> bool:
        found = self.find_evidence(target)
        return found is None or bool(found.identity) or found.is_under_way

    def find_identity(self, target: TargetFacts) -> str:
        found = self.find_evidence(target)
        return "" if found is None else found.identity

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        if target.health is not Health.UP:
            yield Refusal.TARGET_DOWN
        found = self.find_evidence(target)
        if found is not None and found.is_under_way:
            yield Refusal.UNDER_WAY
        elif found is None or not found.identity:
            yield Refusal.UNKNOWN
        if target.process is not None and target.process.age_sec < start_grace_sec:
            yield Refusal.START_GRACE

    def can_tell(self, target: TargetFacts) -> bool:
        return self.find_evidence(target) is not None

    def is_done(self, identity: str, target: TargetFacts) -> bool:
        found = self.find_evidence(target)
        return found is not None and bool(identity) and identity in found.results

    def is_undone(self, identity: str, target: TargetFacts) -> bool:
        found = self.find_evidence(target)
        return found is not None and bool(identity) and identity in found.undone

    def has_helped(self, _boot: str | None, identity: str, target: TargetFacts) -> bool | None:
        found = self.find_evidence(target)
        return None if found is None else found.results.get(identity)
