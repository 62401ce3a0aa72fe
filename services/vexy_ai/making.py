"""What is made of an entry, whatever its kind: what `settle.lua` will put down. Pure but for the lexicon."""

from dataclasses import dataclass
from typing import Literal

import orjson

from services.vexy_ai.naming import Lexicon
from services.vexy_ai.notes import Fields, identity, note
from services.vexy_ai.observing import bar_in, is_history, probe_in
from services.vexy_ai.sources import Kind, Source


@dataclass(frozen=True, slots=True)
class Made:
    """What became of an entry: a note, something to observe, or nothing.

    `whose` names item, symbol or target.
    """

    entry: bytes
    what: Literal["note", "bar", "probe", "none"]
    whose: str
    rest: bytes


def make(source: Source, entry: bytes, fields: Fields, lexicon: Lexicon, wall: float) -> Made:
    """What becomes of an entry. Raises Unusable for a bar or a probe that is none; any item is one."""
    match source.kind:
        case Kind.BARS:
            symbol, kept = bar_in(fields)
            return Made(entry, "none" if is_history(fields, wall) else "bar", symbol, kept)
        case Kind.PROBES:
            return Made(entry, "probe", *probe_in(fields))
        case Kind.ITEMS:
            said = note(entry.decode(), fields, lexicon, wall)
            rest = orjson.dumps([text for pair in said.items() for text in pair])
            return Made(entry, "note", identity(source.key, entry.decode(), fields), rest)
