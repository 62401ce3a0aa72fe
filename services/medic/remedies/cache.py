"""Clear a named cache: delete the keys of one pattern on one bus, each of which a service can make again.

The patterns are in the code (`marketswarm.operator.remedies`). The truth chooses a cache by the name of its
remedy, and its bus by the access point of the target. FLUSHDB is never used: the truth, streams and leases
are on the same bus.
"""

import time
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus
from marketswarm.operator.remedies import CACHES, find_cache
from services.medic.remedies.leased_write import LeasedWriter, TooLateError
from services.medic.remedies.remedy import BesideRemedy, OrderResult, RemedyContext, RemedyOrder

PAGE: Final = 1000
"""About how many keys the server looks at in one request."""
MAX_DELETED: Final = 20_000
"""The most keys that one attempt deletes."""
MAX_SEC: Final = 5.0
"""The longest time that one attempt takes; what is left then is there for the next one."""


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
    ends_at = time.monotonic() + MAX_SEC
    cursor, deleted = 0, 0
    while deleted < MAX_DELETED and time.monotonic() < ends_at:
        cursor, found = await bus.ask(bus.client.scan(cursor, match=pattern, count=PAGE, _type="STRING"))
        keys = found[: MAX_DELETED - deleted]
        try:
            deleted += await writer.write("UNLINK", keys) if keys else 0
        except TooLateError:
            if not deleted:
                raise
            break
        if cursor == 0 and len(keys) == len(found):
            return deleted, True
    return deleted, False
