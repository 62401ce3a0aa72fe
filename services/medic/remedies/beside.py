"""Remedies for a target that beats and is not well: clear a cache that it reads, have its sources asked.

A cache is the keys of one pattern on one bus, each of which a service can make again. The patterns are in
the code (`marketswarm.operator.remedies`). The truth chooses a cache by the name of its remedy, and its bus
by the access point of the target. FLUSHDB is never used: the truth, streams and leases are on the same bus.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.matching_keys import MatchingKeys
from marketswarm.bus.stored_values import read_fields
from marketswarm.keys import MARKET_SOURCES, source_breaker_key
from marketswarm.operator.remedies import CACHES, SOURCES, find_cache, find_sources_bus
from services.medic.facts import Health, Symptom, TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies.leased_write import LeasedWriter, TooLateError
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, RemedyType, read_boot
from services.medic.source_rejects import SOURCE_NAME, list_sources, parse_milliseconds

MAX_DELETED: Final = 20_000
"""The most keys that one attempt deletes."""
MAX_SEC: Final = 5.0
"""The longest time that one attempt takes; what is left then is there for the next one."""
MAX_RESUMED: Final = 50
"""The most sources that one attempt has asked again."""
FAILURE_FIELDS: Final = ("failures", "opened", "open_ms", "trial")
"""The fields of a breaker that say what failed. `paused`, which an operator sets, is not among them."""


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

    @abstractmethod
    async def write(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Carry out an order whose process beats, by a `LeasedWriter`. Raises as `apply` does."""


@dataclass(frozen=True, kw_only=True)
class ClearCache(BesideRemedy):
    """Delete the entries of a cache that a target reads."""

    @property
    def pattern(self) -> str:
        return CACHES[self.name]

    def describe(self, identity: str) -> str:
        return f"{self.pattern}, which {identity} reads"

    async def write(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        point = find_cache(context.truth, order.svc, self.name)
        if point is None:
            return OrderResult.REFUSED, f"no access point of {order.svc} names {self.pattern}"
        bus = context.get_bus(point.bus)
        deleted, is_whole = await delete_matching(bus, self.pattern, context.until)
        rest = "" if is_whole else ", and more are left"
        return OrderResult.DONE, f"{deleted} keys of {self.pattern} on {bus.name} deleted{rest}"


async def delete_matching(bus: Bus, pattern: str, until: float | None) -> tuple[int, bool]:
    """Delete the strings whose keys match; return how many, and whether none was left.

    Stops at the end of the lease, `until`. Raises BusError, and TooLateError if none was deleted by then.
    """
    writer = await LeasedWriter.begin(bus, until)
    pages, deleted = MatchingKeys(bus, pattern, most=MAX_DELETED, within_sec=MAX_SEC), 0
    async for keys in pages:
        try:
            deleted += await writer.write("UNLINK", keys)
        except TooLateError:
            if not deleted:
                raise
            return deleted, False
    return deleted, pages.is_whole


@dataclass(frozen=True, kw_only=True)
class ResumeSources(BesideRemedy):
    """Close the breakers of `sources` that are open; a source that an operator paused stays paused."""

    def describe(self, identity: str) -> str:
        return f"open breakers of {identity}"

    async def write(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        bus_name = find_sources_bus(context.truth)
        if order.svc != SOURCES or bus_name is None:
            return OrderResult.REFUSED, f"only {SOURCES} has breakers"
        bus = context.get_bus(bus_name)
        names = (await find_open_breakers(bus))[:MAX_RESUMED]
        if not names:
            return OrderResult.REFUSED, "no breaker is open"
        writer = await LeasedWriter.begin(bus, context.until)
        await writer.write("HDEL", list(map(source_breaker_key, names)), *FAILURE_FIELDS)
        return OrderResult.DONE, f"asked again: {', '.join(names)}"


async def find_open_breakers(bus: Bus) -> list[str]:
    """Return the names of the sources whose breaker is open and that are not paused. Raises BusError."""
    names = sorted(filter(SOURCE_NAME.fullmatch, await list_sources(bus, MARKET_SOURCES)))
    breakers = await read_fields(bus, [source_breaker_key(name) for name in names], ["open_ms", "paused"])
    return [
        name
        for name, each in zip(names, breakers, strict=True)
        if parse_milliseconds(each.get(b"open_ms")) and not parse_milliseconds(each.get(b"paused"))
    ]
