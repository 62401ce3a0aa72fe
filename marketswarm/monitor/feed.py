"""The detector's feed: it passes the listeners' reports on, and logs lost buses and malformed beats."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus.listener import read_clocks
from marketswarm.detector import Detector, Moment, State, Verdict
from marketswarm.text import format_names

log = logs.get("monitor")

LOG_EVERY_SEC: Final = 1.0
SHORT_GAP_SEC: Final = 2.0


@dataclass(eq=False)
class DetectorFeed:
    """The `SessionHandler` of the listeners: passes their reports to the detector and publishes its verdicts.

    Args:
        wake: called when a canary has just proven the silence of a service that is due.
        notify_session_opened: called with the name of a bus when a session on it begins.
        notify_silence_ended: called when a silence ended that is saved on the bus.
        notify_channel_allowed: called with the name of a bus that refuses a service's channel no longer.
    """

    publish: Callable[[Verdict], None]
    wake: Callable[[], None]
    notify_session_opened: Callable[[str], None]
    notify_silence_ended: Callable[[], None]
    notify_channel_allowed: Callable[[str], None] = lambda _: None
    detector: Detector = field(default_factory=lambda: Detector(read_clocks()))
    _logged: tuple[int, int, int] = (0, 0, 0)  # how many malformed, replayed and dropped payloads were logged
    _logged_at: float = 0.0

    def on_session_opened(self, bus: str) -> None:
        """Start a session in the clock of `bus`, log it and call `notify_session_opened`.

        Ignore an unwatched bus.
        """
        watched = self.detector.buses.get(bus)
        if watched is not None:
            watched.clock.note_session_opened()
            log.info("monitor.listening", bus=bus, channels=len(watched.channels))
            self.notify_session_opened(bus)

    def on_channels_refused(self, bus: str, channels: Collection[str], now: Moment) -> None:
        """Set the channels that the bus refuses, publish what follows, and report those it allows again."""
        verdicts = self.detector.set_refused_channels(bus, channels, now)
        for verdict in verdicts:
            self.publish(verdict)
        if any(verdict.state is State.UP for verdict in verdicts):
            self.notify_channel_allowed(bus)

    def on_session_lost(self, bus: str, reason: str) -> None:
        """End the session in the clock of `bus` for this reason, and log it. Ignore an unwatched bus."""
        watched = self.detector.buses.get(bus)
        if watched is not None:
            if watched.clock.is_in_session:
                log.warning("monitor.lost", bus=bus, reason=reason)
            watched.clock.note_session_lost(reason)

    def on_messages(
        self, bus: str, messages: Iterable[Sequence[Any]], now: Moment
    ) -> Sequence[Sequence[Any]]:
        """Pass messages to the detector and publish its verdicts; return the messages that are not beats."""
        result = self.detector.take_messages(bus, messages, now)
        for verdict in result.verdicts:
            self.publish(verdict)
        if self.detector.silences.take_ended():
            self.notify_silence_ended()
        return result.others

    def on_canary_sent(self, bus: str, number: int, now: Moment, worked_sec: float) -> None:
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.note_canary_sent(number, now.mono, worked_sec)

    def on_canary_accepted(self, bus: str, now: Moment) -> None:
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.note_canary_accepted(now)

    def on_canary_refused(self, bus: str, number: int, reason: str) -> None:
        if bus in self.detector.buses:
            self.detector.buses[bus].clock.note_canary_refused(number, reason)

    def on_canary_received(self, bus: str, number: int, now: Moment, worked_sec: float) -> None:
        """Pass a canary that came back to the detector and publish its verdicts.

        If services on the bus wait for a canary, wake the evaluator.
        """
        for verdict in self.detector.take_canary(bus, number, now, worked_sec):
            self.publish(verdict)
        if bus in self.detector.buses and self.detector.buses[bus].has_waiting:
            self.wake()

    def get_missing_canary_sec(self, bus: str, now: float, worked_sec: float) -> float:
        """Return for how long the listener has waited for a canary of `bus`; 0 for an unwatched bus."""
        watched = self.detector.buses.get(bus)
        return 0.0 if watched is None else watched.clock.missing_canary_sec(now, worked_sec)

    def describe_lost_buses(self, now: Moment) -> str | None:
        """Return the buses not heard for over 2 s, as text for a beat's `detail`; None if all are heard."""
        lost = {
            bus.name: f"{bus.name} ({bus.clock.reason})"
            for bus in self.detector.buses.values()
            if not bus.clock.is_listening and bus.clock.unheard_sec(now.mono) > SHORT_GAP_SEC
        }
        partly = [
            name for name, bus in self.detector.buses.items() if bus.is_poorly_heard and name not in lost
        ]
        parts = [f"not hearing {', '.join(lost.values())}"] if lost else []
        parts += [f"hearing {', '.join(partly)} for too little of the time"] if partly else []
        return "; ".join(parts) or None

    def describe_refused_channels(self) -> str | None:
        """Return the services whose channels are refused, as text for a beat's `detail`; None for none.

        The text names five services at most, and the number of the others.
        """
        refused = self.detector.refused
        return f"not allowed to hear {format_names(refused)}" if refused else None

    def log_rejected(self) -> None:
        """Log how many malformed, replayed and dropped payloads came, at most once a second."""
        counts, now = self.detector.counts, time.monotonic()
        malformed, replayed = counts.malformed - self._logged[0], counts.replayed - self._logged[1]
        dropped = counts.dropped - self._logged[2]
        if not (malformed or replayed or dropped) or now - self._logged_at < LOG_EVERY_SEC:
            return
        if malformed and self.detector.last_malformed is not None:
            svc, reason = self.detector.last_malformed
            log.warning(
                "beat.malformed", last_svc=svc, last_reason=reason, count=malformed, total=counts.malformed
            )
        if replayed:
            log.warning("beat.replayed", count=replayed, total=counts.replayed)
        if dropped:
            services = format_names(self.detector.floods.flooding)
            log.warning("beat.dropped", services=services, count=dropped, total=counts.dropped)
        self._logged, self._logged_at = (counts.malformed, counts.replayed, counts.dropped), now
