"""Have sources of market data asked again at once whose circuit breakers are open."""

from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_fields
from marketswarm.keys import MARKET_SOURCES, source_breaker_key
from marketswarm.operator.remedies import SOURCES, find_sources_bus
from services.medic.remedies.leased_write import LeasedWriter
from services.medic.remedies.remedy import BesideRemedy, OrderResult, RemedyContext, RemedyOrder
from services.medic.source_rejects import SOURCE_NAME, list_sources, parse_milliseconds

MAX_RESUMED: Final = 50
"""The most sources that one attempt has asked again."""
FAILURE_FIELDS: Final = ("failures", "opened", "open_ms", "trial")
"""The fields of a breaker that say what failed. `paused`, which an operator sets, is not among them."""


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
