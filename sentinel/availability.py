"""Availability of the buses: whether any bus accepts writes. Pure; `now` is monotonic, `wall` epoch seconds.

While some bus accepts writes, the healer publishes that another one is lost. If no bus accepts writes,
nothing can be published over the buses, and only the sentinel can notify people.
"""

from collections.abc import Iterable
from typing import Any, Final

from marketswarm.event import Event, Kind, make_event_id

AWAY_REASONS: Final = frozenset(
    {"refused", "timeout", "dns", "tls", "auth", "loading"}  # the bus could not be asked
    | {"oom", "readonly", "misconf", "busy"}  # the bus answers, and takes no event
)
"""Errors after which a bus counts as away; after any other error it still accepts writes."""


class BusAvailability:
    """Keeps when each bus last accepted a write, which at the start is `now` for every bus."""

    def __init__(self, sentinel: str, buses: Iterable[str], now: float) -> None:
        self._sentinel = sentinel
        self._written_at = dict.fromkeys(buses, now)
        self._reasons: dict[str, str] = {}
        self._reported: set[str] = set()

    def set_buses(self, buses: Iterable[str], now: float) -> None:
        self._written_at = {name: self._written_at.get(name, now) for name in buses}

    def restore_outage(self, bus: str, since: float) -> None:
        """Apply that an earlier run reported a bus as away since `since` (monotonic), and not yet as back."""
        if bus in self._written_at:
            self._written_at[bus] = min(since, self._written_at[bus])
            self._reported.add(bus)

    def note_stall(self, stalled_sec: float, now: float) -> None:
        """Discount the `stalled_sec` seconds before `now` in which this process did not run."""
        self._written_at = {bus: min(now, last + stalled_sec) for bus, last in self._written_at.items()}

    def record_refused_write(self, bus: str, reason: str, now: float, wall: float) -> Event | None:
        """Note that a write failed; return a `bus_ok` if the reason shows that a lost bus is back."""
        if reason not in AWAY_REASONS:
            return self.record_write(bus, now, wall)
        self._reasons[bus] = reason
        return None

    def record_write(self, bus: str, now: float, wall: float) -> Event | None:
        """Note that a bus accepted a write; return a `bus_ok` if it was reported as away, otherwise None."""
        if bus not in self._written_at:
            return None
        last, self._written_at[bus] = self._written_at[bus], now
        if bus not in self._reported:
            return None
        self._reported.discard(bus)
        return self._make_event(Kind.BUS_OK, bus, last, now, wall, down_sec=now - last)

    def report_lost_buses(self, timeout_sec: float, grace_sec: float, now: float, wall: float) -> list[Event]:
        """Return a `bus_miss` for each bus, once, if none accepted a write for long enough.

        That is `timeout_sec` plus `grace_sec` seconds.
        """
        if not self._written_at or now - max(self._written_at.values()) < timeout_sec + grace_sec:
            return []
        found = []
        for bus, last in self._written_at.items():
            if bus not in self._reported:
                reason = self._reasons.get(bus, "timeout")
                more = {"late_sec": now - last, "timeout_sec": timeout_sec, "reason": reason}
                found.append(self._make_event(Kind.BUS_MISS, bus, last, now, wall, **more))
        self._reported.update(self._written_at)
        return found

    def _make_event(self, kind: Kind, bus: str, last: float, now: float, wall: float, **more: Any) -> Event:
        """Return an event about a bus that accepted a write at `last` (monotonic), and none since."""
        ident, since = make_event_id(kind, bus, wall), wall - now + last
        return Event(kind, bus, wall, ident, self._sentinel, since=since, **more)
