"""The windows that have no digest yet: which is due, what is in it, and the step that closes it.

A window is there from the first thing that falls into it until its digest is written, whoever lives or dies
meanwhile; its notes are read back from the stream. Every method may raise BusError.
"""

from dataclasses import dataclass
from typing import Final

import orjson

from marketswarm.bus.scripts import Script
from services.vexy_ai.notes import Fields, Note, read_back
from services.vexy_ai.observing import Observed, observed
from services.vexy_ai.queue import Shelf

READ_AT_MOST: Final = 5000
"""Notes of one window that are looked at; more are counted only."""
PAGE: Final = 500
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
    found = await shelf.bus.script(DUE, [shelf.keys[2]], [])
    if not found:
        return None
    fields: Fields = dict(zip(found[1::2], found[2::2], strict=True))
    return Due(found[0].decode(), fields[b"n"], observed(fields))


async def notes_in(shelf: Shelf, window: Due) -> list[Note]:
    """The notes of a window, oldest first, as far as they are still there."""
    notes: list[Note] = []
    at, last = window.observed.first, window.observed.last
    while at and len(notes) < READ_AT_MOST:
        page = await shelf.bus.ask(shelf.bus.client.xrange(shelf.key, at, last, count=PAGE))
        found = (read_back(fields, window.name) for _, fields in page)
        notes += [note for note in found if note is not None]
        at = f"({page[-1][0].decode()}" if len(page) == PAGE else ""
    return notes[:READ_AT_MOST]


async def commit(shelf: Shelf, window: Due, digest: dict[str, str] | None, *, notes: int) -> bool:
    """Write a window's digest, or close it without one; False when another did, or the window has grown."""
    flat = orjson.dumps([text for pair in digest.items() for text in pair]) if digest else b""
    return bool(await shelf.bus.script(COMMIT, shelf.keys, [window.name, window.count, notes, flat]))


async def spend(shelf: Shelf, per_hour: int) -> bool:
    """Take one request from this hour's budget, which all workers share; False when it is spent."""
    return bool(await shelf.bus.script(SPEND, [f"{shelf.key}:llm"], [per_hour]))
