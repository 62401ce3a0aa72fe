"""Whether any bus takes writes at all. Pure; time is an argument, in monotonic and in epoch seconds.

A bus that is lost while another takes writes is the healer's to tell. When none does, since they are away or
refuse, nobody can tell it over the buses, and it is the sentinel that knows.
"""

from collections.abc import Iterable
from typing import Final

from marketswarm.event import Event, Kind, identify

NO_BUS: Final = frozenset(
    {"refused", "timeout", "dns", "tls", "auth", "loading"}  # could not be asked
    | {"oom", "readonly", "misconf"}  # answers, and takes no event that anybody could tell
)
"""Reasons for which a bus does not count as one; after any other refusal it still takes writes."""


class BusAvailability:
    """When each bus last took a write. All count as having taken one at `now`."""

    def __init__(self, me: str, buses: Iterable[str], now: float) -> None:
        self._me = me
        self._last = dict.fromkeys(buses, now)
        self._reasons: dict[str, str] = {}
        self._told: set[str] = set()

    def change(self, buses: Iterable[str], now: float) -> None:
        """Other buses count from now on."""
        self._last = {name: self._last.get(name, now) for name in buses}

    def recall(self, bus: str, since: float) -> None:
        """An earlier run told that it was away `since` (monotonic), and not that it is back."""
        if bus in self._last:
            self._last[bus] = min(since, self._last[bus])
            self._told.add(bus)

    def failed(self, bus: str, reason: str, now: float, wall: float) -> Event | None:
        """A write was not answered, or refused."""
        if reason not in NO_BUS:
            return self.answered(bus, now, wall)
        self._reasons[bus] = reason
        return None

    def answered(self, bus: str, now: float, wall: float) -> Event | None:
        """A write was answered. The end of an outage, if `lost` told of one."""
        if bus not in self._last:
            return None
        last, self._last[bus] = self._last[bus], now
        if bus not in self._told:
            return None
        self._told.discard(bus)
        kind = Kind.BUS_OK
        return Event(
            kind, bus, wall, identify(kind, bus, wall), self._me, down_sec=now - last, since=wall - now + last
        )

    def lost(self, timeout_sec: float, grace_sec: float, now: float, wall: float) -> list[Event]:
        """A `bus_miss` for each bus, once, when none took a write for `timeout_sec` and `grace_sec` more."""
        if not self._last or now - max(self._last.values()) < timeout_sec + grace_sec:
            return []
        kind = Kind.BUS_MISS
        found = [
            Event(
                kind,
                bus,
                wall,
                identify(kind, bus, wall),
                self._me,
                late_sec=now - last,
                timeout_sec=timeout_sec,
                reason=self._reasons.get(bus, "timeout"),
                since=wall - now + last,
            )
            for bus, last in self._last.items()
            if bus not in self._told
        ]
        self._told.update(self._last)
        return found
