"""What the desk itself must not forget: how far logs were read, which asks are done, which channels broke.

Pure; kept as fields of the state, like the rest.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

READ: Final = "d:read:"
ASKS: Final = "d:asks"
BROKEN: Final = "d:broken"
ASKS_KEPT: Final = 200


class Memo:
    """The fields, and which of them changed."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
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
        return dict(self._read)

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

    def mends(self, channel: str) -> bool:
        """A channel takes messages, or is gone; whether it was broken."""
        if self.broken.pop(channel, None) is None:
            return False
        self._changed[BROKEN] = orjson.dumps(self.broken)
        return True

    def changes(self) -> dict[str, bytes | None]:
        """The fields that changed since this was last asked."""
        changed, self._changed = self._changed, {}
        return changed


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
