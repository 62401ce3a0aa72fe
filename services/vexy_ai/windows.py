"""The windows that have no digest yet: which is due, what is in it, and the step that closes it.

A window is there from the first thing that falls into it until its digest is written, whoever lives or dies
meanwhile; its notes are read back from the stream. Every method may raise BusError.
"""

from dataclasses import dataclass
from typing import Final

import orjson

from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import report_unusable
from marketswarm.bus.stream import read_range
from services.vexy_ai.notes import Fields, Note, read_back
from services.vexy_ai.observing import Observed, observed
from services.vexy_ai.queue import Shelf

READ_AT_MOST: Final = 5000
"""Notes of one window that are looked at; more are counted only."""
PAGE: Final = 500
FIELDS_AT_MOST: Final = 100_000
"""Of all windows: a worker keeps `WINDOW_FIELDS` observations, and a few fields besides for each window."""
FIELD_BYTES: Final = 4096
"""An observation has a few hundred bytes."""
DUE: Final = Script.beside("services.vexy_ai", "due.lua")
COMMIT: Final = Script.beside("services.vexy_ai", "commit.lua")
SPEND: Final = Script.beside("services.vexy_ai", "spend.lua")


@dataclass(frozen=True, slots=True)
class Due:
    """A window that is over. `name` is `begins-ends` in epoch seconds."""

    name: str
    count: bytes
    observed: Observed


async def due(shelf: Shelf) -> Due | None:
    """The window that ended first and has no digest."""
    key = shelf.keys[2]
    found = await shelf.bus.script(DUE, [key], [FIELDS_AT_MOST, FIELD_BYTES])
    if not found:
        return None
    name, removed, *flat = found
    for field in removed:
        report_unusable(shelf.bus.name, key, field.decode("utf-8", "replace"))
    if not name:
        return None
    fields: Fields = dict(zip(flat[::2], flat[1::2], strict=True))
    window = Due(name.decode(), fields[b"n"], observed(fields))
    if window.observed.notes and not window.observed.first:
        report_unusable(shelf.bus.name, key, f"{window.name} first, last")
    return window


async def notes_in(shelf: Shelf, window: Due) -> list[Note]:
    """The notes of a window, oldest first, as far as they are still there and of a size that notes have."""
    notes: list[Note] = []
    at, last = window.observed.first, window.observed.last
    while at and len(notes) < READ_AT_MOST:
        page = await read_range(shelf.bus, shelf.key, at, last, count=PAGE)
        for entry in page:
            if entry.fields is None:
                report_unusable(shelf.bus.name, shelf.key, f"{entry.id.decode()}: {entry.size} bytes")
            elif (note := read_back(entry.fields, window.name)) is not None:
                notes.append(note)
        at = f"({page[-1].id.decode()}" if page else ""
    return notes[:READ_AT_MOST]


async def commit(shelf: Shelf, window: Due, digest: dict[str, str] | None, *, notes: int) -> bool:
    """Write a window's digest, or close it without one; False when another did, or the window has grown."""
    flat = orjson.dumps([text for pair in digest.items() for text in pair]) if digest else b""
    return bool(await shelf.bus.script(COMMIT, shelf.keys, [window.name, window.count, notes, flat]))


async def spend(shelf: Shelf, per_hour: int) -> bool:
    """Take one request from this hour's budget, which all workers share; False when it is spent."""
    return bool(await shelf.bus.script(SPEND, [f"{shelf.key}:llm"], [per_hour]))
