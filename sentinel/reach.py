"""Whether any bus answers at all. Pure; time is an argument, in monotonic and in epoch seconds.

A bus that is lost while another answers is the healer's to tell. When none answers, nobody can tell it over
the buses, and it is the sentinel that knows.
"""

from collections.abc import Iterable
from typing import Final

from marketswarm.event import Event, Kind, identify

UNREACHED: Final = frozenset({"refused", "timeout", "dns", "tls", "auth", "loading"})
"""Reasons of a bus that could not be asked; any other comes from one that answers."""


class Reach:
    """When each bus last answered. All count as having answered at `now`."""

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
        """A request was not answered, or with a refusal; the latter is an answer."""
        if reason not in UNREACHED:
            return self.answered(bus, now, wall)
        self._reasons[bus] = reason
        return None

    def answered(self, bus: str, now: float, wall: float) -> Event | None:
        """A request was answered. The end of an outage, if `lost` told of one."""
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
        """A `bus_miss` for each bus, once, when none has answered for `timeout_sec` and `grace_sec` more."""
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
