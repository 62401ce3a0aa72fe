"""How many events the log of alerts keeps: a death and a recovery of all services, and what is unread."""

import time
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError

LEAST: Final = 100_000
EVENTS_EACH: Final = 3
"""Per service: its miss, its ok, and room for what else happens meanwhile."""
MOST: Final = 2
"""Times the length without unread events; a group of readers that never comes back must not fill the bus."""
ROOM: Final = 1_000
ASK_EVERY_SEC: Final = 1.0
ASK_WITHIN_SEC: Final = 0.5
COMPLAIN_EVERY_SEC: Final = 30.0

log = logs.get("tell")


def length_for(services: int) -> int:
    """Return the length of the log for a truth with so many services."""
    return max(LEAST, EVENTS_EACH * services)


class LogLength:
    """The length of the log on one bus, as the services and the unread events want it."""

    def __init__(self, stream: str, services: int = 0) -> None:
        self.services = services
        self.unread = 0
        """Events that the group with the most of them has not acknowledged, when it was asked last."""
        self._stream = stream
        self._asked_at = float("-inf")
        self._said_at = float("-inf")

    @property
    def most(self) -> int:
        """The length beyond which unread events are trimmed, too."""
        return MOST * length_for(self.services)

    @property
    def overflows(self) -> bool:
        """Whether unread events are being trimmed."""
        return self.unread >= self.most

    async def current(self, bus: Bus) -> int:
        """Return the length to trim the log to; asks the bus for its groups of readers once a second."""
        now = time.monotonic()
        if now - self._asked_at >= ASK_EVERY_SEC:
            self._asked_at = now
            self.unread = await self._ask(bus)
            if self.overflows and now - self._said_at >= COMPLAIN_EVERY_SEC:
                self._said_at = now
                log.error("tell.log_full", bus=bus.name, unread=self.unread, kept=self.most)
        return min(max(length_for(self.services), self.unread + ROOM), self.most)

    async def _ask(self, bus: Bus) -> int:
        try:
            groups = await bus.ask(bus.client.xinfo_groups(self._stream), ASK_WITHIN_SEC)
            return max(map(_unread, groups), default=0)
        except BusError:
            return self.unread  # there is no log yet, or the offer that follows tells why not


def _unread(group: dict[str, Any]) -> int:
    lag, pending = group.get("lag"), group.get("pending")
    return sum(count for count in (lag, pending) if isinstance(count, int))
