"""Define what remedies have in common that leave the process of a target running. Pure but for one read."""

from collections.abc import Iterator
from dataclasses import dataclass

from marketswarm.beat import Beat, parse_beat
from marketswarm.bus.stored_values import read_strings
from marketswarm.keys import last_beat_key
from services.medic.facts import Health, Symptom, TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType


@dataclass(frozen=True, kw_only=True)
class BesideRemedy(RemedyType):
    """A remedy for a target that beats and is not well; the target may run anywhere.

    The identity is the `boot` of its last beat: if another process beats by then, nothing is done. It is
    verified when the same process is well again, since a newer one may be well for another reason.
    """

    symptoms: frozenset[Symptom] = frozenset({Symptom.DEGRADED, Symptom.ALERT})

    def is_useful(self, target: TargetFacts) -> bool:
        return target.boot is not None  # without one, nothing would say of which process it is verified

    def find_identity(self, target: TargetFacts) -> str:
        return target.boot or ""

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        if target.health is not Health.UP:
            yield Refusal.TARGET_DOWN
        if target.boot is None:
            yield Refusal.UNKNOWN
        if target.has_several:
            yield Refusal.SEVERAL_PROCESSES
        if target.process is not None and target.process.age_sec < start_grace_sec:
            yield Refusal.START_GRACE

    def has_helped(self, boot: str | None, _identity: str, target: TargetFacts) -> bool | None:
        return (boot is not None and target.boot == boot) or None

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        if await read_boot(order.svc, context) != order.identity:
            return OrderResult.CHANGED, "another process beats now"
        return await self.write(order, context)

    async def write(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Carry out an order whose process beats, by a `LeasedWriter`.

        Raises BusError and NoBusError: it may be done in part. Raises TooLateError if nothing was.
        """
        raise NotImplementedError


async def read_boot(svc: str, context: RemedyContext) -> str | None:
    """Return the `boot` of the last beat of a service; None without one. Raises BusError and NoBusError."""
    if svc not in context.truth.services:
        return None
    (raw,) = await read_strings(context.get_bus(context.truth.bus_of(svc)), [last_beat_key(svc)])
    beat = None if raw is None else parse_beat(raw, svc)
    return beat.boot if isinstance(beat, Beat) else None
