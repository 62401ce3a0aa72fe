"""Wait: the remedy that does nothing, by which the others are measured. The planner itself carries it out."""

from collections.abc import Iterator
from dataclasses import dataclass

from services.medic.facts import TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType


@dataclass(frozen=True, kw_only=True)
class Wait(RemedyType):
    """Give a target time to recover by itself. No order names it."""

    def find_identity(self, target: TargetFacts) -> str:
        return target.boot or ""

    def describe(self, identity: str) -> str:
        return identity

    def list_refusals(self, _target: TargetFacts, _start_grace_sec: float) -> Iterator[Refusal]:
        yield from ()

    async def apply(self, _order: RemedyOrder, _context: RemedyContext) -> tuple[OrderResult, str]:
        return OrderResult.REFUSED, "to wait needs no order"
