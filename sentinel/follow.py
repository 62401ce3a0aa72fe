"""Follows the durable log of one bus from now on, whatever becomes of the bus. Without a group."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stream import read_after, read_newest_id, sort_key
from marketswarm.event import Event, Malformed, parse
from marketswarm.keys import ALERT_LOG
from marketswarm.metrics import Family

BLOCK_SEC: Final = 1.0
AT_ONCE: Final = 500
PAUSE_SEC: Final = 0.5
_OF_SERVICES: Final = (b'{"type":"heartbeat', b'{"type":"probe')
"""How the writers here begin what is of no concern: a storm of it costs next to nothing."""

log = logs.get("sentinel")


class SkippedEntries:
    """Counts entries of the log that are too large to be read, by bus."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, bus: str) -> None:
        """One more was skipped."""
        self._counts[bus] += 1

    def collect(self) -> Iterator[Family]:
        """Tell METRICS_PORT how many there were."""
        yield Family(
            "marketswarm_log_oversized_total",
            "counter",
            "Entries of healer:alerts:log that the sentinel skipped, being too large.",
            [((bus,), float(count)) for bus, count in self._counts.copy().items()],
            labels=("bus",),
        )


async def follow(
    bus: Bus,
    *,
    heard: Callable[[Event, bytes], None],
    skipped: Callable[[str], None],
    joined: Callable[[Bus], Awaitable[None]],
    answered: Callable[[str], None],
    failed: Callable[[BusError], None],
) -> None:
    """Follows until cancelled. What was written while the bus could not be asked is heard afterwards.

    `joined` comes at the beginning of each stretch, before anything is heard of it, and may raise BusError;
    `skipped` comes with the bus's name for each entry that is too large to be read.
    """
    last: bytes | None = None
    while True:
        try:
            last = await find_start(bus, last)
            await joined(bus)
            while True:
                answered(bus.name)
                last = await _read(bus, last, heard, skipped)
        except BusError as error:
            failed(error)
        await asyncio.sleep(PAUSE_SEC)


async def find_start(bus: Bus, last: bytes | None) -> bytes:
    """Return the id to read on after: `last`, or the log's end if that is None, or 0-0 if the log is new."""
    end = await read_newest_id(bus, ALERT_LOG)
    if last is None:
        return end
    return last if sort_key(last) <= sort_key(end) else b"0-0"


async def _read(
    bus: Bus, last: bytes, heard: Callable[[Event, bytes], None], skipped: Callable[[str], None]
) -> bytes:
    for entry in await read_after(bus, ALERT_LOG, last, count=AT_ONCE, block_sec=BLOCK_SEC):
        last = entry.id
        if entry.fields is None:
            log.warning("log.oversized", bus=bus.name, entry=entry.id.decode(), bytes=entry.size)
            skipped(bus.name)
            continue
        raw = entry.fields.get(b"event", b"")
        if raw.startswith(_OF_SERVICES):
            continue
        event = parse(raw)
        if not isinstance(event, Malformed):
            heard(event, raw)
    return last
