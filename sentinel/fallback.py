"""The fallback: the sentinel sends alerts about the healer and the buses that no other process has sent.

It follows the log of alerts on every bus and gives the notifier some seconds. Then it reads
`notifier:told:<id>`, and sends each event without such a record over each of its channels, under the same id.
`pending.py` decides which alerts are pending, `sender.py` how long to keep trying; the records are in
`delivery_records.py`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Final

from marketswarm import log as logs
from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.outage import Outage, retrying
from marketswarm.bus.stream import StreamEntry, read_newest_id
from marketswarm.channels import Channel
from marketswarm.event import Event, MalformedEvent, encode_event, parse_event
from marketswarm.keys import ALERT_LOG, canary_key, roster_key
from marketswarm.metrics import Family, MetricTable
from marketswarm.monitor.encoder import BUS_FIELD
from marketswarm.settings.programs import SentinelSettings
from marketswarm.tasks import run_until_first
from marketswarm.time_slice import wait_until_due
from marketswarm.truth import HEALER, Truth
from sentinel.availability import BusAvailability
from sentinel.delivery_records import RECORD_LIFE_SEC, DeliveryRecords, find_open_miss, load_roster_entries
from sentinel.pending import PendingAlert, PendingAlerts
from sentinel.sender import ChannelSender, build_message, find_message_zone

POLL_SEC: Final = 0.5
RETRY_RECORDS_SEC: Final = 1.0
PROBE_EVERY_SEC: Final = 1.0
STALLED_SEC: Final = 1.0
"""If a wait of POLL_SEC at most was so much too long, this process did not run, and no bus was asked."""
BLOCK_SEC: Final = 1.0
PAGE_SIZE: Final = 500
_SERVICE_EVENTS: Final = (b'{"type":"heartbeat', b'{"type":"probe')
"""The first bytes of events about services, which the sentinel skips without parsing them."""
_HELP: Final = {
    "log_oversized_total{bus}": (
        "Entries of healer:alerts:log that the sentinel skipped, because they were too large."
    ),
}
_METRICS: Final = MetricTable("marketswarm_", _HELP)

log, sentinel_log = logs.get("direct"), logs.get("sentinel")


def collect_skipped(skipped: Mapping[str, int]) -> Iterator[Family]:
    """Return the metric of the entries of the log that are too large to be read, by bus."""
    return _METRICS.collect(log_oversized_total=skipped)


class Fallback:
    """The fallback over some channels, which `run` closes at its end. Call `set_truth` first, then `run`."""

    def __init__(self, me: Agent[SentinelSettings], channels: Sequence[Channel]) -> None:
        self._me = me
        self._grace_sec = me.settings.sentinel_direct_sec
        self._buses: list[Bus] = []
        self._bus_timeout_sec = 0.0
        self._fleet = ""
        self._zone: tzinfo | None = None
        self._pending = PendingAlerts(me.name, self._grace_sec)
        self._availability = BusAvailability(me.name, (), time.monotonic())
        self._records = DeliveryRecords(me.name, lambda: self._buses)
        self._senders = [
            ChannelSender(
                channel,
                is_wanted=self._is_wanted,
                on_accepted=self._record_accepted,
                on_finished=self._finish_alert,
            )
            for channel in channels
        ]
        self.skipped: Counter[str] = Counter()
        """By bus, the entries of the log that were too large to be read."""
        self._sending: dict[str, int] = {}  # by event id, the number of senders that still try it
        self._wake, self._changed, self._records_due = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def set_truth(self, truth: Truth) -> None:
        """Put a truth in force: its buses, and the fleet's name and the time zone that messages show.

        Raise BusError if a bus has no URL.
        """
        self._buses = [self._me.bus(name) for name in truth.bus_names()]
        self._bus_timeout_sec = truth.bus_timeout_sec()
        self._fleet, self._zone = truth.fleet, find_message_zone(truth)
        self._availability.set_buses(truth.bus_names(), time.monotonic())
        self._changed.set()

    def add_event(self, event: Event, raw: bytes | None = None) -> None:
        """Add an event that was read from a bus's log (`raw` is its JSON), or created in this process."""
        self._pending.add_event(event, raw or encode_event(event), time.monotonic())
        self._wake.set()

    async def run(self) -> None:
        """Send the alerts that no other process sends, until cancelled; then close the channels."""
        try:
            async with asyncio.TaskGroup() as group:
                for sender in self._senders:
                    group.create_task(sender.run(), name=f"sender:{sender.channel.name}")
                group.create_task(self._follow_buses(), name="follow")
                group.create_task(self._write_records(), name="records")
                while True:
                    await self._send_due_alerts()
                    self._me.set_degraded(self._describe_trouble(), part="direct")
                    await self._wait_for_work()
        finally:
            for sender in self._senders:
                await sender.channel.aclose()

    # -- follow the buses

    async def _follow_buses(self) -> None:
        """Follow the log of every bus in force, and test whether each accepts writes, until cancelled."""
        while True:
            self._changed.clear()
            works = (work(bus) for bus in self._buses for work in (self._follow_log, self._probe_writes))
            await run_until_first(self._changed.wait(), *works)

    async def _follow_log(self, bus: Bus) -> None:
        """Follow the log of a bus from its end on, until cancelled.

        Entries that were written while the bus was away are read afterwards.
        """
        follower: StreamFollower | None = None
        async for attempt in retrying(Outage(log, "fallback.log_unread", "fallback.log_read")):
            with attempt:
                if follower is None:
                    follower = StreamFollower(bus, ALERT_LOG, await read_newest_id(bus, ALERT_LOG))
                await follower.resume()
                await self._restore_open_alerts(bus)
                while True:
                    attempt.end()
                    entries, _ = await follower.read(PAGE_SIZE, BLOCK_SEC)
                    for entry in entries:
                        self._add_entry(bus, entry)

    def _add_entry(self, bus: Bus, entry: StreamEntry) -> None:
        """Add the event of an entry of a log unless it is about a service; count one that is too large.

        A log that lost its newest entries is read again from its beginning, so an event for which there is no
        delivery record any more is left out.
        """
        if entry.fields is None:
            sentinel_log.warning("log.oversized", bus=bus.name, entry=entry.id.decode(), bytes=entry.size)
            self.skipped[bus.name] += 1
            return
        raw = entry.fields.get(b"event", b"")
        if raw.startswith(_SERVICE_EVENTS):
            return
        event = parse_event(raw)
        if not isinstance(event, MalformedEvent) and time.time() - event.ts < RECORD_LIFE_SEC:
            self.add_event(event, raw)

    async def _probe_writes(self, bus: Bus) -> None:
        """A full bus, or a replica, still answers reads, so increment our canaries' counter every second."""
        while True:
            event: Event | None
            try:
                await bus.ask(
                    bus.client.execute_command("INCR", canary_key(self._me.name))  # type: ignore[no-untyped-call]  # the library's
                )
            except BusError as error:
                event = self._availability.record_refused_write(
                    bus.name, error.reason, time.monotonic(), time.time()
                )
            else:
                event = self._availability.record_write(bus.name, time.monotonic(), time.time())
            if event is not None:
                self._pending.add_own_event(event, time.monotonic())
                self._wake.set()
            await asyncio.sleep(PROBE_EVERY_SEC)

    async def _restore_open_alerts(self, bus: Bus) -> None:
        """Restore, from a bus that is reached, the alerts and outages that were left open.

        They are those of an earlier run, or of a time without this bus. Raise BusError.
        """
        buses = [BUS_FIELD + each.name for each in self._buses]
        fields = {roster_key(self._me.name): [HEALER], roster_key(HEALER): buses}
        stored = await self._records.load_open_outages(bus)
        held = await load_roster_entries(bus, fields)
        now, wall = time.monotonic(), time.time()
        for key in self._pending.restore(stored):
            if stored[key].is_own:
                self._availability.restore_outage(
                    key.removeprefix(BUS_FIELD), now - max(0.0, wall - stored[key].ts)
                )
        for key, entry in held.items():
            found, age_sec = find_open_miss(entry), wall - entry.ts
            if found is None:
                self._pending.record_up(key, entry.ts, now)
            elif age_sec < RECORD_LIFE_SEC:  # delivery records are kept no longer
                self._pending.add_event(*found, now, waited_sec=max(0.0, age_sec))
        await self._records.write_records(bus, self._pending.open_outages)
        self._wake.set()

    # -- send alerts

    async def _send_due_alerts(self) -> None:
        """Report lost buses; send each alert that is due, unless another process has sent it."""
        now, wall = time.monotonic(), time.time()
        for event in self._availability.report_lost_buses(self._bus_timeout_sec, self._grace_sec, now, wall):
            log.error("bus.unreached", bus=event.svc, reason=event.reason)
            self._pending.add_own_event(event, now)
        due = self._pending.find_due_alerts(time.monotonic())
        wanted = await asyncio.gather(*map(self._is_wanted, due))
        for alert, is_wanted in zip(due, wanted, strict=True):
            if is_wanted and self._pending.claim(alert):
                log.warning("fallback.needed", id=alert.event.id)
                self._sending[alert.event.id] = len(self._senders)
                message = build_message(alert, self._fleet, self._zone)
                for sender in self._senders:
                    sender.enqueue(alert, message)

    async def _wait_for_work(self) -> None:
        """Wait 0.5 s at most, until the next alert is due or something changed.

        If this process did not run meanwhile (SIGSTOP, a suspended machine), no bus counts as away for it.
        """
        began = time.monotonic()
        wait_sec = self._pending.seconds_to_due(began)
        await wait_until_due(self._wake, POLL_SEC if wait_sec is None else min(wait_sec, POLL_SEC))
        now = time.monotonic()
        if (stalled_sec := now - began - POLL_SEC) > STALLED_SEC:
            self._availability.note_stall(stalled_sec, now)

    async def _is_wanted(self, alert: PendingAlert) -> bool:
        """Return True if an alert is still to be sent, before it is claimed and before each attempt."""
        if alert not in self._pending:
            return False
        if await self._records.is_sent_by_others(alert.event.id):
            log.info("fallback.already_sent", id=alert.event.id)
            self._pending.drop_sent_by_others(alert)
            return False
        return True

    def _record_accepted(self, alert: PendingAlert, channel: str) -> None:
        self._pending.record_sent(alert)
        self._records.record_accepted(alert.event.id, channel)
        self._records_due.set()

    async def _write_records(self) -> None:
        """Write new records at once, and every second those that a bus did not take.

        Without them a later run would send alerts twice.
        """
        while True:
            await wait_until_due(self._records_due, RETRY_RECORDS_SEC)
            await self._records.write_missing_records(self._pending.open_outages)

    def _finish_alert(self, alert: PendingAlert) -> None:
        """Note that one sender will not try an alert any more; after the last sender, remove the alert."""
        ident = alert.event.id
        self._sending[ident] -= 1
        if not self._sending[ident]:
            del self._sending[ident]
            self._pending.remove(alert)

    def _describe_trouble(self) -> str | None:
        """Return why no channel accepts any message, as text for a beat's `detail`; None while one does."""
        troubles = [sender.trouble for sender in self._senders if sender.trouble]
        return f"no way out: {', '.join(troubles)}" if len(troubles) == len(self._senders) else None
