"""Records on the buses of delivered alerts: `notifier:told:<id>`, and the sentinel's own open outages.

`sentinel:direct` has a field for each outage that the sentinel sent to people, and whose end it must send.
Both are written to every bus; a bus that is away gets them when it is back.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError
from marketswarm.bus.outage import Outage
from marketswarm.bus.stored_values import (
    is_wrong_type,
    parse_epoch,
    parse_object,
    parse_text,
    replace_unusable,
    report_unusable,
)
from marketswarm.detector import State
from marketswarm.event import MAX_EVENT_BYTES, Event, MalformedEvent, parse_event
from marketswarm.keys import SENTINEL_DIRECT, delivery_key
from marketswarm.monitor.roster_entry import RosterEntry, parse_entry
from sentinel.pending import OpenOutage, is_outage_key

RECORD_LIFE_SEC: Final = 86_400
MAX_RECORDS: Final = 100
MAX_ID_CHARS: Final = 500
REQUEST_LIMIT_SEC: Final = 1.0

log = logs.get("direct")


class DeliveryRecords:
    """The delivery records on all buses."""

    def __init__(self, sentinel: str, buses: Callable[[], Sequence[Bus]]) -> None:
        self._sentinel = sentinel
        self._buses = buses
        self._channels: dict[str, list[str]] = {}  # by event id, the channels that accepted it from us
        self._unwritten: dict[str, dict[str, bytes]] = {}  # by bus and event id, the record to write
        self._ours: dict[str, set[str]] = {}  # by bus, the event ids whose record there is ours
        self._outage = Outage(log, "fallback.records_refused", "fallback.records_accepted")
        self._loaded_buses: set[str] = set()  # buses whose `sentinel:direct` has been read

    def __len__(self) -> int:
        return len(self._channels) + sum(map(len, self._unwritten.values()))

    async def is_sent_by_others(self, ident: str) -> bool:
        """Return True if a bus has a record that another process sent this event to people."""
        if ident in self._channels:
            return False
        found = await self._request_all_buses(
            lambda bus: bus.ask(bus.client.exists(delivery_key(ident)), REQUEST_LIMIT_SEC)
        )
        return any(found)

    def record_accepted(self, ident: str, channel: str) -> None:
        """Note a record that `write_missing_records` writes on every bus."""
        channels = self._channels.setdefault(ident, [])
        channels.append(channel)
        while len(self._channels) > MAX_RECORDS:
            self._channels.pop(next(iter(self._channels)))
        value = orjson.dumps({"ts": round(time.time(), 3), "channels": channels, "by": self._sentinel})
        for bus in self._buses():
            pending = self._unwritten.setdefault(bus.name, {})
            pending[ident] = value
            while len(pending) > MAX_RECORDS:
                pending.pop(next(iter(pending)))

    async def write_missing_records(self, open_outages: Mapping[str, OpenOutage]) -> None:
        if any(self._unwritten.values()):
            await self._request_all_buses(lambda bus: self.write_records(bus, open_outages))

    async def write_records(self, bus: Bus, open_outages: Mapping[str, OpenOutage]) -> None:
        """Write the records and open outages that a bus does not have yet. Raise BusError.

        A record of another process is not overwritten. The open outages replace those that the bus has:
        these are deleted in the same transaction.
        """
        pending = dict(self._unwritten.get(bus.name, {}))
        ours = self._ours.setdefault(bus.name, set())
        pipe = bus.pipeline(transaction=True)
        for ident, value in pending.items():
            pipe.set(delivery_key(ident), value, ex=RECORD_LIFE_SEC, nx=ident not in ours)
        if bus.name in self._loaded_buses:
            pipe.delete(SENTINEL_DIRECT)
            if open_outages:
                pipe.hset(
                    SENTINEL_DIRECT,
                    mapping={key: _encode_outage(outage) for key, outage in open_outages.items()},
                )
        replies = await bus.ask(pipe.execute(), REQUEST_LIMIT_SEC)
        ours.intersection_update(self._channels)
        ours.update(ident for ident, reply in zip(pending, replies, strict=False) if reply)
        unwritten = self._unwritten.get(bus.name, {})
        for ident, value in pending.items():
            if unwritten.get(ident) == value:
                del unwritten[ident]

    async def load_open_outages(self, bus: Bus) -> dict[str, OpenOutage]:
        """Return the open outages that a bus holds, by key. Raise BusError."""
        try:
            stored = await bus.ask(bus.client.hgetall(SENTINEL_DIRECT))
        except BusError as error:
            if not await replace_unusable(error, bus, {SENTINEL_DIRECT: "hash"}):
                raise
            stored = {}
        self._loaded_buses.add(bus.name)
        found: dict[str, OpenOutage] = {}
        for field, value in stored.items():
            key = field.decode("utf-8", "replace")
            outage = _parse_outage(value)
            if outage is None or not is_outage_key(key):
                report_unusable(bus.name, SENTINEL_DIRECT, key)
            else:
                found[key] = outage
        return found

    async def _request_all_buses(self, ask: Callable[[Bus], Awaitable[Any]]) -> list[Any]:
        """Call `ask` for every bus at once.

        Return the answers of the buses that answer, and log the others.
        """
        answers = await asyncio.gather(*map(ask, self._buses()), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, BusError):
                raise answer
            if isinstance(answer, BusError):
                self._outage.record(answer)
        taken = [answer for answer in answers if not isinstance(answer, BusError)]
        if len(taken) == len(answers):
            self._outage.end()
        return taken


async def load_roster_entries(bus: Bus, fields: Mapping[str, Sequence[str]]) -> dict[str, RosterEntry]:
    """Return the entries of a bus's rosters about the healer and the buses, by key (`bus:market-redis`).

    `fields` names the fields by roster: `{"sentinel:roster": ["healer"], "healer:roster": [...]}`. Entries
    without a usable time, and rosters that are not a hash, are left out. Raise BusError.
    """
    found: dict[str, RosterEntry] = {}
    for roster, names in fields.items():
        try:
            values = await bus.ask(bus.client.hmget(roster, list(names)))
        except BusError as error:
            if not is_wrong_type(error):
                raise
            report_unusable(bus.name, roster)  # the roster's owner will replace it
            continue
        for name, value in zip(names, values, strict=True):
            entry = None if value is None else parse_entry(bus.name, roster, name, value)
            if entry is not None and entry.ts:
                found[name if ":" in name else f"{name}:{name}"] = entry
    return found


def find_open_miss(entry: RosterEntry) -> tuple[Event, bytes] | None:
    """Return the miss in a roster's entry and its JSON; None if the entry is not down or has no event."""
    if entry.verdict is not State.DOWN or entry.event is None:
        return None
    event = parse_event(entry.event)
    return None if isinstance(event, MalformedEvent) else (event, entry.event)


def _encode_outage(outage: OpenOutage) -> bytes:
    return orjson.dumps({"id": outage.id, "ts": round(outage.ts, 3), "own": outage.is_own})


def _parse_outage(value: bytes) -> OpenOutage | None:
    found = parse_object(value, MAX_EVENT_BYTES)
    ident, ts = parse_text(found.get("id"), MAX_ID_CHARS), parse_epoch(found.get("ts"))
    return None if ident is None or ts is None else OpenOutage(ident, ts, found.get("own") is True)
