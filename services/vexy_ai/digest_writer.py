"""Write the digest of each window that has ended; only the instance that holds the lease writes.

A window exists from its first record until its digest is written, even if the instances end meanwhile; its
notes are read back from the stream. Every function may raise BusError.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from marketswarm.agent import Agent
from marketswarm.agent.loops import lead
from marketswarm.bus.outage import Outage
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import report_unusable
from marketswarm.bus.stream import read_entries_between
from marketswarm.keys import own_lease_key
from services.vexy_ai.digest import (
    Digest,
    Story,
    SummaryResult,
    add_summaries,
    group_similar,
    make_story,
    rank_stories,
)
from services.vexy_ai.metrics import VexyMetrics
from services.vexy_ai.note_store import NoteStore
from services.vexy_ai.notes import Fields, Note, parse_note
from services.vexy_ai.records import WindowContent, parse_window
from services.vexy_ai.settings import NoteSettings, VexyEnvironment, VexySettings, notes_point

if TYPE_CHECKING:
    from services.vexy_ai.llm import Summarizer

MAX_NOTES: Final = 5000
"""Notes of one window that are read; more are only counted."""
PAGE_SIZE: Final = 500
MAX_FIELDS: Final = 100_000
"""Fields of all windows: workers store `WINDOW_FIELDS` observations at most, and a few more a window."""
MAX_FIELD_BYTES: Final = 4096
"""Bytes of one field; an observation has a few hundred."""
POLL_SEC: Final = 2.0
LEASE: Final = "digest"
_FORMER_LEASE: Final = "vexy_ai:digest"
NEXT_WINDOW: Final = Script.beside("services.vexy_ai", "next_window.lua")
COMMIT: Final = Script.beside("services.vexy_ai", "commit.lua")


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """Hold a window that has ended; `name` is `begins-ends` in epoch seconds.

    `count` is the stored number of its notes, which changes if the window grows.
    """

    name: str
    count: bytes
    content: WindowContent


async def next_due_window(store: NoteStore) -> ClosedWindow | None:
    """Return the one that ended first; delete and report fields that no worker can have written."""
    key = store.keys[2]
    found = await store.bus.script(NEXT_WINDOW, [key], [MAX_FIELDS, MAX_FIELD_BYTES])
    if not found:
        return None
    name, removed, *flat = found
    for field in removed:
        report_unusable(store.bus.name, key, field.decode("utf-8", "replace"))
    if not name:
        return None
    fields: Fields = dict(zip(flat[::2], flat[1::2], strict=True))
    window = ClosedWindow(name.decode(), fields[b"n"], parse_window(fields))
    if window.content.notes and not window.content.first:
        report_unusable(store.bus.name, key, f"{window.name} first, last")
    return window


async def load_notes(store: NoteStore, window: ClosedWindow) -> list[Note]:
    """Return at most MAX_NOTES notes of a window, oldest first; leave out trimmed and too large ones."""
    notes: list[Note] = []
    at, last = window.content.first, window.content.last
    while at and len(notes) < MAX_NOTES:
        page = await read_entries_between(store.bus, store.key, at, last, count=PAGE_SIZE)
        for entry in page:
            if entry.fields is None:
                report_unusable(store.bus.name, store.key, f"{entry.id.decode()}: {entry.size} bytes")
            elif (note := parse_note(entry.fields, window.name)) is not None:
                notes.append(note)
        at = f"({page[-1].id.decode()}" if page else ""
    return notes[:MAX_NOTES]


async def commit_digest(
    store: NoteStore, window: ClosedWindow, digest: dict[str, str] | None, *, notes: int
) -> bool:
    """Write the digest of a window and delete the window; if `digest` is None, only delete the window.

    `notes` is about how many entries the stream of notes keeps. Return False, with nothing written, if
    another instance was first or the window has grown since it was read.
    """
    flat = orjson.dumps([text for pair in digest.items() for text in pair]) if digest else b""
    args: list[str | bytes | float] = [window.name, window.count, await store.compute_length(notes), flat]
    return bool(await store.bus.script(COMMIT, store.keys, args))


class DigestWriter:
    """Write the digests while this process holds the lease; several compete for it."""

    def __init__(
        self, me: Agent[VexyEnvironment], settings_now: Callable[[], VexySettings], metrics: VexyMetrics
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self._summarizer: Summarizer | None = None

    async def run(self) -> None:
        outage = Outage(self._me.log, "digest.waiting", "digest.resumed", degrade=self._set_degraded)
        try:
            await lead(
                self._me,
                LEASE,
                lambda _lease: self._write_until_moved(outage),
                outage,
                former=_FORMER_LEASE,
                get_bus=self._find_bus,
            )
        finally:
            if self._summarizer is not None:
                await self._summarizer.aclose()

    def _set_degraded(self, problem: str | None) -> None:
        # the part of the lease; while this process waits for it, the lease reports whether the bus answers
        self._me.set_degraded(problem and f"no digest: {problem}", part=own_lease_key(self._me.name, LEASE))

    def _find_bus(self) -> str:
        return notes_point(self._me.section).bus

    async def _write_until_moved(self, outage: Outage) -> None:
        """Write digests until the truth places the notes on another bus. Raises BusError."""
        bus, store = self._find_bus(), None
        while self._find_bus() == bus:
            point = notes_point(self._me.section)
            found = NoteStore(self._me.bus(point.bus), point.key)
            store = store if store == found else found
            window = await next_due_window(store)
            if window is None:
                await asyncio.sleep(POLL_SEC)
            else:
                await self._write(store, window)
            outage.end()

    async def _write(self, store: NoteStore, window: ClosedWindow) -> None:
        """Write the digest of a window, with summaries; delete a window that has nothing to report."""
        settings = self._settings_now().settings
        if not window.content:
            await commit_digest(store, window, None, notes=settings.notes)
            return
        notes = await load_notes(store, window)
        groups = await asyncio.to_thread(group_similar, [note.title for note in notes], settings.similar)
        stories = [make_story([notes[at] for at in group]) for group in groups]
        shown = rank_stories(stories, settings.stories)
        summaries, result = await self._summarize(store, settings, shown)
        shown = add_summaries(shown, summaries)
        digest = Digest(window.name, window.content, notes, shown, len(stories), result)
        fields = digest.fields(time.time())
        if await commit_digest(store, window, fields, notes=settings.notes):
            self._metrics.count_digest(result)
            self._me.log.info(
                "digest.written", window=window.name, items=window.content.notes, stories=len(stories)
            )

    async def _summarize(
        self, store: NoteStore, settings: NoteSettings, stories: Sequence[Story]
    ) -> tuple[list[str | None], SummaryResult | None]:
        """Return a summary or None for each of the first stories, and the result; None without a model."""
        url, key = self._me.settings.vexy_llm_url, self._me.settings.vexy_llm_key
        if url is None or not stories:
            return [], None
        if self._summarizer is None:
            from services.vexy_ai.llm import Summarizer  # noqa: PLC0415 - heavy, and most have no model

            self._summarizer = Summarizer(url, key, self._metrics, self._me.log)
        return await self._summarizer.summarize(stories, store, settings.llm)
