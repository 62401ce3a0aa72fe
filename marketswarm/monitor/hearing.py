"""The ear of a vigil: what its listeners report, carried into `liveness`.

It adds nothing of its own but the log lines that an operator wants to see of it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.beat import Malformed
from marketswarm.bus.listener import moment
from marketswarm.detector import Detector, Moment, RestartObserver, Verdict

NOTE_EVERY_SEC: Final = 1.0
HICCUP_SEC: Final = 2.0
NAMED_AT_MOST: Final = 5

log = logs.get("vigil")


class Hearing:
    """An `Ear`; see there for what each of its methods is told.

    Args:
        conclude: called with each verdict that follows from what was heard.
        poke: called when something is due that a canary has just proven.
        joined: called with the name of a bus when a session on it begins.
        ended: called when a silence ended that a later run would go on with.
    """

    def __init__(
        self,
        *,
        conclude: Callable[[Verdict], None],
        poke: Callable[[], None],
        joined: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self.detector = Detector(moment(), on_malformed=self._note_malformed)
        self.restarts = RestartObserver(self.detector)
        self._conclude = conclude
        self._poke = poke
        self._joined = joined
        self._ended = ended
        self._malformed: tuple[str, str] | None = None
        self._noted = (0, 0)  # how many malformed and replayed payloads had been noted
        self._noted_at = 0.0

    def opened(self, bus: str) -> None:
        """See `Ear`."""
        watched = self.detector.buses.get(bus)
        if watched is not None:
            watched.clock.opened()
            log.info("vigil.listening", bus=bus, channels=len(watched.channels))
            self._joined(bus)

    def channels_refused(self, bus: str, channels: Collection[str], now: Moment) -> None:
        """See `Ear`."""
        for verdict in self.detector.set_refused_channels(bus, channels, now):
            self._conclude(verdict)

    def lost(self, bus: str, reason: str) -> None:
        """See `Ear`."""
        watched = self.detector.buses.get(bus)
        if watched is not None:
            if watched.clock.in_session:
                log.warning("vigil.lost", bus=bus, reason=reason)
            watched.clock.lost(reason)

    def heard(self, bus: str, messages: Iterable[Sequence[Any]], now: Moment) -> Sequence[Sequence[Any]]:
        """See `Ear`."""
        hearing = self.detector.hear(bus, messages, now)
        for verdict in hearing.verdicts:
            self._conclude(verdict)
        if self.detector.has_ended_silence:
            self.detector.has_ended_silence = False
            self._ended()
        return hearing.others

    def canary_sent(self, bus: str, number: int, now: Moment) -> None:
        """See `Ear`."""
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.sent(number, now.mono)

    def canary_accepted(self, bus: str, now: Moment) -> None:
        """See `Ear`."""
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.accepted(now)

    def canary_refused(self, bus: str, number: int, reason: str) -> None:
        """See `Ear`."""
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.refused(number, reason)

    def canary_heard(self, bus: str, number: int, now: Moment) -> None:
        """See `Ear`."""
        for verdict in self.detector.hear_canary(bus, number, now):
            self._conclude(verdict)
        if bus in self.detector.buses and self.detector.buses[bus].awaiting_canary:
            self._poke()

    def deaf_for(self, bus: str, now: float) -> float:
        """See `Ear`."""
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

    def complain(self) -> None:
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
