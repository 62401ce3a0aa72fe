"""The work on all buses at once: a worker for each that the truth names, and what they suffer from.

A worker whose bus is away tries again; the others work on meanwhile.
"""

from collections.abc import Callable, Mapping
from typing import Final

from marketswarm.agent import Agent
from marketswarm.bus import BusError
from services.vexy_ai.environment import VexySettings
from services.vexy_ai.pace import Backlog
from services.vexy_ai.section import Section
from services.vexy_ai.sources import sources_of
from services.vexy_ai.tally import Tally
from services.vexy_ai.worker import Worker

AGAIN_SEC: Final = 1.0


class Working:
    """The workers of one process."""

    def __init__(self, me: Agent[VexySettings], own: Callable[[], Section], tally: Tally) -> None:
        self._me, self._own, self._tally = me, own, tally
        self._workers: dict[str, Worker] = {}
        self._failing: dict[str, BusError] = {}  # by the bus of the worker; the one that fails may be another

    def follow(self) -> None:
        """Start a worker on each bus that the truth in force names streams on, and that has none."""
        for bus in self._buses() - self._workers.keys():
            self._workers[bus] = worker = Worker(self._me, bus, self._tally)
            self._me.task(self._work(worker), name=f"work {bus}")

    @property
    def backlogs(self) -> Mapping[str, Backlog]:
        """What waits in each stream, as it was last seen."""
        several = [worker.backlogs for worker in self._workers.values()]
        return {source.key: backlog for one in several for source, backlog in one.items()}

    def trouble(self) -> str | None:
        """Which buses fail and how, in a few words; None when none does."""
        return "; ".join(dict.fromkeys(map(_said, self._failing.values()))) or None

    def _buses(self) -> set[str]:
        return {source.bus for source in sources_of(self._me.section.access_points.subscribe_to)}

    async def _work(self, worker: Worker) -> None:
        """Work until the truth names no stream on that bus any more."""
        try:
            while worker.bus in self._buses():
                try:
                    await worker.turn(self._own().settings)
                except BusError as error:
                    self._failed(worker, error)
                    worker.reopen()
                    await self._me.rest(AGAIN_SEC)
                else:
                    self._failing.pop(worker.bus, None)
        finally:
            try:
                await worker.close()
            finally:
                self._failing.pop(worker.bus, None)
                del self._workers[worker.bus]  # now another may begin, who is the same consumer

    def _failed(self, worker: Worker, error: BusError) -> None:
        before = self._failing.get(worker.bus)
        if before is None or _said(before) != _said(error):  # once, until it has worked again
            self._me.log.warning("items.unread", bus=error.bus, reason=error.reason)
        self._failing[worker.bus] = error


def _said(error: BusError) -> str:
    return f"{error.bus} {error.reason}"
