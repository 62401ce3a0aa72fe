"""Read the alert log, the operators' requests and the silences of each bus.

The log and the requests are read as a consumer of a group, the silences are polled once a second. An
entry is read again until it is acknowledged; entries of an instance that died are claimed, and a
deleted group is created again at the last position. The very first run starts at the end of the log,
with the outages that still last. Not here: what follows from an event (`dispatcher.py`).
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.consumer import Consumer
from marketswarm.bus.outage import PAUSES
from marketswarm.bus.stream import (
    FIRST_ID,
    REPLY_BYTES,
    StreamEntry,
    entry_sort_key,
    has_begun_anew,
    make_stream_entry,
    read_entries_before,
    read_entries_by_id,
)
from marketswarm.event import Event, MalformedEvent, parse_event
from marketswarm.keys import ALERT_LOG, NOTIFIER_GROUP, NOTIFIER_REQUESTS, NOTIFIER_SILENCES, NOTIFIER_STATE
from marketswarm.operator.requests import OperatorRequest
from marketswarm.operator.silences import (
    Silence,
    find_missing_silences,
    merge_silences,
    parse_silences,
)
from notifier.inbox import Inbox, ReceivedEvent, ReceivedRequest
from notifier.router.incident import CLOSES, OPENS
from notifier.state_copies import SEQ
from notifier.store import Store

BLOCK_SEC: Final = 2.0
"""How long one read waits for new entries, in seconds."""
AT_ONCE: Final = 500
"""How many entries one read returns at most."""
COMPLAIN_EVERY: Final = 1000
"""One of this many entries that can't be parsed is logged."""
GROUP_DELETED: Final = ("NOGROUP", "UNBLOCKED")
"""Words in a server's error when the group or stream was deleted, perhaps while it was read."""
POLL_EVERY_SEC: Final = 1.0

log = logs.get("reading")


def find_unfinished_outages(
    latest_first: Iterable[bytes], known: set[tuple[str, str]]
) -> list[tuple[Event, bytes]]:
    """Return the events that opened outages which still last, latest first.

    Of each service only its newest event counts. `known` has family and service of each newer event that was
    looked at; those of these events are added.
    """
    found: list[tuple[Event, bytes]] = []
    for raw in latest_first:
        event = parse_event(raw)
        if isinstance(event, MalformedEvent):
            continue
        family, _, _ = event.type.rpartition("_")
        is_note = event.type not in OPENS and event.type not in CLOSES
        if is_note or (family, event.svc) in known:
            continue
        known.add((family, event.svc))
        if event.type in OPENS:
            found.append((event, raw))
    return found


