"""The interface of an observer of parsed beats and changes of state."""

from marketswarm.beat import Beat
from marketswarm.detector.bus import WatchedBus
from marketswarm.detector.clock import HeardAt, Moment
from marketswarm.detector.service import WatchedService
from marketswarm.detector.verdict import LastBeat, SavedService, Verdict


class BeatObserver:
    """The interface of an observer of parsed beats and changes of state; this one does nothing.

    A beat that is stored unparsed (see `service.py`) is not reported.
    """

    def roster_changed(self, buses: dict[str, WatchedBus]) -> None:
        """Handle that a roster is in force; `buses` are those listened to."""

    def service_added(self, service: WatchedService, old: WatchedService | None) -> None:
        """Handle that a service is watched; `old` is the same service by an older truth, or None."""

    def service_dropped(self, svc: str) -> None:
        """Handle that a service is no longer watched."""

    def beat_parsed(self, service: WatchedService, beat: Beat, heard: HeardAt) -> None:
        """Handle that a beat was parsed, before it is recorded; it may be a replay."""

    def goodbye_heard(self, service: WatchedService, beat: Beat) -> None:
        """Handle that a `stopping` beat was recorded."""

    def sender_changed(self, service: WatchedService, boot: str | None, *, is_other_instance: bool) -> None:
        """Handle a beat of another instance than the last one, or of one that had said goodbye.

        `boot` is the instance that beats now.
        """

    def beat_recorded(self, service: WatchedService, beat: Beat, heard: HeardAt) -> None:
        """Handle that a live beat of a service that is up was recorded."""

    def state_changed(self, service: WatchedService) -> None:
        """Handle that a service is about to come up, or to get the state that another healer published."""

    def service_restored(
        self, service: WatchedService, saved: SavedService, stored: LastBeat | None, now: Moment
    ) -> None:
        """Handle that the saved state of an earlier run was applied to a service.

        `stored` is the beat under `beat:<svc>`, None if there is none.
        """

    def lead_taken_over(self, service: WatchedService, published: SavedService, now: Moment) -> None:
        """Handle that a service has the state that the leader before us published and saved."""

    def due_verdicts(self, bus: WatchedBus, now: Moment) -> list[Verdict]:
        """Return the observer's own verdicts about services of a bus that are due now."""
        del bus, now
        return []
