"""The durable log of alerts, from one bus or several merged: what is past first, then what comes.

Reads `healer:alerts:log` by position, so nothing is missed while a bus restarts. An event that is on several
buses has one id, and is told once.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson
import typer

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stream import Entry, newest_id, order, read_after

LOG = "healer:alerts:log"
_BLOCK_MSEC = 2_000
_PAGE = 1_000
_AGAIN_SEC = 0.5
_REMEMBERED = 10_000
_START = b"0-0"


class Told:
    """Which events were told already, by id; forgets the oldest."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def is_new(self, event: dict[str, Any]) -> bool:
        """Whether this is the first time; an event without id always is."""
        key = event.get("id")
        if not isinstance(key, str):
            return True
        if key in self._ids:
            return False
        self._ids[key] = None
        if len(self._ids) > _REMEMBERED:
            self._ids.popitem(last=False)
        return True


Line = tuple[bytes, dict[str, Any]]
"""An event: the bytes on the log, and what they say."""


async def follow(buses: Sequence[Bus], since_sec: float | None = None) -> AsyncGenerator[Line, None]:
    """Events as they come, from the moment this returns. Never ends by itself.

    Args:
        buses: where to read.
        since_sec: how far back to begin; None begins now.
    """
    readers = [_Reader(bus, since_sec) for bus in buses]
    past = await asyncio.gather(*(reader.past() for reader in readers))
    return _merged(sorted((each for part in past for each in part), key=_when), readers)


async def _merged(past: Sequence[Line], readers: Sequence["_Reader"]) -> AsyncGenerator[Line, None]:
    told = Told()
    queue: asyncio.Queue[Line] = asyncio.Queue()
    for raw, event in past:
        if told.is_new(event):
            yield raw, event
    tasks = [asyncio.ensure_future(reader.run(queue)) for reader in readers]
    try:
        while True:
            raw, event = await queue.get()
            if told.is_new(event):
                yield raw, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Reader:
    """A position in one bus's log."""

    def __init__(self, bus: Bus, since_sec: float | None) -> None:
        self._bus, self._since_sec, self._begun = bus, since_sec, time.monotonic()
        self._at: bytes | None = None  # None while it could not be found out

    async def past(self) -> list[Line]:
        """What is on the log from where to begin; the position is behind it afterwards."""
        try:
            self._at = await self._position(self._since_sec)
            return await self._more(block_msec=None) if self._since_sec is not None else []
        except BusError:
            return []

    async def run(self, queue: asyncio.Queue[Line]) -> None:
        """Puts what comes into the queue, for ever; a bus that is away is tried again."""
        lost = self._at is None
        while True:
            try:
                if lost:
                    await self._resume()
                    lost = False
                for each in await self._more(_BLOCK_MSEC):
                    queue.put_nowait(each)
            except BusError:
                lost = True
                await asyncio.sleep(_AGAIN_SEC)

    async def _position(self, since_sec: float | None) -> bytes:
        """The log's end, or its end that long ago, by the bus's own clock."""
        if since_sec is None:
            return await newest_id(self._bus, LOG)
        now, _ = await self._bus.ask(self._bus.client.time())
        return b"%d-0" % max(0, int((now - since_sec) * 1000) - 1)

    async def _resume(self) -> None:
        """Finds its place after an outage: where it was, or the start if the log is another one."""
        if self._at is None:  # it was away from the beginning
            self._at = await self._position((self._since_sec or 0) + time.monotonic() - self._begun)
        elif order(await self._position(None)) < order(self._at):
            self._at = _START

    async def _more(self, block_msec: int | None) -> list[Line]:
        """All entries behind the position, waiting for one if asked to."""
        found: list[Line] = []
        while True:
            block_sec = None if block_msec is None else block_msec / 1000
            entries = await read_after(self._bus, LOG, self._at or _START, count=_PAGE, block_sec=block_sec)
            for entry in entries:
                self._at = entry.id
                found += _read(entry)
            if not entries or block_msec is not None:
                return found


def _read(entry: Entry) -> list[Line]:
    """The event of an entry, none if it holds none."""
    if entry.fields is None:
        typer.echo(f"skipped: entry {entry.id.decode()} of {LOG} has {entry.size} bytes", err=True)
        return []
    raw = entry.fields.get(b"event", b"")
    try:
        event = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return []
    return [(raw, event)] if isinstance(event, dict) else []


def _when(each: Line) -> float:
    ts = each[1].get("ts")
    return ts if isinstance(ts, int | float) else 0.0