class LogReader:
    """Reads the alert log and the requests of one bus until cancelled.

    Args:
        room: waits while the bus of this name has too many acknowledgements to store.
        answered: called with the bus's name before each read, once the group is joined.
        replay_after: the entry after which the log is first read again; None if it is not.
        replayed: called with the bus's name once what was read again is in the stored state.
    """

    def __init__(
        self,
        bus: Bus,
        consumer: str,
        inbox: Inbox,
        *,
        room: Callable[[str], Awaitable[None]],
        answered: Callable[[str], None],
        failed: Callable[[BusError], None],
        replay_after: bytes | None = None,
        replayed: Callable[[str], None] = lambda _bus: None,
    ) -> None:
        self.bus, self._inbox, self._replay_after = bus, inbox, replay_after
        streams = ALERT_LOG, NOTIFIER_REQUESTS
        self.consumer = Consumer(bus, streams, NOTIFIER_GROUP, consumer, reply_bytes=REPLY_BYTES, idle_sec=0)
        self._wait_for_ack_room, self._answered, self._failed = room, answered, failed
        self._replayed = replayed
        self.claim_due = False
        """Whether the pending entries of all instances are to be claimed before the next read."""
        self._replayed_count: int | None = None  # how many events there were when the log was read again

    async def run(self) -> None:
        """Read until cancelled, joining the group again after every error, with a pause."""
        failures = 0
        while True:
            try:
                await self._join_group()
                while True:
                    self._answered(self.bus.name)
                    failures = 0
                    self.report_replay()
                    await self._wait_for_room()
                    if self.claim_due:
                        await self.claim()
                    await self._read()
            except BusError as error:
                # a deleted group is created again without a log line
                if not any(word in error.detail for word in GROUP_DELETED):
                    self._failed(error)
            failures += 1
            await asyncio.sleep(PAUSES.pause_sec(failures))

    async def claim(self) -> None:
        """Claim the pending entries of all instances, and remove idle consumers. Raises BusError."""
        self.claim_due = False
        for stream in self.consumer.streams:
            await self._claim(stream)
        await self.consumer.delete_idle_consumers()

    async def replay(self) -> None:
        """Add the entries after `replay_after` again, oldest first; what is known changes nothing.

        Raises BusError; the next call starts again.
        """
        if self._replay_after is None:
            return
        found, before = list[bytes](), b"+"
        oldest = entry_sort_key(self._replay_after)
        while some := await read_entries_before(self.bus, ALERT_LOG, before, count=AT_ONCE):
            new = [each.id for each in some if entry_sort_key(each.id) > oldest]
            found += new
            if len(new) < len(some):
                break
            before = b"(" + some[-1].id
        for at in range(len(found), 0, -AT_ONCE):
            await self._fetch(ALERT_LOG, found[max(0, at - AT_ONCE) : at][::-1])
        self._replay_after, self._replayed_count = None, self._inbox.added_count

    def report_replay(self) -> None:
        """Report that the log was read again, once all events that were added by that are stored."""
        if self._replayed_count is not None and self._inbox.has_stored(self._replayed_count):
            self._replayed_count = None
            self._replayed(self.bus.name)

    # -- the consumer group

    async def _join_group(self) -> None:
        """Create missing groups, register this consumer, and claim pending entries. Raises BusError."""
        name, last = self.bus.name, self._inbox.last_read.get(self.bus.name)
        if not await self._has_log_group():
            start = await self._look_back() if last is None else await self._resume_position(last)
            await self.consumer.create_group(ALERT_LOG, start)
            log.info("reading.begun", bus=name, after=start.decode(), first=last is None)
            self._inbox.last_read.setdefault(name, start)
        await self.consumer.create_group(NOTIFIER_REQUESTS)
        registration = self.bus.client.xgroup_createconsumer(ALERT_LOG, NOTIFIER_GROUP, self.consumer.name)
        await self.bus.ask(registration)
        await self.claim()
        await self.replay()

    async def _has_log_group(self) -> bool:
        try:
            await self.bus.ask(self.bus.client.xpending(ALERT_LOG, NOTIFIER_GROUP))
        except BusError as error:
            if "NOGROUP" in error.detail:
                return False
            raise
        return True

    async def _look_back(self) -> bytes:
        """Add outages that still last, wait until they are stored, return the log's end. Raises BusError."""
        end, before = FIRST_ID, b"+"
        known, lasting = set[tuple[str, str]](), list[tuple[Event, bytes]]()
        while some := await read_entries_before(self.bus, ALERT_LOG, before, count=AT_ONCE):
            end = some[0].id if before == b"+" else end
            raws = ((entry.fields or {}).get(b"event", b"") for entry in some)
            lasting += find_unfinished_outages(raws, known)
            before = b"(" + some[-1].id
        self._inbox.add_events(
            ReceivedEvent(self.bus.name, None, event, raw) for event, raw in reversed(lasting)
        )
        await self._inbox.wait_until_stored()
        return end

    async def _resume_position(self, last: bytes) -> bytes:
        # a group that begins behind the last possible id would never be given an entry
        return FIRST_ID if await has_begun_anew(self.bus, ALERT_LOG, last) else last

    # -- reading

    async def _read(self) -> None:
        """Read new entries, of the requests only while the inbox has room for them. Raises BusError."""
        counts = {ALERT_LOG: AT_ONCE, NOTIFIER_REQUESTS: AT_ONCE if self._inbox.has_request_room else 0}
        for entry in await self.consumer.read_new(counts, BLOCK_SEC):
            self._add_entry(entry.stream, make_stream_entry(entry.id, dict(entry.fields or {})))
        if self.consumer.has_unseen:
            await self.claim()  # the entries are pending for this consumer now: read them by their sizes

    async def _claim(self, stream: str) -> None:
        """Claim all pending entries of a stream; read those new to the inbox. Raises BusError."""
        name, is_request, start = self.bus.name, stream == NOTIFIER_REQUESTS, b""
        while start != FIRST_ID:
            idents, _, start = await self.consumer.claim_ids(stream, 0, start or FIRST_ID)
            known = self._inbox.is_known
            new = [each for each in idents if not known(name, each, is_request=is_request)]
            await self._fetch(stream, new)

    async def _fetch(self, stream: str, idents: list[bytes]) -> None:
        if not idents:
            return
        await self._wait_for_room()
        if stream == NOTIFIER_REQUESTS:
            await self._inbox.wait_for_request_room()
        for entry in await read_entries_by_id(self.bus, stream, idents):
            self._add_entry(stream, entry, redelivered=True)

    async def _wait_for_room(self) -> None:
        await self._wait_for_ack_room(self.bus.name)
        await self._inbox.wait_for_room()

    # -- parsing

    def _add_entry(self, stream: str, entry: StreamEntry, *, redelivered: bool = False) -> None:
        """A `redelivered` entry was claimed; another one advances the read position of the log."""
        name = self.bus.name
        if not redelivered and stream == ALERT_LOG:
            self._inbox.last_read[name] = entry.id
        if entry.fields is None:
            self._add_malformed(stream, entry.id, "too_long", entry.size)
        elif stream == NOTIFIER_REQUESTS:
            request = OperatorRequest.parse(entry.fields.get(b"ask", b""))
            self._inbox.add_request(ReceivedRequest(name, entry.id, request))
        else:
            raw = entry.fields.get(b"event", b"")
            event = parse_event(raw)
            if isinstance(event, MalformedEvent):
                self._add_malformed(stream, entry.id, event.reason, entry.size)
            else:
                self._inbox.add_events([ReceivedEvent(name, entry.id, event, raw, redelivered)])

    def _add_malformed(self, stream: str, ident: bytes, reason: str, size: int) -> None:
        """Add an entry that can't be parsed to the inbox, to be acknowledged; log one of COMPLAIN_EVERY."""
        if stream == NOTIFIER_REQUESTS:
            self._inbox.add_request(ReceivedRequest(self.bus.name, ident, None))
            return
        if self._inbox.malformed.total() % COMPLAIN_EVERY == 0:
            log.warning(
                "reading.malformed", bus=self.bus.name, entry=ident.decode(), reason=reason, bytes=size
            )
        self._inbox.add_malformed(self.bus.name, ident, reason)


