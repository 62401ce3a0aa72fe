"""Restart the process of a target, by what runs it."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.medic.facts import RestartOwner, TargetFacts
from services.medic.owners.container import parse_identity
from services.medic.owners.owner import NoOwnerError
from services.medic.refusal import Refusal
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType


@dataclass(frozen=True, kw_only=True)
class Restart(RemedyType):
    """End a process that runs, or the pause before its start; verified by beats of a newer process."""

    replaces_process: bool = True

    def find_identity(self, target: TargetFacts) -> str:
        return target.process.identity if target.process is not None else ""

    def describe(self, identity: str) -> str:
        container_id = parse_identity(identity)
        return f"process {identity}" if container_id is None else f"container {container_id[:12]}"

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        """Yield the reasons that follow from what restarts the target: its restarts are not doubled."""
        if target.owner is RestartOwner.ELSEWHERE or not target.processes:
            yield Refusal.NOT_OURS
        elif (process := target.process) is None:
            yield Refusal.SEVERAL_PROCESSES
        elif process.is_waiting:
            if target.owner is not RestartOwner.MEDIC:
                yield Refusal.OWNER_RESTARTS
        elif process.age_sec < start_grace_sec:
            yield Refusal.START_GRACE
        elif target.has_several:  # the last one, since mesh counts a process that ended until its timeout
            yield Refusal.SEVERAL_PROCESSES

    def can_tell(self, target: TargetFacts) -> bool:
        return target.process is not None and target.process.is_restarting is False

    def is_done(self, identity: str, target: TargetFacts) -> bool:
        return target.process is not None and target.process.identity != identity

    def is_undone(self, identity: str, target: TargetFacts) -> bool:
        """Return True while the very process that was meant runs, and is not being ended by a restart."""
        process = target.process
        if process is None or process.is_waiting or process.is_stopped:
            return False
        return process.identity == identity and process.is_restarting is False

    def has_helped(self, boot: str | None, _identity: str, target: TargetFacts) -> bool | None:
        return (target.boot is not None and boot is not None and target.boot != boot) or None

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Ask its owner to restart the process that is meant, and no other."""
        owner = next((each for each in context.owners if order.owner in each.restarts_for), None)
        if owner is None:
            return OrderResult.REFUSED, "what runs it is not known here"
        try:
            answer, said = await owner.restart(order.svc, order.identity, context.until)
        except NoOwnerError as error:
            return OrderResult.UNKNOWN, str(error)
        return OrderResult(answer), said
