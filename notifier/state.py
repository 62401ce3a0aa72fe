"""Keep the dispatcher's own state: read positions, finished requests, health and addresses of channels.

Pure; kept as fields that begin with `d:` in `notifier:state`.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from marketswarm.bus.stream import is_entry_id
from marketswarm.status.channel_records import (
    CHANNELS,
    MAX_CHANNELS,
    RECORDS,
    ChannelRecord,
    encode_records,
    parse_records,
)

READ_POSITION: Final = "d:read:"
"""Prefix of the fields that hold the last log entry that was read; the bus's name follows."""
REPLAY_START: Final = "d:replay:"
"""Prefix of the fields that hold the entry after which a log is handled again; the bus's name follows."""
DONE_REQUESTS: Final = "d:asks"
BROKEN: Final = "d:broken"
PAUSES: Final = "d:pauses"
ADDRESSES: Final = "d:addresses"
OPEN_CHANNELS: Final = CHANNELS.decode()
"""The field with the open channels, for who asks whether anybody can be told; not read by the notifier."""
CHANNEL_RECORDS: Final = RECORDS.decode()
"""The field with what each channel sent and failed last."""
REQUESTS_KEPT: Final = 200
"""How many finished requests are remembered."""
PAUSE_AT_MOST_SEC: Final = 3600.0
"""No restored pause is longer than this, even if the clock was set back; in seconds."""


