"""The worker's side of the stream: take items, take over those of the dead, settle each in one step."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from marketswarm.bus import Bus, BusError, Script
from services.vexy_ai.notes import entries_of

BLOCK_SEC: Final = 1.0  # how long the server holds a reading that finds nothing
MARGIN_SEC: Final = 2.0
REMEMBERED: Final = 20_000
REMEMBERED_SEC: Final = 7 * 86_400
NOTES_LENGTH: Final = 10_000
IDLE_CONSUMER_SEC: Final = 3600.0
SETTLE: Final = Script.beside("services.vexy_ai", "settle.lua")
LEAVE: Final = Script.beside("services.vexy_ai", "leave.lua")

Entry = tuple[bytes, Mapping[bytes, bytes]]


class Queue:
    """One consumer of one group. Every method may raise BusError."""

    def __init__(self, bus: Bus, key: str, group: str, consumer: str) -> None:
        self.bus, self.key, self.group, self.consumer = bus, key, group, consumer
        self._claimed_to: bytes | str = "0-0"

    async def open(self) -> None:
        """Make the group, from the stream's beginning, unless it is there."""
        try:
            await self.bus.ask(self.bus.client.xgroup_create(self.key, self.group, id="0", mkstream=True))
        except BusError as error:
            if "BUSYGROUP" not in error.detail:
                raise
        await self._leave("")

    async def take(self, count: int) -> list[Entry]:
        """New items, waiting a second for some."""
        reply = await self.bus.ask(
            self.bus.client.xreadgroup(
                self.group, self.consumer, {self.key: ">"}, count=count, block=round(1000 * BLOCK_SEC)
            ),
            BLOCK_SEC + MARGIN_SEC,
        )
        return entries_of(reply)

    async def take_over(self, idle_sec: float, count: int) -> list[Entry]:
        """Items that a consumer took and did not settle within `idle_sec`; goes round the list bit by bit."""
        reply = await self.bus.ask(
            self.bus.client.xautoclaim(
                self.key, self.group, self.consumer, round(1000 * idle_sec), self._claimed_to, count=count
            )
        )
        self._claimed_to = reply[0]
        return [(entry_id, fields or {}) for entry_id, fields in reply[1] if entry_id is not None]

    async def settle(self, entry_id: bytes, notes: Bus, to: str, note: Mapping[str, str], now: float) -> bool:
        """Write the note and take the item off the list; whether the note is new."""
        fields = orjson.dumps([text for pair in note.items() for text in pair])
        args: list[str | bytes | float] = [self.group, entry_id, note["id"], now]
        args += [REMEMBERED, REMEMBERED_SEC, NOTES_LENGTH, fields]
        new = await notes.script(SETTLE, [to, f"{to}:seen", self.key], args)
        if notes is not self.bus:  # two servers can't be one step; a note that is there is not written twice
            await self.bus.ask(self.bus.client.xack(self.key, self.group, entry_id))
        return bool(new)

    async def close(self) -> None:
        """Leave the group, if nothing is left to do; what is pending stays for others to take over."""
        with contextlib.suppress(BusError):
            await self._leave(self.consumer)

    async def _leave(self, consumer: str) -> Any:
        return await self.bus.script(
            LEAVE, [self.key], [self.group, consumer, round(1000 * IDLE_CONSUMER_SEC)], within_sec=1.0
        )
