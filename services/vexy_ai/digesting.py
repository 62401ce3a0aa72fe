"""Beside the work: writes the digest of each window that is over. One worker of all does, while it lives."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from marketswarm.agent import Agent, LeaseLost
from marketswarm.bus import BusError
from services.vexy_ai.digest import Digest, Plain, Story, ranked, story_of, summed_up
from services.vexy_ai.environment import VexySettings
from services.vexy_ai.queue import Shelf
from services.vexy_ai.section import Section, Wishes
from services.vexy_ai.sources import notes_of
from services.vexy_ai.tally import Tally
from services.vexy_ai.windows import Due, commit, due, notes_in

if TYPE_CHECKING:
    from services.vexy_ai.llm import Summaries

LOOK_EVERY_SEC: Final = 1.0
AGAIN_SEC: Final = 1.0
LEASE: Final = "vexy_ai:digest"


class Digesting:
    """The digests of one process."""

    def __init__(self, me: Agent[VexySettings], own: Callable[[], Section], tally: Tally) -> None:
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
        groups = await asyncio.to_thread(_joined, [note.title for note in notes], wishes.similar)
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
        self, shelf: Shelf, wishes: Wishes, stories: Sequence[Story]
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


def _joined(titles: Sequence[str], similar: float) -> list[list[int]]:
    from services.vexy_ai.stories import joined  # noqa: PLC0415 - loaded in this thread, with the first digest

    return joined(titles, similar)
