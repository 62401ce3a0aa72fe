"""Keep the dispatcher's own state: read positions, finished requests, health and addresses of channels.

Pure; kept as fields that begin with `d:` in `notifier:state`.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

READ: Final = "d:read:"
ASKS: Final = "d:asks"
BROKEN: Final = "d:broken"
PAUSES: Final = "d:pauses"
ADDRESSES: Final = "d:addresses"
ASKS_KEPT: Final = 200
PAUSE_AT_MOST_SEC: Final = 3600.0
"""No restored pause is longer than this, even if the clock was set back; in seconds."""


class NotifierState:
    """The values, and which fields of the state changed."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self._pauses: dict[str, tuple[int, float]] = {}
        self._addresses: dict[str, str] | None = None
        self._asks: dict[str, None] = {}
        self._read: dict[str, bytes] = {}
        self._changed: dict[str, bytes | None] = {}

    def restore(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """Restore what `changes` returned in an earlier run; return the read position by bus."""
        for name, raw in fields.items():
            if name.startswith(READ) and _is_entry(raw):
                self._read[name.removeprefix(READ)] = raw
        self._asks = dict.fromkeys(map(str, _list(fields.get(ASKS, b"[]"))))
        found = _value(fields.get(BROKEN, b"{}"))
        self.broken = {name: str(why) for name, why in found.items()} if isinstance(found, dict) else {}
        pauses = _value(fields.get(PAUSES, b"{}"))
        for name, pause in pauses.items() if isinstance(pauses, dict) else ():
            if isinstance(pause, list) and [*map(type, pause)] in ([int, float], [int, int]):
                self._pauses[name] = max(0, pause[0]), float(pause[1])
        known = _value(fields.get(ADDRESSES, b"null"))
        self._addresses = (
            {name: str(each) for name, each in known.items()} if isinstance(known, dict) else None
        )
        return dict(self._read)

    def record_addresses(self, digests: Mapping[str, str]) -> set[str]:
        """Record the addresses that the truth names; return the channels whose address is new.

        `digests` are by channel. No address is new to a notifier that has none recorded: it was just set
        up.
        """
        before, self._addresses = self._addresses, dict(digests)
        if before != self._addresses:
            self._changed[ADDRESSES] = orjson.dumps(self._addresses)
        known = set(digests.values() if before is None else before.values())
        return {name for name, digest in digests.items() if digest not in known}

    def set_read_positions(self, last: Mapping[str, bytes]) -> None:
        """Record the last log entry that was read on each bus."""
        for bus, entry in last.items():
            if self._read.get(bus) != entry:
                self._read[bus] = self._changed[READ + bus] = entry

    def is_done(self, ask: str) -> bool:
        """Return True if a request was handled already."""
        return ask in self._asks

    def mark_done(self, ask: str) -> None:
        """Record that a request is handled."""
        self._asks[ask] = None
        for old in list(self._asks)[:-ASKS_KEPT]:
            del self._asks[old]
        self._changed[ASKS] = orjson.dumps(list(self._asks))

    def mark_broken(self, channel: str, reason: str) -> bool:
        """Record that a channel refuses all messages; return True if that is new."""
        news = channel not in self.broken
        if self.broken.get(channel) != reason:
            self.broken[channel] = reason
            self._changed[BROKEN] = orjson.dumps(self.broken)
        return news

    def channels(self) -> set[str]:
        """Return the channels that are broken or paused."""
        return self.broken.keys() | self._pauses.keys()

    def mark_mended(self, channel: str) -> bool:
        """Record that a channel accepts messages or is gone; return True if it was broken."""
        if self.broken.pop(channel, None) is None:
            return False
        self._changed[BROKEN] = orjson.dumps(self.broken)
        return True

    def set_pause(self, channel: str, failures: int, until: float) -> None:
        """Record a channel's failures in a row, and until when it is paused (epoch seconds)."""
        self._pauses[channel] = failures, round(until, 3)
        self._changed[PAUSES] = orjson.dumps(self._pauses)

    def clear_pause(self, channel: str) -> None:
        """Forget the pause of a channel that accepted a message, is broken, or is gone."""
        if self._pauses.pop(channel, None) is not None:
            self._changed[PAUSES] = orjson.dumps(self._pauses)

    def pause(self, channel: str, now: float) -> tuple[int, float]:
        """Return a channel's failures in a row and the rest of its pause at `now` (epoch seconds)."""
        failures, until = self._pauses.get(channel, (0, 0.0))
        return failures, min(max(0.0, until - now), PAUSE_AT_MOST_SEC)

    def changes(self) -> dict[str, bytes | None]:
        """Return the fields that changed since the last call; None for deleted ones."""
        changed, self._changed = self._changed, {}
        return changed


def unreadable(fields: Mapping[str, bytes]) -> list[str]:
    """Return the names of the state's fields that can't be parsed."""
    kinds = {ASKS: list, BROKEN: dict, PAUSES: dict, ADDRESSES: dict}
    found = [name for name, raw in fields.items() if name.startswith(READ) and not _is_entry(raw)]
    return found + [
        name for name, kind in kinds.items() if name in fields and not isinstance(_value(fields[name]), kind)
    ]


def _is_entry(raw: bytes) -> bool:
    ms, _, seq = raw.partition(b"-")
    return ms.isdigit() and seq.isdigit() and len(raw) < 42


def _list(raw: bytes) -> list[Any]:
    found = _value(raw)
    return found if isinstance(found, list) else []


def _value(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