class SilenceSync:
    """Merges the silences of all buses; calls `changed` with the new list when it changes.

    A field is parsed when it is new or has changed, since each bus is polled every second.
    """

    def __init__(self, changed: Callable[[Sequence[Silence]], None]) -> None:
        self._changed = changed
        self._held: dict[str, dict[bytes, bytes]] = {}
        self._by_bus: dict[str, dict[str, Silence]] = {}
        self._silences: dict[str, Silence] = {}
        self._missing: dict[str, dict[str, bytes]] = {}  # by bus, while nothing changes

    def record_silences(self, bus: str, held: dict[bytes, bytes]) -> dict[str, bytes]:
        """Record the silences on a bus; return the fields that it lacks or has in an older version."""
        before = self._held.get(bus, {})
        if bus not in self._held or before != held:
            new = {key: raw for key, raw in held.items() if before.get(key) != raw}
            same = {
                key: silence
                for key, silence in self._by_bus.get(bus, {}).items()
                if (name := key.encode()) in held and name not in new
            }
            self._held[bus], self._by_bus[bus] = held, same | parse_silences(new)
            self._missing.pop(bus, None)
            found = merge_silences(self._by_bus.values())
            if found != self._silences:
                self._silences = found
                self._missing.clear()
                self._changed(list(found.values()))
        if bus not in self._missing:
            self._missing[bus] = find_missing_silences(self._by_bus[bus], self._silences)
        return self._missing[bus]

    def find_deletable(self, bus: str, now: float) -> list[str]:
        return [key for key, silence in self._by_bus.get(bus, {}).items() if silence.is_deletable(now)]


class BusPoller:
    """Polls one bus every second: silences, the state's sequence number, pending entries."""

    def __init__(self, reader: LogReader, store: Store, silences: SilenceSync) -> None:
        self._bus: Bus = reader.bus
        self._reader, self._store, self._silences = reader, store, silences

    async def run(self) -> None:
        while True:
            with contextlib.suppress(BusError):  # the bus's LogReader reports the error
                await self._poll()
            await asyncio.sleep(POLL_EVERY_SEC)

    async def read_silences(self) -> None:
        """Read the bus's silences once, so that they apply before the first message; ignore an error."""
        with contextlib.suppress(BusError):
            held = await self._bus.ask(self._bus.client.hgetall(NOTIFIER_SILENCES), POLL_EVERY_SEC)
            self._silences.record_silences(self._bus.name, held)

    async def _poll(self) -> None:
        pipe = self._bus.pipeline()
        pipe.hgetall(NOTIFIER_SILENCES)
        pipe.hget(NOTIFIER_STATE, SEQ)
        pipe.xpending(ALERT_LOG, NOTIFIER_GROUP)
        held, seq, pending = await self._bus.ask(pipe.execute(raise_on_error=False))
        if not isinstance(seq, Exception):
            self._store.writers[self._bus.name].check_seq(seq)
        if isinstance(held, dict):
            await self._sync_silences(held)
        consumers = pending["consumers"] if isinstance(pending, dict) else ()
        if any(each["name"] != self._reader.consumer.name.encode() for each in consumers):
            self._reader.claim_due = True

    async def _sync_silences(self, held: dict[bytes, bytes]) -> None:
        """Write missing and newer silences to the bus, and delete old ones from it. Raises BusError."""
        now, missing = time.time(), self._silences.record_silences(self._bus.name, held)
        newer: dict[Any, Any] = {key: raw for key, raw in missing.items() if not _is_old(raw, now)}
        if newer:
            await self._bus.ask(self._bus.client.hset(NOTIFIER_SILENCES, mapping=newer))
        if old := self._silences.find_deletable(self._bus.name, now):
            await self._bus.ask(self._bus.client.hdel(NOTIFIER_SILENCES, *old))


def _is_old(raw: bytes, now: float) -> bool:
    silence = Silence.parse(raw)
    return silence is not None and silence.is_deletable(now)