class NotifierState:
    """The dispatcher's own state, and which of its fields changed."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self._pauses: dict[str, tuple[int, float]] = {}
        self._addresses: dict[str, str] | None = None
        self._channels: dict[str, str] | None = None  # None: not stored yet by this run
        self.records: dict[str, ChannelRecord] = {}
        self._done_requests: dict[str, None] = {}
        self.read_positions: dict[str, bytes] = {}
        """By bus, the id of the last log entry that was read."""
        self._replays: set[str] = set()  # the buses whose logs are to be handled again
        self._changed: dict[str, bytes | None] = {}

    def restore(self, fields: Mapping[str, bytes]) -> list[str]:
        """Restore what `changes` returned in an earlier run; return the fields that can't be parsed."""
        self.read_positions |= parse_positions(fields, READ_POSITION)
        self._replays |= parse_positions(fields, REPLAY_START).keys()
        positions = (name for name in fields if name.startswith((READ_POSITION, REPLAY_START)))
        unusable = [name for name in positions if not is_entry_id(fields[name])]
        found: dict[str, Any] = {}
        for name, kind in (DONE_REQUESTS, list), (BROKEN, dict), (PAUSES, dict), (ADDRESSES, dict):
            found[name] = _parse_json(fields[name]) if name in fields else None
            if not isinstance(found[name], kind):
                found[name] = None
                unusable += [name] if name in fields else []
        self._done_requests = dict.fromkeys(map(str, found[DONE_REQUESTS] or ()))
        self.broken = {name: str(why) for name, why in (found[BROKEN] or {}).items()}
        for name, pause in (found[PAUSES] or {}).items():
            if isinstance(pause, list) and [*map(type, pause)] in ([int, float], [int, int]):
                self._pauses[name] = max(0, pause[0]), float(pause[1])
        if found[ADDRESSES] is not None:
            self._addresses = {name: str(each) for name, each in found[ADDRESSES].items()}
        records = parse_records(fields.get(CHANNEL_RECORDS))
        self.records = records or {}
        unusable += [CHANNEL_RECORDS] if records is None and CHANNEL_RECORDS in fields else []
        return unusable

    def record_addresses(self, digests: Mapping[str, str]) -> set[str]:
        """Record the addresses that the truth names; return the channels whose address is new.

        `digests` are by channel. If none were recorded before, the notifier was just set up, and none is new.
        """
        before, self._addresses = self._addresses, dict(digests)
        if before != self._addresses:
            self._changed[ADDRESSES] = orjson.dumps(self._addresses)
        known = set(digests.values() if before is None else before.values())
        return {name for name, digest in digests.items() if digest not in known}

    def record_channels(self, places: Mapping[str, str]) -> None:
        """Record which channels are open: by name, the host that each talks to.

        What others sent is forgotten.
        """
        if self.records.keys() - places.keys():
            self.records = {name: each for name, each in self.records.items() if name in places}
            self._changed[CHANNEL_RECORDS] = encode_records(self.records)
        if self._channels != places:
            self._channels = dict(places)
            self._changed[OPEN_CHANNELS] = orjson.dumps(self._channels)

    def record_attempt(
        self, channel: str, title: str, at: float, refusal: str | None, *, is_final: bool
    ) -> None:
        """Record that a channel accepted a message at `at` (epoch seconds), or `refusal`: why it did not."""
        known = self.records.get(channel, ChannelRecord())
        if refusal is None:
            known = known.add_sent(title, at)
        else:
            known = known.add_failure(title, at, refusal, is_final=is_final)
        if channel in self.records or len(self.records) < MAX_CHANNELS:
            self.records[channel] = known
            self._changed[CHANNEL_RECORDS] = encode_records(self.records)

    def set_read_positions(self, last: Mapping[str, bytes]) -> None:
        for bus, entry in last.items():
            if self.read_positions.get(bus) != entry:
                self.read_positions[bus] = self._changed[READ_POSITION + bus] = entry

    def end_replay(self, bus: str) -> None:
        """Record that a bus's log was handled again, as far as that was due after a merge of two states."""
        if bus in self._replays:
            self._replays.remove(bus)
            self._changed[REPLAY_START + bus] = None

    def is_done(self, request_id: str) -> bool:
        return request_id in self._done_requests

    def mark_done(self, request_id: str) -> None:
        self._done_requests[request_id] = None
        for old in list(self._done_requests)[:-REQUESTS_KEPT]:
            del self._done_requests[old]
        self._changed[DONE_REQUESTS] = orjson.dumps(list(self._done_requests))

    def mark_broken(self, channel: str, reason: str) -> bool:
        """Record that a channel refuses all messages; return True if that is new."""
        news = channel not in self.broken
        if self.broken.get(channel) != reason:
            self.broken[channel] = reason
            self._changed[BROKEN] = orjson.dumps(self.broken)
        return news

    def channels(self) -> set[str]:
        return self.broken.keys() | self._pauses.keys()

    def mark_mended(self, channel: str) -> bool:
        """Record that a channel accepts messages or is gone; return True if it was broken."""
        if self.broken.pop(channel, None) is None:
            return False
        self._changed[BROKEN] = orjson.dumps(self.broken)
        return True

    def set_pause(self, channel: str, failures: int, until: float) -> None:
        self._pauses[channel] = failures, round(until, 3)
        self._changed[PAUSES] = orjson.dumps(self._pauses)

    def clear_pause(self, channel: str) -> None:
        if self._pauses.pop(channel, None) is not None:
            self._changed[PAUSES] = orjson.dumps(self._pauses)

    def shift_times(self, by_sec: float) -> None:
        """Move the ends of the pauses and the times of the records by `by_sec`: the clock was set by that."""
        if self.records:
            self.records = {name: each.shift_by(by_sec) for name, each in self.records.items()}
            self._changed[CHANNEL_RECORDS] = encode_records(self.records)
        for name, (failures, until) in list(self._pauses.items()):
            self.set_pause(name, failures, until + by_sec)

    def pause(self, channel: str, now: float) -> tuple[int, float]:
        """Return a channel's number of failures in a row, and the seconds left of its pause at `now`."""
        failures, until = self._pauses.get(channel, (0, 0.0))
        return failures, min(max(0.0, until - now), PAUSE_AT_MOST_SEC)

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        changed, self._changed = self._changed, {}
        return changed


def parse_positions(fields: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    """Return by bus the ids of entries in the fields with this prefix; leave out what is not an id."""
    named = ((name, raw) for name, raw in fields.items() if name.startswith(prefix))
    return {name.removeprefix(prefix): raw for name, raw in named if is_entry_id(raw)}


def _parse_json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
