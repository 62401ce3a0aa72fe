"""The loop that all of a vigil is for: it looks at the clocks, asks the second witness, and concludes.

What follows from what it sees is `liveness`; where a verdict goes is its owner's business.

The ear of a vigil: what its listeners report, carried into `liveness`.

It adds nothing of its own but the log lines that an operator wants to see of it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.beat import Malformed
from marketswarm.bus import BusError
from marketswarm.bus.listener import moment
from marketswarm.detector import Detector, Moment, RestartObserver, Suspect, UnheardBeat, Verdict
from marketswarm.monitor.bus_link import BusLink
from marketswarm.monitor.witness import Answer, read_last_beats
from marketswarm.time_slice import TimeSlice

IN_FLIGHT_SEC: Final = 0.25
"""A beat that the second witness knows for less may still be on its way: no reason for a new session."""

log = logs.get("vigil")


NOTE_EVERY_SEC: Final = 1.0
HICCUP_SEC: Final = 2.0
NAMED_AT_MOST: Final = 5


class DetectorFeed:
    """A `SessionHandler`; see there for what each of its methods is told.

    Args:
        publish: called with each verdict that follows from what was heard.
        poke: called when something is due that a canary has just proven.
        joined: called with the name of a bus when a session on it begins.
        ended: called when a silence ended that a later run would go on with.
    """

    def __init__(
        self,
        *,
        publish: Callable[[Verdict], None],
        poke: Callable[[], None],
        joined: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self.detector = Detector(moment(), on_malformed=self._note_malformed)
        self.restarts = RestartObserver(self.detector)
        self._publish = publish
        self._poke = poke
        self._joined = joined
        self._ended = ended
        self._malformed: tuple[str, str] | None = None
        self._noted = (0, 0)  # how many malformed and replayed payloads had been noted
        self._noted_at = 0.0

    def opened(self, bus: str) -> None:
        """See `SessionHandler`."""
        watched = self.detector.buses.get(bus)
        if watched is not None:
            watched.clock.opened()
            log.info("vigil.listening", bus=bus, channels=len(watched.channels))
            self._joined(bus)

    def channels_refused(self, bus: str, channels: Collection[str], now: Moment) -> None:
        """See `SessionHandler`."""
        for verdict in self.detector.set_refused_channels(bus, channels, now):
            self._publish(verdict)

    def lost(self, bus: str, reason: str) -> None:
        """See `SessionHandler`."""
        watched = self.detector.buses.get(bus)
        if watched is not None:
            if watched.clock.in_session:
                log.warning("vigil.lost", bus=bus, reason=reason)
            watched.clock.lost(reason)

    def heard(self, bus: str, messages: Iterable[Sequence[Any]], now: Moment) -> Sequence[Sequence[Any]]:
        """See `SessionHandler`."""
        hearing = self.detector.hear(bus, messages, now)
        for verdict in hearing.verdicts:
            self._publish(verdict)
        if self.detector.has_ended_silence:
            self.detector.has_ended_silence = False
            self._ended()
        return hearing.others

    def canary_sent(self, bus: str, number: int, now: Moment) -> None:
        """See `SessionHandler`."""
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.sent(number, now.mono)

    def canary_accepted(self, bus: str, now: Moment) -> None:
        """See `SessionHandler`."""
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.accepted(now)

    def canary_refused(self, bus: str, number: int, reason: str) -> None:
        """See `SessionHandler`."""
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.refused(number, reason)

    def canary_heard(self, bus: str, number: int, now: Moment) -> None:
        """See `SessionHandler`."""
        for verdict in self.detector.hear_canary(bus, number, now):
            self._publish(verdict)
        if bus in self.detector.buses and self.detector.buses[bus].awaiting_canary:
            self._poke()

    def deaf_for(self, bus: str, now: float) -> float:
        """See `SessionHandler`."""
        return self.detector.buses[bus].clock.deaf_for(now) if bus in self.detector.buses else 0.0

    def deafness(self, now: Moment) -> str | None:
        """What can't be heard for longer than a hiccup, in words for a beat's `detail`; None when all is."""
        lost = {
            bus.name: f"{bus.name} ({bus.clock.reason})"
            for bus in self.detector.buses.values()
            if not bus.clock.listening and bus.clock.unheard_for(now.mono) > HICCUP_SEC
        }
        partly = [
            name for name, bus in self.detector.buses.items() if bus.is_poorly_heard and name not in lost
        ]
        found = [f"not hearing {', '.join(lost.values())}"] if lost else []
        found += [f"hearing {', '.join(partly)} for too little of the time"] if partly else []
        return "; ".join(found) or None

    def refusals(self) -> str | None:
        """Whom the buses do not let us hear, in words for a beat's `detail`; None when there is nobody."""
        names = [
            svc for svc, record in self.detector.services.items() if record.channel_refused_at is not None
        ]
        more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
        return f"not allowed to hear {', '.join(names[:NAMED_AT_MOST])}{more}" if names else None

    def _note_malformed(self, svc: str, found: Malformed) -> None:
        self._malformed = svc, found.reason

    def log_rejected(self) -> None:
        """Says what was no sign of life: a line a second of each kind at most, with the count."""
        counts, now = self.detector.counts, time.monotonic()
        malformed, replayed = counts.malformed - self._noted[0], counts.replayed - self._noted[1]
        if not (malformed or replayed) or now - self._noted_at < NOTE_EVERY_SEC:
            return
        if malformed and self._malformed is not None:
            svc, reason = self._malformed
            log.warning(
                "beat.malformed", last_svc=svc, last_reason=reason, count=malformed, total=counts.malformed
            )
        if replayed:
            log.warning("beat.replayed", count=replayed, total=counts.replayed)
        self._noted, self._noted_at = (counts.malformed, counts.replayed), now


