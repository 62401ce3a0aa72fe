"""Follow the alert log of a bus, and wake the medic at each new alert.

An alert only wakes: what is done follows from the state of the fleet, so an alert that is old, repeated or
made up leads to nothing. The log is read from its end by a position, without a consumer group: who may use
one group of a stream may take the entries of all of them, and the notifier's bring messages to people.
"""

import time
from collections.abc import Callable
from typing import Final

from marketswarm.agent import Agent
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.stream import StreamEntry, read_newest_id
from marketswarm.event import MalformedEvent, parse_event
from marketswarm.keys import ALERT_LOG
from services.medic.settings import HealingSettings, MedicEnvironment

PAGE: Final = 500
BLOCK_SEC: Final = 2.0
CHECK_SEC: Final = 10.0
"""How often it is looked, while nothing comes, whether the log was created again with older ids."""


class AlertFollower:
    """Follow the alert logs; `seen` counts alerts by what they were: `new`, `old` or `malformed`."""

    def __init__(
        self,
        me: Agent[MedicEnvironment],
        get_settings: Callable[[], HealingSettings],
        wake: Callable[[], None],
    ) -> None:
        self.seen = dict.fromkeys(("new", "old", "malformed"), 0)
        self._me, self._get_settings, self._wake = me, get_settings, wake

    async def follow(self, name: str) -> None:
        """Follow the log of a bus until cancelled, from its present end on."""
        follower: StreamFollower | None = None
        outage = Outage(self._me.log, "medic.log_unread", "medic.log_read")
        async for attempt in retrying(outage):
            with attempt:
                bus = self._me.bus(name)
                if follower is None or follower.bus is not bus:
                    newest = await read_newest_id(bus, ALERT_LOG)
                    follower = StreamFollower(bus, ALERT_LOG, newest, check_sec=CHECK_SEC)
                entries, _ = await follower.read(PAGE, BLOCK_SEC)
                self.count(entries, time.time())

    def count(self, entries: list[StreamEntry], now: float) -> None:
        """Count entries, and wake the medic if one of them is a new alert; `now` is in epoch seconds."""
        old_sec, before = self._get_settings().old_sec, self.seen["new"]
        for entry in entries:
            event = parse_event((entry.fields or {}).get(b"event", b""))
            if isinstance(event, MalformedEvent):
                what = "malformed"
            else:
                what = "old" if now - event.ts > old_sec else "new"
            self.seen[what] += 1
        if self.seen["new"] > before:
            self._wake()
