"""Put the pending events of sources on the stream of alerts, each once.

A source's state and its event are written in one step on the bus of the market (`publish_series.lua`). The
stream of alerts may be on another bus, where the healer reads it, so events wait beside the state until they
are there. An event that two instances send at the same time is taken once: `publish_event.lua` looks for it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import orjson

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import report_unusable
from marketswarm.closed_outages import read_closed
from marketswarm.event import Event, MalformedEvent, encode_event, parse_event
from marketswarm.keys import MARKET_ALERTS, MARKET_SOURCES

PUBLISH_EVENT: Final = Script.beside("services.sources.cascade", "publish_event.lua")
SETTLE_EVENT: Final = Script.beside("services.sources.cascade", "settle_event.lua")
FORGET_CLOSED: Final = Script.beside("services.sources.cascade", "forget_closed.lua")
ALERTS_LENGTH: Final = 100_000
DEDUP_WINDOW: Final = 100
"""The number of entries among which an event is looked for that another instance may have sent."""

log = logs.get("sources")


class AlertSender:
    """Send the pending events.

    Args:
        get_market_bus: returns the bus with the states of sources. May raise BusError.
        get_alerts_bus: returns the bus of the alerts. May raise BusError.
    """

    def __init__(self, get_market_bus: Callable[[], Bus], get_alerts_bus: Callable[[], Bus]) -> None:
        self._get_market_bus, self._get_alerts_bus = get_market_bus, get_alerts_bus
        self.sent: Counter[str] = Counter()
        self._forgotten_ms = 0

    async def forget_closed(self) -> None:
        """Forget the misses that the healer closed while the truth did not name sources. Raise BusError."""
        ms = (await read_closed(self._get_alerts_bus(), MARKET_ALERTS)).ms
        if ms > self._forgotten_ms:
            await self._get_market_bus().script(FORGET_CLOSED, [MARKET_SOURCES], [ms])
            self._forgotten_ms = ms

    async def send_pending(self) -> None:
        """Send every pending event, in the order of their times. Raise BusError."""
        market, alerts = self._get_market_bus(), self._get_alerts_bus()
        stored = await market.ask(market.client.hgetall(MARKET_SOURCES))
        for source, event in sorted(find_pending(market.name, stored), key=lambda each: each[1].ts):
            args: list[str | bytes | float] = [ALERTS_LENGTH, DEDUP_WINDOW, encode_event(event)]
            if await alerts.script(PUBLISH_EVENT, [MARKET_ALERTS], args):
                self.sent[event.type] += 1
                write = log.warning if event.reason else log.info
                write(event.type.value.replace("_", "."), svc=event.svc, reason=event.reason, id=event.id)
            await market.script(SETTLE_EVENT, [MARKET_SOURCES], [source, event.id])


def find_pending(bus: str, stored: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, Event]]:
    """Yield the field of the source, too; report what is not a state or not an event."""
    for source, raw in stored.items():
        try:
            state: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:
            state = None
        pending = state.get("pending", {}) if isinstance(state, dict) else None
        if not isinstance(pending, dict):
            report_unusable(bus, MARKET_SOURCES)
            continue
        for document in pending.values():
            try:
                event = parse_event(orjson.dumps(document))
            except TypeError:  # it can be read and not written: nested too deep, or a number too large
                report_unusable(bus, MARKET_SOURCES)
                continue
            if isinstance(event, MalformedEvent):
                report_unusable(bus, MARKET_SOURCES, event.reason)
            else:
                yield source, event
