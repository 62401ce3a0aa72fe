"""Read the dead letters of archive: the entries that it refused, each with the reason.

Other programs may write there, too, so what is not a dead letter is skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final

import orjson

from marketswarm.bus import Bus
from marketswarm.bus.stream import StreamEntry, read_entries_before

_WORDS: Final = ("stream", "entry", "reason")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Hold an entry that was refused at `refused_at` (epoch seconds), with its first fields, cut."""

    stream: str
    entry: str
    reason: str
    refused_at: float
    fields: Mapping[str, str]


def parse_dead_letter(entry: StreamEntry) -> DeadLetter | None:
    text = {name.decode("utf-8", "replace"): raw for name, raw in (entry.fields or {}).items()}
    try:
        fields, refused_at = orjson.loads(text["fields"]), float(text["ts"])
        stream, ident, reason = (text[name].decode("utf-8", "replace") for name in _WORDS)
        is_letter = isinstance(fields, dict) and all(isinstance(value, str) for value in fields.values())
        if not is_letter or not isfinite(refused_at):
            return None
        return DeadLetter(stream, ident, reason, refused_at, fields)
    except (KeyError, ValueError):
        return None


async def read_dead_letters(bus: Bus, key: str, count: int) -> list[DeadLetter]:
    """Return up to `count` dead letters, the newest first. Raises BusError."""
    found: list[DeadLetter] = []
    before = b"+"
    while len(found) < count and (page := await read_entries_before(bus, key, before, count=count)):
        found += filter(None, map(parse_dead_letter, page))
        before = b"(" + page[-1].id
    return found[:count]
