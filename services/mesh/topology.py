"""Who runs: every instance of every service, from what was heard. Pure; times are passed in.

`now` is a monotonic reading and decides who is gone; `wall` is epoch seconds and is only shown. A bus that
is not heard makes nobody leave. A new `boot` beside a living one is a second instance until the first goes
silent: then it was its successor, and that was a restart.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from marketswarm.beat import Beat

INSTANCES_A_SERVICE: Final = 50  # whoever beats with a new boot each time must not fill the memory
SKEW_SEC: Final = 5.0
OVERDUE: Final = 1.5  # times `every`: silent for longer, an instance may have been replaced

Happening = Literal["joined", "left", "restarted", "stranger", "converged"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the swarm, for `mesh:events`."""

    event: Happening
    svc: str
    boot: str
    ts: float
    rev: int | None = None


@dataclass(slots=True)
class Instance:
    """One running process of a service."""

    svc: str
    boot: str  # empty for a sender that has no such thing
    bus: str
    last: Beat
    heard_at: float
    joined_at: float
    last_ts: float
    first_ts: float
    restarts: int = 0
    skewed: bool = False

    def shown(self) -> dict[str, Any]:
        """The instance as it stands in `mesh:topology`."""
        skew_sec = round(self.last.ts - self.last_ts, 3)
        return {
            "boot": self.boot or None,
            "i": self.last.i,
            "rev": self.last.rev,
            "status": self.last.status,
            "detail": self.last.detail,
            "every": self.last.every,
            "last_ts": round(self.last_ts, 3),
            "first_ts": round(self.first_ts, 3),
            "restarts": self.restarts,
            "skew_sec": skew_sec if abs(skew_sec) > SKEW_SEC else None,
        }


@dataclass(slots=True)
class Gone:
    """An instance that left, until a successor takes its count over."""

    boot: str
    restarts: int


@dataclass(slots=True)
class Topology:
    """The picture. `skewed` collects services whose clock just turned out to be wrong, for the log."""

    timeout_of: Callable[[str], float]
    instances: dict[tuple[str, str], Instance] = field(default_factory=dict)
    gone: dict[str, Gone] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    replays: int = 0
    converged_at: int | None = None
    skewed: list[tuple[str, float]] = field(default_factory=list)

    def heard(self, bus: str, beat: Beat, now: float, wall: float) -> list[Event]:
        """A valid beat of a service that the truth knows."""
        boot = beat.boot or ""
        known = self.instances.get((beat.svc, boot))
        if known is not None:
            if boot and beat.i <= known.last.i:
                self.replays += 1
                return []
            known.last, known.heard_at, known.last_ts, known.bus = beat, now, wall, bus
            self._note_skew(known)
            return self._left([known], wall) if beat.status == "stopping" else []
        if beat.status == "stopping":
            return []
        new = Instance(beat.svc, boot, bus, beat, now, now, wall, wall)
        events = self._came(new, now, wall)
        self.instances[beat.svc, boot] = new
        self._note_skew(new)
        return events

    def tick(self, now: float, wall: float) -> list[Event]:
        """Who has been silent for the timeout of its service is gone."""
        silent = [
            one
            for one in self.instances.values()
            if one.bus not in self.deaf and now - one.heard_at > self.timeout_of(one.svc)
        ]
        return self._left(silent, wall)

    def keep(self, services: Iterable[str]) -> None:
        """The truth names these services now: the others are not ours any more."""
        known = set(services)
        self.instances = {key: one for key, one in self.instances.items() if one.svc in known}
        self.gone = {svc: one for svc, one in self.gone.items() if svc in known}

    def lost(self, bus: str) -> None:
        """A bus is not heard: nothing is known of who beats there."""
        self.deaf.add(bus)

    def joined(self, bus: str, now: float) -> None:
        """A bus is heard (again): silence there begins now."""
        self.deaf.discard(bus)
        self.forgive(now, bus)

    def forgive(self, now: float, bus: str | None = None) -> None:
        """Nobody could be heard (on `bus`): all silence begins now."""
        for one in self.instances.values():
            if bus in (None, one.bus):
                one.heard_at = now

    def converged(self, rev: int | None, wall: float) -> list[Event]:
        """Once for each revision: everyone who shows one shows `rev`."""
        shown = {one.last.rev for one in self.instances.values() if one.last.rev is not None}
        if rev is None or shown != {rev} or self.converged_at == rev:
            return []
        self.converged_at = rev
        return [Event("converged", "", "", wall, rev)]

    def shown(self, wall: float) -> dict[str, Any]:
        """The object in `mesh:topology`."""
        services: dict[str, Any] = {}
        for one in sorted(self.instances.values(), key=lambda one: (one.svc, one.first_ts)):
            services.setdefault(one.svc, {"instances": []})["instances"].append(one.shown())
        return {
            "ts": round(wall, 3),
            "services": services,
            "deaf": sorted(self.deaf),
            "converged": self.converged_at,
        }

    def _came(self, new: Instance, now: float, wall: float) -> list[Event]:
        beside = [one for one in self.instances.values() if one.svc == new.svc]
        overdue = [one for one in beside if now - one.heard_at > OVERDUE * (one.last.every or float("inf"))]
        before = self.gone.pop(new.svc, None)
        if before is None and overdue and new.last.i == 1:
            replaced = min(overdue, key=lambda one: one.heard_at)
            del self.instances[replaced.svc, replaced.boot]
            before = Gone(replaced.boot, replaced.restarts)
        if len(beside) >= INSTANCES_A_SERVICE:
            oldest = min(beside, key=lambda one: one.heard_at)
            self.instances.pop((oldest.svc, oldest.boot), None)
        if before is not None:
            new.restarts = before.restarts + 1
            return [Event("restarted", new.svc, new.boot, wall, new.last.rev)]
        return [Event("joined", new.svc, new.boot, wall, new.last.rev)]

    def _left(self, silent: list[Instance], wall: float) -> list[Event]:
        events = []
        for one in silent:
            del self.instances[one.svc, one.boot]
            successor = self._successor(one)
            if successor is None:
                self.gone[one.svc] = Gone(one.boot, one.restarts)
                events.append(Event("left", one.svc, one.boot, wall, one.last.rev))
            else:
                successor.restarts = one.restarts + 1
                events.append(Event("restarted", one.svc, successor.boot, wall, successor.last.rev))
        return events

    def _successor(self, left: Instance) -> Instance | None:
        """Who began after `left` was heard last, and has not taken over from anyone yet."""
        after = [
            one
            for one in self.instances.values()
            if one.svc == left.svc and one.joined_at >= left.heard_at and not one.restarts
        ]
        return min(after, key=lambda one: one.joined_at, default=None)

    def _note_skew(self, one: Instance) -> None:
        skew_sec = one.last.ts - one.last_ts
        # an incident is over well below where it begins: a clock that wavers there is one, not many
        was, one.skewed = one.skewed, abs(skew_sec) > (SKEW_SEC / 2 if one.skewed else SKEW_SEC)
        if one.skewed and not was:
            self.skewed.append((one.svc, round(skew_sec, 3)))
