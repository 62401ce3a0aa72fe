"""The relay: it copies the alerts of services to the log and the channel of alerts, after a check.

massive and sources have no rights on the log: with their password, an attacker could shorten the log, or
publish anything there. So each writes a stream of its own. The healer that leads reads these streams, takes
the events that `service_alert.py` accepts, and writes them in one step with its position in the stream
(`healer:relayed`), under the fence of its lease. So each event is copied once and in order, even if a healer
is killed.

A service that left the truth closes nothing any more. The relay then reads its stream again, and closes the
outages that are open at its end: `closed_outages.py` says how the service hears of it when it comes back.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from healer.service_alert import close_outage, parse_service_alert
from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.agent.outage_state import AlertRule
from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import replace_unusable
from marketswarm.bus.stream import FIRST_ID, StreamEntry, entry_sort_key, is_entry_id, read_entries_between
from marketswarm.closed_outages import ClosedOutages, closed_field, read_closed
from marketswarm.event import Event, MalformedEvent, encode_event
from marketswarm.keys import ALERT_LOG, HEALER_LEASE, HEALER_RELAYED
from marketswarm.metrics import Family, MetricTable
from marketswarm.monitor import VerdictEncoder
from marketswarm.monitor.leadership import NOT_THE_LEADER, Fence, Leadership
from marketswarm.monitor.publication_step import record_publication
from marketswarm.monitor.publisher import LogLength
from marketswarm.pages import split_pages
from marketswarm.settings.programs import HealerSettings

PAGE_SIZE: Final = 100
FULL_PAUSE_SEC: Final = 0.25
"""The pause after a full page: 400 events a second at most, so that a flood does not trim the log at once."""
BLOCK_SEC: Final = 1.0
CHECK_SEC: Final = 5.0
"""How often it is looked, while nothing comes, whether the stream was created again with older ids."""
STANDBY_SEC: Final = 0.25
"""How often it is looked whether this healer leads."""
LOG_EVERY_SEC: Final = 10.0
CLOSE_AFTER_SEC: Final = 10.0
"""How long the truth must not name a service before we close its outages: it may hear of a reseed first."""
MAX_AHEAD_SEC: Final = 60.0
"""How far the clock of a service may be ahead of ours in what is stored as closed."""
POSITION_MOVED: Final = 0
CHANNEL_REFUSED: Final = 2

_RELAY: Final = Script.beside("marketswarm.monitor", "relay.lua")

log = logs.get("relay")
_HELP: Final = {
    "copied_total{stream}": "Events of services put on the log, by their stream.",
    "skipped_total{stream,reason}": (
        "Entries of services' streams that were not put on the log, by stream and reason."
    ),
    "lost_total{stream}": "Times that entries may have been trimmed off a service's stream unread.",
}
_METRICS: Final = MetricTable("marketswarm_relay_", _HELP)


@dataclass(eq=False)
class Relay:
    """Copies the stream of one service's alerts to the log and the channel of alerts.

    Args:
        rule: which stream, and what the service may alert on.
        home: the bus of the alerts.
        leadership: the leadership on the bus; only the leader copies.
    """

    rule: AlertRule
    me: Agent[HealerSettings]
    home: str
    encoder: VerdictEncoder
    leadership: Leadership
    log_length: LogLength
    copied: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """The number of entries that were not copied, by reason."""
    lost: int = 0
    """How often entries were trimmed off the stream that were not read, as far as that can be known."""
    _stored_position: bytes | None = None  # the position as the bus holds it; None: to be read
    _position: bytes = FIRST_ID  # up to which entry events are copied
    _follower: StreamFollower = field(init=False)
    _closed: ClosedOutages = field(default_factory=ClosedOutages)
    _close_at: float | None = None  # when to close outages (monotonic); None: none is open
    _unlogged: Counter[str] = field(default_factory=Counter)
    _logged_at: float = float("-inf")

    async def run(self) -> None:
        """Copy until cancelled, while this healer leads."""
        outage = Outage(log, "relay.waiting", "relay.resumed", stream=self.rule.stream)
        async for attempt in retrying(outage):
            with attempt:
                await self._copy_while_leading()
            if attempt.failures:
                self._stored_position = None
            self._log_skipped()

    async def _copy_while_leading(self) -> None:
        """Copy the next page and close what is due; wait a moment if another healer leads. Raise BusError."""
        bus = self.me.bus(self.home)
        fence = self.leadership.fence(bus.name)
        if fence is None:
            self._stored_position = None
            await asyncio.sleep(STANDBY_SEC)
            return
        await self._copy_page(bus, fence)
        if self._is_close_due():
            await self._close_outages(bus, fence)

    async def _copy_page(self, bus: Bus, fence: Fence) -> None:
        """Copy the next page of the stream; wait up to a second for one. Raise BusError."""
        if self._stored_position is None:
            await self._load_position(bus)
        entries, loss = await self._follower.read(PAGE_SIZE, BLOCK_SEC)
        if loss is not None and loss.oldest is not None:
            self.lost += 1
            ids = {"after": loss.after.decode(), "upto": loss.oldest.decode()}
            log.error("relay.lost", bus=bus.name, stream=self.rule.stream, **ids)
        if not entries:
            self._position = self._follower.position  # the beginning, if the stream was created again
            return
        events, skipped = _check_entries(self.rule, entries)
        stored, position = self._stored_position or b"", entries[-1].id
        raw = [encode_event(event) for event in events]
        if not await self._write(bus, fence, self.rule.stream, (stored, position), raw):
            return
        self._stored_position = self._position = position
        self.copied += len(events)
        for each in raw:
            if self.me.tracer is not None:
                record_publication(self.me.tracer, "healer", bus.name, each, is_home=True)
        self.skipped += skipped
        self._unlogged += skipped
        if len(entries) == PAGE_SIZE:
            await asyncio.sleep(FULL_PAUSE_SEC)

    async def _write(
        self, bus: Bus, fence: Fence, field: str, change: tuple[bytes, bytes], events: Sequence[bytes]
    ) -> bool:
        """Write events to the log and the channel, and change a field of `healer:relayed`, in one step.

        `change` has the field's stored value, empty for none, and its new one.

        Return False, with nothing written, if another healer leads or wrote the field. Raise BusError.
        """
        keys = [HEALER_LEASE, HEALER_RELAYED, ALERT_LOG]
        length = await self.log_length.compute_length(bus)
        args: list[str | bytes | float] = [*fence, length, self.encoder.channel, field, *change, *events]
        try:
            outcome = await bus.script(_RELAY, keys, args)
        except BusError as error:
            await replace_unusable(error, bus, {ALERT_LOG: "stream"})
            raise
        if outcome == NOT_THE_LEADER:
            self.leadership.deny_leadership(bus.name)
        if outcome in (NOT_THE_LEADER, POSITION_MOVED):
            self._stored_position = None
            return False
        if outcome == CHANNEL_REFUSED:
            log.error("publish.channel_refused", bus=bus.name, channel=self.encoder.channel)
        return True

    def _is_close_due(self) -> bool:
        """Return True if the truth does not name the service for CLOSE_AFTER_SEC, and some may be open."""
        if self.rule.by in self.me.truth.services or self._closed.position == self._position:
            self._close_at = None
            return False
        now = asyncio.get_running_loop().time()
        if self._close_at is None:
            self._close_at = now + CLOSE_AFTER_SEC
        return now >= self._close_at

    async def _close_outages(self, bus: Bus, fence: Fence) -> None:
        """Close the outages that are open at the position, each once. Raise BusError."""
        open_misses, newest_ts = await self._find_open(bus)
        now = time.time()
        ms = max(self._closed.ms, round(1000 * min(newest_ts, now + MAX_AHEAD_SEC)))
        for batch in split_pages(open_misses, PAGE_SIZE):
            events = [close_outage(self.rule, miss, now) for _, miss in batch]
            # those that were missed after these are still open
            if not await self._store_closed(bus, fence, ClosedOutages(batch[-1][0], ms), events):
                return
            await asyncio.sleep(FULL_PAUSE_SEC)
        await self._store_closed(bus, fence, ClosedOutages(self._position, ms), ())

    async def _store_closed(
        self, bus: Bus, fence: Fence, closed: ClosedOutages, events: Sequence[Event]
    ) -> bool:
        """Publish closing events, and store how far they close; return False if another healer leads."""
        stored = await bus.ask(bus.client.hget(HEALER_RELAYED, closed_field(self.rule.stream))) or b""
        raw = [encode_event(event) for event in events]
        field = closed_field(self.rule.stream)
        if not await self._write(bus, fence, field, (stored, closed.encode()), raw):
            return False
        self._closed = closed
        for event in events:
            log.info("relay.outage_closed", svc=event.svc, id=event.id, by=self.rule.by)
        return True

    async def _find_open(self, bus: Bus) -> tuple[list[tuple[bytes, Event]], float]:
        """Return the misses up to the position that are open, oldest first, each with the id of its entry.

        Return with them the time of the newest event, in epoch seconds; 0 without any. Raise BusError.
        """
        found, newest_ts = dict[str, tuple[bytes, Event]](), 0.0
        read = self._closed.position
        if entry_sort_key(read) > entry_sort_key(self._position):
            read = FIRST_ID  # the stream has been created again
        while entries := await read_entries_between(
            bus, self.rule.stream, f"({read.decode()}", self._position.decode(), count=PAGE_SIZE
        ):
            read = entries[-1].id
            for entry in entries:
                event = _parse_entry(self.rule, entry)
                if isinstance(event, MalformedEvent):
                    continue
                newest_ts = max(newest_ts, event.ts)
                found.pop(event.svc, None)
                if event.type is self.rule.miss:
                    found[event.svc] = entry.id, event
        return list(found.values()), newest_ts

    async def _load_position(self, bus: Bus) -> None:
        """Read the position at which the last healer stopped; use the stream's beginning if it is unusable.

        Raise BusError.
        """
        stored: bytes = await bus.ask(bus.client.hget(HEALER_RELAYED, self.rule.stream)) or b""
        if stored and not is_entry_id(stored):
            log.warning("relay.position_unreadable", bus=bus.name, stream=self.rule.stream)
        self._closed = await read_closed(bus, self.rule.stream)
        self._stored_position = stored
        self._position = stored if is_entry_id(stored) else FIRST_ID
        self._follower = StreamFollower(bus, self.rule.stream, self._position, check_sec=CHECK_SEC)

    def _log_skipped(self) -> None:
        """Log how many entries were skipped and why, at most every 10 s."""
        now = asyncio.get_running_loop().time()
        if self._unlogged and now - self._logged_at >= LOG_EVERY_SEC:
            log.warning(
                "relay.skipped",
                stream=self.rule.stream,
                count=self._unlogged.total(),
                reasons=dict(self._unlogged),
            )
            self._unlogged.clear()
            self._logged_at = now


def collect_relays(relays: Sequence[Relay]) -> Iterator[Family]:
    """Yield the counts of copied and skipped events of all relays for Prometheus, by stream."""
    return _METRICS.collect(
        copied_total={relay.rule.stream: relay.copied for relay in relays},
        lost_total={relay.rule.stream: relay.lost for relay in relays},
        skipped_total={
            (relay.rule.stream, reason): count
            for relay in relays
            for reason, count in relay.skipped.copy().items()
        },
    )


def _check_entries(rule: AlertRule, entries: Sequence[StreamEntry]) -> tuple[list[Event], Counter[str]]:
    events, skipped = list[Event](), Counter[str]()
    for entry in entries:
        event = _parse_entry(rule, entry)
        if isinstance(event, MalformedEvent):
            skipped[event.reason] += 1
        else:
            events.append(event)
    return events, skipped


def _parse_entry(rule: AlertRule, entry: StreamEntry) -> Event | MalformedEvent:
    if entry.fields is None:
        return MalformedEvent("too_long")
    return parse_service_alert(rule, entry.fields.get(b"event", b""))
