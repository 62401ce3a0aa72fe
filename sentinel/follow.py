"""The follower of the log of alerts of one bus: it reads new entries, also after a failure of the bus."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.stream import StreamEntry, read_newest_id
from marketswarm.event import Event, MalformedEvent, parse_event
from marketswarm.keys import ALERT_LOG
from marketswarm.metrics import Family, MetricTable

BLOCK_SEC: Final = 1.0
PAGE_SIZE: Final = 500
_SERVICE_EVENTS: Final = (b'{"type":"heartbeat', b'{"type":"probe')
"""The first bytes of events about services, which the sentinel skips without parsing them."""

log = logs.get("sentinel")
_HELP: Final = {
    "log_oversized_total{bus}": (
        "Entries of healer:alerts:log that the sentinel skipped, because they were too large."
    ),
}
_METRICS: Final = MetricTable("marketswarm_", _HELP)


class SkippedEntries:
    """Counts entries of the log that are too large to be read, by bus."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, bus: str) -> None:
        self._counts[bus] += 1

    def collect(self) -> Iterator[Family]:
        return _METRICS.collect(log_oversized_total=self._counts)


async def follow_alert_log(
    bus: Bus,
    *,
    on_event: Callable[[Event, bytes], None],
    on_skipped: Callable[[str], None],
    on_reached: Callable[[Bus], Awaitable[None]],
    outage: Outage,
) -> None:
    """Follow the log of a bus from its end on, until cancelled.

    Entries that were written while the bus was away are read afterwards.

    Args:
        on_event: called with each event that is not about a service, and its JSON.
        on_skipped: called with the bus's name for each entry that is too large to be read.
        on_reached: awaited when the bus is reached, before anything is read; may raise BusError.
        outage: records when the bus fails, and when it is reached again.
    """
    follower: StreamFollower | None = None
    async for attempt in retrying(outage):
        with attempt:
            if follower is None:
                follower = StreamFollower(bus, ALERT_LOG, await read_newest_id(bus, ALERT_LOG))
            await follower.resume()
            await on_reached(bus)
            while True:
                attempt.end()
                entries, _ = await follower.read(PAGE_SIZE, BLOCK_SEC)
                _report_entries(bus, entries, on_event, on_skipped)


def _report_entries(
    bus: Bus,
    entries: Sequence[StreamEntry],
    on_event: Callable[[Event, bytes], None],
    on_skipped: Callable[[str], None],
) -> None:
    """Report the events of entries, and the entries that are too large to be read."""
    for entry in entries:
        if entry.fields is None:
            log.warning("log.oversized", bus=bus.name, entry=entry.id.decode(), bytes=entry.size)
            on_skipped(bus.name)
            continue
        raw = entry.fields.get(b"event", b"")
        if raw.startswith(_SERVICE_EVENTS):
            continue
        event = parse_event(raw)
        if not isinstance(event, MalformedEvent):
            on_event(event, raw)
