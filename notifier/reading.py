"""Reads the durable log of one bus, and what is asked of the notifier there, as a consumer of its group.

Whatever becomes of the bus, each entry is brought until it is acknowledged: what an instance that died had
read is claimed, a group that somebody deleted is made again where it was. The very first time it begins at
the end of the log, but for the outages that still last. Not here: what is told.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.attention import ASKS, GROUP, Ask
from marketswarm.bus import Bus, BusError, TooLongError
from marketswarm.entries import BEGINNING, REPLY_BYTES, Entry, entry_of, fetch, newest_id, order, read_before
from marketswarm.event import Malformed, parse
from marketswarm.scripts import Script
from marketswarm.vigil.agreed import LOG
from notifier.intake import Asked, Heard, Intake
from notifier.lately import still_open

BLOCK_SEC: Final = 2.0
AT_ONCE: Final = 500
LOOK_BACK: Final = 10_000
"""So many entries are looked through for outages that last, the very first time."""
FIRST_PAUSE_SEC: Final = 0.1
LONGEST_PAUSE_SEC: Final = 1.0
COMPLAIN_EVERY: Final = 1000
"""Malformed entries from one log line on them to the next."""
GONE: Final = ("NOGROUP", "UNBLOCKED")
"""What servers say when somebody deleted the group, or the whole log while we wait at it."""

# the client library's own way leaves the cursor out when it is asked for ids alone
_CLAIM: Final = Script.beside("notifier", "claim.lua")
_DISMISS: Final = Script.beside("notifier", "dismiss.lua")

log = logs.get("reading")


class Reader:
    """Reads one bus until cancelled.

    Args:
        bus: which.
        consumer: what this instance is called in the group.
        intake: who gets what was read.
        room: waits while the bus with this name has too many acknowledgements to take.
        answered: told the bus's name each time it does as it is asked.
        failed: told what it did instead.
    """

    def __init__(
        self,
        bus: Bus,
        consumer: str,
        intake: Intake,
        *,
        room: Callable[[str], Awaitable[None]],
        answered: Callable[[str], None],
        failed: Callable[[BusError], None],
    ) -> None:
        self.bus = bus
        self._consumer = consumer
        self._intake = intake
        self._room_for_acks, self._answered, self._failed = room, answered, failed
        self._claim_due = False

    async def run(self) -> None:
        """Reads until cancelled."""
        pause_sec = FIRST_PAUSE_SEC
        while True:
            try:
                await self._join()
                while True:
                    self._answered(self.bus.name)
                    pause_sec = FIRST_PAUSE_SEC
                    await self._room()
                    if self._claim_due:
                        await self.claim()
                    await self._read()
            except BusError as error:
                # the group is made again when it is gone, without a word
                if not any(word in error.detail for word in GONE):
                    self._failed(error)
            await asyncio.sleep(pause_sec)
            pause_sec = min(2 * pause_sec, LONGEST_PAUSE_SEC)

    def request_claim(self) -> None:
        """Have the reader claim before it reads again: who requests it need not wait for room."""
        self._claim_due = True

    async def claim(self) -> None:
        """Brings what other instances left, and what of our own got lost on the way. Raises BusError."""
        self._claim_due = False
        for stream in (LOG, ASKS):
            await self._claim(stream)
            await self._dismiss(stream)

    # -- joining

    async def _join(self) -> None:
        client, name = self.bus.client, self.bus.name
        if not await self._has_group(LOG):
            last = self._intake.last.get(name)
            start = await self._look_back() if last is None else await self._place(last)
            await self._make_group(LOG, start)
            log.info("reading.begun", bus=name, after=start.decode(), first=last is None)
            self._intake.last.setdefault(name, start)
        if not await self._has_group(ASKS):
            await self._make_group(ASKS, BEGINNING)
        await self.bus.ask(client.xgroup_createconsumer(LOG, GROUP, self._consumer))
        await self.claim()

    async def _has_group(self, stream: str) -> bool:
        try:
            await self.bus.ask(self.bus.client.xpending(stream, GROUP))
        except BusError as error:
            if "NOGROUP" in error.detail:
                return False
            raise
        return True

    async def _make_group(self, stream: str, start: bytes) -> None:
        try:
            await self.bus.ask(self.bus.client.xgroup_create(stream, GROUP, start, mkstream=True))
        except BusError as error:
            if "BUSYGROUP" not in error.detail:
                raise

    async def _look_back(self) -> bytes:
        """Brings the outages that last, and returns where the log ended then."""
        end, before, found = BEGINNING, b"+", list[tuple[bytes, bytes]]()
        while len(found) < LOOK_BACK:
            some = await read_before(self.bus, LOG, before, count=AT_ONCE)
            if not some:
                break
            end = some[0].id if before == b"+" else end
            found += ((entry.id, (entry.fields or {}).get(b"event", b"")) for entry in some)
            before = b"(" + some[-1].id
        lasting = still_open(raw for _, raw in found)
        self._intake.bring(Heard(self.bus.name, None, event, raw) for event, raw in lasting)
        await self._intake.digested()
        return end

    async def _place(self, last: bytes) -> bytes:
        """Where to go on in a log whose group is gone: after `last`, in another log at its beginning."""
        end = await newest_id(self.bus, LOG)
        return last if order(last) <= order(end) or end == BEGINNING else BEGINNING

    # -- what is there

    async def _read(self) -> None:
        streams: Any = {LOG: ">", ASKS: ">"} if self._intake.takes_asks else {LOG: ">"}
        reading = self.bus.client.xreadgroup(
            GROUP, self._consumer, streams, count=AT_ONCE, block=round(1000 * BLOCK_SEC)
        )
        try:
            found: Any = await self.bus.ask(reading, BLOCK_SEC + self.bus.within_sec, longest=REPLY_BYTES)
        except TooLongError:
            await self.claim()  # the server has handed them out: they are ours, and are read by their sizes
            return
        for stream, entries in found or ():
            self._bring(stream.decode(), [entry_of(*entry) for entry in entries])

    async def _claim(self, stream: str) -> None:
        """Take over and read the entries of a stream that other consumers left pending. Raise BusError."""
        cursor: bytes = BEGINNING
        knows = self._intake.knows
        while True:
            args: list[str | bytes | float] = [GROUP, self._consumer, 0, cursor, "COUNT", AT_ONCE, "JUSTID"]
            cursor, idents, *_ = await self.bus.script(_CLAIM, [stream], args)
            new = [ident for ident in idents if not knows(self.bus.name, ident, ask=stream == ASKS)]
            await self._fetch(stream, new)
            if cursor == BEGINNING:
                return

    async def _fetch(self, stream: str, idents: list[bytes]) -> None:
        """Reads entries by their ids."""
        if not idents:
            return
        await self._room()
        if stream == ASKS:
            await self._intake.room_for_asks()
        self._bring(stream, await fetch(self.bus, stream, idents), again=True)

    async def _room(self) -> None:
        """Wait until the desk takes more, and the bus's acknowledgements do not pile up."""
        await self._room_for_acks(self.bus.name)
        await self._intake.room()

    async def _dismiss(self, stream: str) -> None:
        """Take consumers of earlier runs that have nothing left off the group."""
        await self.bus.script(_DISMISS, [stream], [GROUP, self._consumer])

    # -- what becomes of it

    def _bring(self, stream: str, entries: Iterable[Entry], *, again: bool = False) -> None:
        name, heard = self.bus.name, list[Heard]()
        for entry in entries:
            if not again and stream == LOG:
                self._intake.last[name] = entry.id
            if entry.fields is None:
                self._spoil(stream, entry.id, "too_long", entry.size)
                continue
            if stream == ASKS:
                self._intake.ask(Asked(name, entry.id, Ask.parse(entry.fields.get(b"ask", b""))))
                continue
            raw = entry.fields.get(b"event", b"")
            event = parse(raw)
            if isinstance(event, Malformed):
                self._spoil(stream, entry.id, event.reason, entry.size)
            else:
                heard.append(Heard(name, entry.id, event, raw, again))
        if heard:
            self._intake.bring(heard)

    def _spoil(self, stream: str, ident: bytes, reason: str, size: int) -> None:
        if stream == ASKS:
            self._intake.ask(Asked(self.bus.name, ident, None))
            return
        if self._intake.malformed.total() % COMPLAIN_EVERY == 0:
            log.warning(
                "reading.malformed", bus=self.bus.name, entry=ident.decode(), reason=reason, bytes=size
            )
        self._intake.spoil(self.bus.name, ident, reason)
