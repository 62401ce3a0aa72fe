"""The windows that have no digest yet: which is due, what is in it, and the step that closes it.

A window is there from the first thing that falls into it until its digest is written, whoever lives or dies
meanwhile; its notes are read back from the stream. Every method may raise BusError.

Beside the work: writes the digest of each window that is over. One worker of all does, while it lives.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from marketswarm.agent import Agent, LeaseLost
from marketswarm.bus import BusError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import report_unusable
from marketswarm.bus.stream import read_range
from services.vexy_ai.digest import Digest, Plain, Story, joined, ranked, story_of, summed_up
from services.vexy_ai.metrics import Tally
from services.vexy_ai.notes import Fields, Note, read_back
from services.vexy_ai.queue import Shelf
from services.vexy_ai.records import Observed, observed
from services.vexy_ai.settings import VexyEnvironment, VexySettings, WorkSettings
from services.vexy_ai.sources import notes_of

if TYPE_CHECKING:
    from services.vexy_ai.llm import Summaries


READ_AT_MOST: Final = 5000
"""Notes of one window that are looked at; more are counted only."""
PAGE: Final = 500
FIELDS_AT_MOST: Final = 100_000
"""Of all windows: a worker keeps `WINDOW_FIELDS` observations, and a few fields besides for each window."""
FIELD_BYTES: Final = 4096
"""An observation has a few hundred bytes."""
DUE: Final = Script.beside("services.vexy_ai", "due.lua")
COMMIT: Final = Script.beside("services.vexy_ai", "commit.lua")


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


LOOK_EVERY_SEC: Final = 1.0
AGAIN_SEC: Final = 1.0
LEASE: Final = "vexy_ai:digest"


class Digesting:
    """The digests of one process."""

    def __init__(self, me: Agent[VexyEnvironment], own: Callable[[], VexySettings], tally: Tally) -> None:
        self._me, self._own, self._tally = me, own, tally
        self._summaries: Summaries | None = None

    async def run(self) -> None:
        """Write digests until cancelled."""
        try:
            while True:
                try:
                    await self._lead(notes_of(self._me.section).bus)
                except LeaseLost:
                    continue
                except BusError as error:
                    self._me.ail("digests", f"no digest: {error.bus} {error.reason}")
                    await asyncio.sleep(AGAIN_SEC)
        finally:
            if self._summaries is not None:
                await self._summaries.aclose()

    async def _lead(self, bus: str) -> None:
        """Be the one who writes, while the notes are on that bus. Who does not lead has no trouble."""
        self._me.ail("digests", None)
        async with self._me.lease(LEASE, bus=bus):
            while notes_of(self._me.section).bus == bus:
                await self._look()
                self._me.ail("digests", None)

    async def _look(self) -> None:
        shelf = self._shelf()
        window = await due(shelf)
        if window is None:
            await asyncio.sleep(LOOK_EVERY_SEC)
        else:
            await self._write(shelf, window)

    async def _write(self, shelf: Shelf, window: Due) -> None:
        """The digest of a window. Whoever dies on the way leaves the window as it was."""
        wishes = self._own().settings
        if not window.observed:
            await commit(shelf, window, None, notes=wishes.notes)
            return
        notes = await notes_in(shelf, window)
        groups = await asyncio.to_thread(joined, [note.title for note in notes], wishes.similar)
        stories = [story_of([notes[at] for at in group]) for group in groups]
        shown = ranked(stories, wishes.stories)
        summaries, plain = await self._summed_up(shelf, wishes, shown)
        told = summed_up(shown, summaries)
        said = Digest(window.name, window.observed, notes, told, len(stories), plain).fields(time.time())
        if await commit(shelf, window, said, notes=wishes.notes):
            self._tally.digested(plain)
            self._me.log.info(
                "digest.written", window=window.name, items=window.observed.notes, stories=len(stories)
            )

    async def _summed_up(
        self, shelf: Shelf, wishes: WorkSettings, stories: Sequence[Story]
    ) -> tuple[list[str | None], Plain | None]:
        url, key = self._me.settings.vexy_llm_url, self._me.settings.vexy_llm_key
        if url is None or not stories:
            return [], None
        if self._summaries is None:
            from services.vexy_ai.llm import Summaries  # noqa: PLC0415 - heavy, and most have no model

            self._summaries = Summaries(url, key, self._tally, self._me.log)
        return await self._summaries.of(stories, shelf, wishes.llm)

    def _shelf(self) -> Shelf:
        to = notes_of(self._me.section)
        return Shelf(self._me.bus(to.bus), to.key)
