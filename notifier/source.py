"""Reads the durable log of one bus, and what is asked of the notifier there, as a consumer of its group.

Whatever becomes of the bus, each entry is brought until it is acknowledged: what an instance that died had
read is claimed, a group that somebody deleted is made again where it was. The very first time it begins at
the end of the log, but for the outages that still last. Not here: what is told.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError, TooLongError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stream import (
    BEGINNING,
    REPLY_BYTES,
    Entry,
    entry_of,
    fetch,
    newest_id,
    order,
    read_before,
)
from marketswarm.event import Event, Malformed, parse
from marketswarm.monitor.agreed import LOG
from marketswarm.operator import (
    ASKS,
    GROUP,
    SILENCES,
    STATE,
    OperatorRequest,
    Silence,
    merge_silences,
    missing_silences,
)
from notifier.inbox import Asked, Heard, Intake
from notifier.store import SEQ, Store

_OPENS: Final = ("miss", "drift")
_ASIDE: Final = "gap"
"""What moves nothing."""


def still_open(latest_first: Iterable[bytes]) -> list[tuple[Event, bytes]]:
    """The events that opened what is not over, oldest first; of each thing only its latest word counts."""
    known: set[tuple[str, str]] = set()
    found: list[tuple[Event, bytes]] = []
    for raw in latest_first:
        event = parse(raw)
        if isinstance(event, Malformed):
            continue
        family, _, what = event.type.rpartition("_")
        if what == _ASIDE or (family, event.svc) in known:
            continue
        known.add((family, event.svc))
        if what in _OPENS:
            found.append((event, raw))
    return found[::-1]


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
                self._intake.ask(Asked(name, entry.id, OperatorRequest.parse(entry.fields.get(b"ask", b""))))
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


EVERY_SEC: Final = 1.0


class Silences:
    """Those of all buses together; `changed` is told when they are others than before."""

    def __init__(self, changed: Callable[[Sequence[Silence]], None]) -> None:
        self._changed = changed
        self._held: dict[str, dict[bytes, bytes]] = {}
        self._silences: dict[str, Silence] = {}

    def saw(self, bus: str, held: dict[bytes, bytes]) -> dict[str, bytes]:
        """Takes note of what a bus holds; what is to be written there, so that it has the latest of each."""
        if self._held.get(bus) != held:
            self._held[bus] = held
            found = merge_silences(self._held.values())
            if found != self._silences:
                self._silences = found
                self._changed(list(found.values()))
        return missing_silences(held, self._silences)


class Sweep:
    """Sweeps one bus until cancelled.

    Args:
        reader: who reads that bus, and claims what others left there.
        store: which is told what state the bus has.
        silences: those of all buses.
        consumer: what this instance is called in the group.
    """

    def __init__(self, reader: Reader, store: Store, silences: Silences, consumer: str) -> None:
        self._bus: Bus = reader.bus
        self._reader, self._store, self._silences = reader, store, silences
        self._consumer = consumer.encode()

    async def run(self) -> None:
        """Sweeps until cancelled. What a bus does not answer is asked again."""
        while True:
            with contextlib.suppress(BusError):  # its reader says so
                await self._sweep()
            await asyncio.sleep(EVERY_SEC)

    async def look_at_silences(self) -> None:
        """Takes note of those that there are: nobody is to be told of anything before that."""
        with contextlib.suppress(BusError):
            held = await self._bus.ask(self._bus.client.hgetall(SILENCES), EVERY_SEC)
            self._silences.saw(self._bus.name, held)

    async def _sweep(self) -> None:
        pipe = self._bus.pipeline()
        pipe.hgetall(SILENCES)
        pipe.hget(STATE, SEQ)
        pipe.xpending(LOG, GROUP)
        held, seq, pending = await self._bus.ask(pipe.execute(raise_on_error=False))
        if not isinstance(seq, Exception):
            self._store.seen(self._bus.name, seq)
        if isinstance(held, dict):
            await self._heal(held)
        if isinstance(pending, dict) and self._others(pending):
            self._reader.request_claim()

    def _others(self, pending: dict[str, Any]) -> bool:
        return any(each["name"] != self._consumer for each in pending["consumers"])

    async def _heal(self, held: dict[bytes, bytes]) -> None:
        now = time.time()
        newer: dict[Any, Any] = {
            key: raw for key, raw in self._silences.saw(self._bus.name, held).items() if not _old(raw, now)
        }
        if newer:
            await self._bus.ask(self._bus.client.hset(SILENCES, mapping=newer))
        if old := [key for key, raw in held.items() if _old(raw, now)]:
            await self._bus.ask(self._bus.client.hdel(SILENCES, *old))


def _old(raw: bytes, now: float) -> bool:
    silence = Silence.parse(raw)
    return silence is not None and silence.old(now)
