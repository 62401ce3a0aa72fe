"""The loop that all of a vigil is for: it looks at the clocks, asks the second witness, and concludes.

What follows from what it sees is `liveness`; where a verdict goes is its owner's business.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import BusError
from marketswarm.bus.listener import moment
from marketswarm.detector import Suspect, UnheardBeat, Verdict
from marketswarm.monitor.hearing import Hearing
from marketswarm.monitor.post import Post
from marketswarm.monitor.testify import Answer, read_last_beats
from marketswarm.time_slice import Turns

IN_FLIGHT_SEC: Final = 0.25
"""A beat that the second witness knows for less may still be on its way: no reason for a new session."""

log = logs.get("vigil")


class Judging:
    """Judges what one ear hears.

    Args:
        ear: what hears.
        posts: the buses by their names, as they are at any time.
        poked: set when something is due that was just proven, or who is watched has changed.
        progress: called whenever the clocks were looked at.
        conclude: called with each verdict.
    """

    def __init__(
        self,
        ear: Hearing,
        posts: Mapping[str, Post],
        poked: asyncio.Event,
        *,
        progress: Callable[[], None],
        conclude: Callable[[Verdict], None],
    ) -> None:
        self._ear = ear
        self._detector = ear.detector
        self._posts = posts
        self._poked = poked
        self._progress = progress
        self._conclude = conclude
        self.looks = 0
        """How often the clocks were looked at: while it grows, detection works."""

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Judges until cancelled; the second witness is asked in tasks of `group`."""
        while True:
            tick = self._detector.tick(moment())
            self.looks += 1
            self._progress()
            turns = Turns()
            for verdict in tick.verdicts:
                self._conclude(verdict)
                if verdict.gap_sec is not None:  # there may be one of each service
                    await turns.pause()
            for name in tick.canaries_wanted:
                self._posts[name].urge()
            for bus, services in _by_bus(tick.suspects).items():
                group.create_task(self._ask_witness(bus, services), name=f"witness:{bus}")
            self._ear.complain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tick.wake_in):
                    await self._poked.wait()
            self._poked.clear()

    async def _ask_witness(self, name: str, services: list[str]) -> None:
        """Asks `beat:<svc>` of each suspect before it is declared down."""
        records = self._detector.services
        timeouts = {svc: records[svc].watch.timeout_sec for svc in services if svc in records}
        turns, acquitted = Turns(), None
        open_cases = dict.fromkeys(services)
        with contextlib.suppress(BusError, KeyError):
            async for answer in read_last_beats(self._posts[name].bus, timeouts):
                self._complain_of(name, answer)
                for svc in answer.asked:
                    await turns.pause()
                    del open_cases[svc]
                    verdict = self._detector.judge_suspect(svc, answer.found.get(svc), moment())
                    if isinstance(verdict, Verdict):
                        self._conclude(verdict)
                    elif verdict is not None:
                        acquitted = verdict
        for svc in open_cases:
            self._detector.retry_suspect(svc)
        if len(open_cases) < len(services):
            self._poked.set()
        if acquitted is not None:
            self.mistrust_self(acquitted)

    def _complain_of(self, bus: str, answer: Answer) -> None:
        """Log, once for many, that a service's last beat can't be read."""
        if not answer.unreadable:
            return
        self._detector.counts.unreadable += len(answer.unreadable)
        svc, found = next(iter(answer.unreadable.items()))
        log.warning(
            "vigil.last_beat_unreadable",
            bus=bus,
            svc=svc,
            reason=found.reason,
            count=len(answer.unreadable),
            total=self._detector.counts.unreadable,
        )

    def mistrust_self(self, acquitted: UnheardBeat) -> None:
        """A service beats and is not heard: the fault is ours, and a new session may mend it."""
        if acquitted.age_sec < IN_FLIGHT_SEC and not acquitted.is_repeated:
            return
        log.error("vigil.deaf", svc=acquitted.svc, bus=acquitted.bus, age_sec=round(acquitted.age_sec, 3))
        post = self._posts.get(acquitted.bus)
        if post is not None:
            post.rebuild()


def _by_bus(suspects: Sequence[Suspect]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for suspect in suspects:
        found.setdefault(suspect.bus, []).append(suspect.svc)
    return found
