"""What the desk itself must not forget: how far logs were read, which asks are done, how channels fare.

Pure; kept as fields of the state, like the rest.
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
"""A clock that was set back makes no pause longer than any receiver is granted."""


class Memo:
    """The fields, and which of them changed."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self._pauses: dict[str, tuple[int, float]] = {}
        self._addresses: dict[str, str] | None = None
        self._asks: dict[str, None] = {}
        self._read: dict[str, bytes] = {}
        self._changed: dict[str, bytes | None] = {}

    def restore(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """Takes up what `changes` gave before; how far each bus was read."""
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

    def new_addresses(self, digests: Mapping[str, str]) -> set[str]:
        """Take note of the addresses that the truth names, by channel; the channels whose address is new.

        None is new to a notifier that has noted none so far: it has just been set up.
        """
        before, self._addresses = self._addresses, dict(digests)
        if before != self._addresses:
            self._changed[ADDRESSES] = orjson.dumps(self._addresses)
        known = set(digests.values() if before is None else before.values())
        return {name for name, digest in digests.items() if digest not in known}

    def read(self, last: Mapping[str, bytes]) -> None:
        """So far was each bus read."""
        for bus, entry in last.items():
            if self._read.get(bus) != entry:
                self._read[bus] = self._changed[READ + bus] = entry

    def did(self, ask: str) -> bool:
        """Whether an ask is done."""
        return ask in self._asks

    def does(self, ask: str) -> None:
        """An ask is done from now on."""
        self._asks[ask] = None
        for old in list(self._asks)[:-ASKS_KEPT]:
            del self._asks[old]
        self._changed[ASKS] = orjson.dumps(list(self._asks))

    def breaks(self, channel: str, reason: str) -> bool:
        """A channel refuses for good; whether that is news."""
        news = channel not in self.broken
        if self.broken.get(channel) != reason:
            self.broken[channel] = reason
            self._changed[BROKEN] = orjson.dumps(self.broken)
        return news

    def channels(self) -> set[str]:
        """Those of which anything is kept."""
        return self.broken.keys() | self._pauses.keys()

    def mends(self, channel: str) -> bool:
        """A channel takes messages, or is gone; whether it was broken."""
        if self.broken.pop(channel, None) is None:
            return False
        self._changed[BROKEN] = orjson.dumps(self.broken)
        return True

    def pauses(self, channel: str, failures: int, until: float) -> None:
        """A channel failed so many times in a row, and is left alone until then, in epoch seconds."""
        self._pauses[channel] = failures, round(until, 3)
        self._changed[PAUSES] = orjson.dumps(self._pauses)

    def resumes(self, channel: str) -> None:
        """A channel took a message, refuses for good, or is gone: it has no pause to keep."""
        if self._pauses.pop(channel, None) is not None:
            self._changed[PAUSES] = orjson.dumps(self._pauses)

    def pause(self, channel: str, now: float) -> tuple[int, float]:
        """A channel's failures in a row, and the seconds left of its pause at `now` (epoch seconds)."""
        failures, until = self._pauses.get(channel, (0, 0.0))
        return failures, min(max(0.0, until - now), PAUSE_AT_MOST_SEC)

    def changes(self) -> dict[str, bytes | None]:
        """The fields that changed since this was last asked."""
        changed, self._changed = self._changed, {}
        return changed


def unreadable(fields: Mapping[str, bytes]) -> list[str]:
    """Return the fields of a memo that can't be what `changes` gave."""
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
