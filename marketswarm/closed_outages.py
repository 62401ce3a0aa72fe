"""How far the healer has closed the outages of a service that the truth no longer names.

massive and sources alert on their targets and sources, and remember which miss they have reported. If the
truth drops such a service, the healer closes what it left open, and stores beside the positions of its relay
how far it did so. A service that comes back reads that, and forgets the misses that are closed: an outage
that continues is a new miss.
"""

import re
from typing import Final, NamedTuple

from marketswarm.bus import Bus
from marketswarm.bus.stream import FIRST_ID
from marketswarm.keys import HEALER_RELAYED

_STORED: Final = re.compile(rb"(?P<position>\d{1,20}-\d{1,20}) (?P<ms>\d{1,15})")
_ID_END: Final = re.compile(r"\.(\d{1,15})$")


class ClosedOutages(NamedTuple):
    """Say which misses on a service's stream of alerts are closed.

    Attributes:
        position: the id of the last entry whose miss is closed.
        ms: the time of the newest event up to there, in milliseconds since the epoch, by the service's clock.
    """

    position: bytes = FIRST_ID
    ms: int = 0

    def encode(self) -> bytes:
        return b"%b %d" % (self.position, self.ms)

    def covers(self, event_id: str) -> bool:
        """Return True if the miss with this id is closed; False for an id that does not end in a time."""
        found = _ID_END.search(event_id)
        return found is not None and int(found[1]) <= self.ms


def closed_field(stream: str) -> str:
    """Return the field of `healer:relayed` for a service's stream of alerts."""
    return f"{stream} closed"


async def read_closed(bus: Bus, stream: str) -> ClosedOutages:
    """Return which misses on a stream of the bus of the alerts are closed. Raise BusError.

    An invalid value closes nothing.
    """
    raw = await bus.ask(bus.client.hget(HEALER_RELAYED, closed_field(stream)))
    found = _STORED.fullmatch(raw or b"")
    return ClosedOutages() if found is None else ClosedOutages(found["position"], int(found["ms"]))