class Evaluator:
    """Judges what one ear hears.

    Args:
        ear: what hears.
        posts: the buses by their names, as they are at any time.
        poked: set when something is due that was just proven, or who is watched has changed.
        progress: called whenever the clocks were looked at.
        publish: called with each verdict.
    """

    def __init__(
        self,
        ear: DetectorFeed,
        posts: Mapping[str, BusLink],
        poked: asyncio.Event,
        *,
        progress: Callable[[], None],
        publish: Callable[[Verdict], None],
    ) -> None:
        self._ear = ear
        self._detector = ear.detector
        self._posts = posts
        self._poked = poked
        self._progress = progress
        self._publish = publish
        self.evaluations = 0
        """How often the clocks were looked at: while it grows, detection works."""

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Judges until cancelled; the second witness is asked in tasks of `group`."""
        while True:
            tick = self._detector.tick(moment())
            self.evaluations += 1
            self._progress()
            time_slice = TimeSlice()
            for verdict in tick.verdicts:
                self._publish(verdict)
                if verdict.gap_sec is not None:  # there may be one of each service
                    await time_slice.pause()
            for name in tick.canaries_wanted:
                self._posts[name].urge()
            for bus, services in _by_bus(tick.suspects).items():
                group.create_task(self._ask_witness(bus, services), name=f"witness:{bus}")
            self._ear.log_rejected()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(tick.wake_in):
                    await self._poked.wait()
            self._poked.clear()

    async def _ask_witness(self, name: str, services: list[str]) -> None:
        """Asks `beat:<svc>` of each suspect before it is declared down."""
        records = self._detector.services
        timeouts = {svc: records[svc].watch.timeout_sec for svc in services if svc in records}
        time_slice, acquitted = TimeSlice(), None
        open_cases = dict.fromkeys(services)
        with contextlib.suppress(BusError, KeyError):
            async for answer in read_last_beats(self._posts[name].bus, timeouts):
                self._complain_of(name, answer)
                for svc in answer.asked:
                    await time_slice.pause()
                    del open_cases[svc]
                    verdict = self._detector.judge_suspect(svc, answer.found.get(svc), moment())
                    if isinstance(verdict, Verdict):
                        self._publish(verdict)
                    elif verdict is not None:
                        acquitted = verdict
        for svc in open_cases:
            self._detector.retry_suspect(svc)
        if len(open_cases) < len(services):
            self._poked.set()
        if acquitted is not None:
            self.rebuild_deaf_session(acquitted)

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

    def rebuild_deaf_session(self, acquitted: UnheardBeat) -> None:
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
