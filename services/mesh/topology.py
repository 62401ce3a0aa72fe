"""What can happen in a swarm, as it goes to `mesh:events`. Pure.

Whether all go by one revision of the truth, and how long that took. Pure; times are passed in.

Whether more processes of a service run than the truth wants. Pure; times are passed in.

A process that was killed stays in the picture until its timeout, beside its successor; that is no conflict.
It takes a proof: each has beaten after the last of them had come.

Who runs: every instance of every service, from what was heard. Pure; times are passed in.

`now` is a monotonic reading and decides who is gone; `wall` is epoch seconds and is only shown. A bus that
is not heard makes nobody leave. A new `boot` beside a living one is a second instance until the first goes
silent: then it was its successor, and that was a restart.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from marketswarm.beat import Beat, Sender
from services.mesh.instance import Instance, Past

Happening = Literal["joined", "left", "restarted", "crash_loop", "conflict", "stranger", "converged"]
HAPPENINGS: tuple[Happening, ...] = get_args(Happening)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `ts` is in epoch seconds; `more` are fields that only this kind has."""

    event: Happening
    svc: str
    boot: str
    ts: float
    rev: int | None = None
    more: dict[str, str] = field(default_factory=dict)

    def fields(self) -> dict[Any, Any]:
        """The entry of the stream."""
        fields = {"event": self.event, "svc": self.svc, "boot": self.boot, "ts": f"{self.ts:.3f}"}
        return fields | ({} if self.rev is None else {"rev": str(self.rev)}) | self.more


EARLY_KEPT: Final = 8  # revisions that were heard of before this process had them
EARLY_SEC: Final = 10.0  # nobody is ahead of us for longer: what was said before that was something else


class Convergence:
    """`at` is the revision that was converged on last, `took_sec` how long it took; None when not witnessed.

    A reseed is reckoned from when its revision was first seen here: by mesh itself, or in someone's beat.
    """

    def __init__(self) -> None:
        self.at: int | None = None
        self.took_sec: float | None = None
        self._force: int | None = None
        self._since: float | None = None  # when the one in force was first seen, if it came by a reseed
        self._early: dict[int, float] = {}

    def applied(self, rev: int | None, now: float) -> None:
        """Mesh itself goes by this revision now."""
        if rev is None or rev == self._force:
            return
        early = self._early.get(rev, now)
        self._since = None if self._force is None else early if now - early < EARLY_SEC else now
        self._force = rev
        self._early.clear()

    def heard(self, rev: int | None, now: float) -> None:
        """Someone's beat shows this revision."""
        if rev is not None and rev > (self._force or 0) and len(self._early) < EARLY_KEPT:
            self._early.setdefault(rev, now)

    def reached(self, shown: Collection[int], now: float) -> bool:
        """Whether all show the revision in force, and did not before; `shown` are those that anyone shows."""
        if self._force is None or set(shown) != {self._force} or self.at == self._force:
            return False
        self.at = self._force
        self.took_sec = None if self._since is None else max(0.0, now - self._since)
        return True


def together(instances: Collection[Instance], now: float) -> int:
    """How many of one service provably ran at one time, and still seem to."""
    here = [one for one in instances if not one.overdue(now)]
    return max((_beside(one, here) for one in here), default=0)


def _beside(newest: Instance, others: Collection[Instance]) -> int:
    """How many ran when this one came, with it."""
    at = newest.joined_at
    return 1 + sum(1 for one in others if one is not newest and one.joined_at <= at < one.beat_at)


class Crowding:
    """Who is too many now: told once, until no more are there than should be."""

    def __init__(self) -> None:
        self.crowded: set[str] = set()

    def begins(self, svc: str, replicas: int, instances: Collection[Instance], now: float) -> int:
        """How many there are, when that is too many and was not before; else 0. Also notes the end of it."""
        if len(instances) <= replicas:
            self.crowded.discard(svc)
            return 0
        count = together(instances, now)
        if count <= replicas or svc in self.crowded:
            return 0
        self.crowded.add(svc)
        return count


INSTANCES_A_SERVICE: Final = 50  # whoever beats with a new boot each time must not fill the memory
GONE_A_SERVICE: Final = 50
NOBODY: Final = Sender()


@dataclass(frozen=True, slots=True)
class Gone:
    """An instance that left, until a successor inherits its past."""

    boot: str
    past: Past
    ts: float


@dataclass(slots=True)
class Topology:
    """The picture. `skewed` collects services whose clock just turned out to be wrong, for the log.

    `replicas` is how many of each service there should be, where the truth says.
    """

    timeout_of: Callable[[str], float]
    services: dict[str, dict[str, Instance]] = field(default_factory=dict)  # by name, then by boot
    gone: dict[str, list[Gone]] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    hearing_since: dict[str, float] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    replays: int = 0
    convergence: Convergence = field(default_factory=Convergence)
    crowding: Crowding = field(default_factory=Crowding)
    skewed: list[tuple[str, float]] = field(default_factory=list)

    def heard(
        self, bus: str, beat: Beat, now: float, wall: float, sender: Callable[[], Sender] = Sender
    ) -> list[Event]:
        """A valid beat of a service that the truth knows; `sender` is asked until it says something."""
        boot = beat.boot or ""
        known = self.of(beat.svc).get(boot)
        self.convergence.heard(beat.rev, now)
        if known is not None:
            if boot and beat.i <= known.last.i:
                self.replays += 1
                return []
            known.last, known.last_ts, known.bus = beat, wall, bus
            known.heard_at = known.beat_at = now
            if known.sender == NOBODY:
                known.sender = sender()
            self._note_skew(known)
            return self._left([known], now, wall) if beat.status == "stopping" else []
        if beat.status == "stopping":
            return []
        new = Instance(beat.svc, boot, bus, beat, now, now, wall, wall, sender=sender())
        events = self._came(new, now, wall)
        self.put(new)
        self._note_skew(new)
        return events

    def tick(self, now: float, wall: float) -> list[Event]:
        """Who has been silent for the timeout of its service is gone; who is too many is told of."""
        silent = [
            one
            for one in self.everyone()
            if one.bus not in self.deaf and now - one.heard_at > self.timeout_of(one.svc)
        ]
        events = self._left(silent, now, wall) + self._crowded(now, wall)
        for one in self.everyone():
            if one.past.times and one.past.begins_to_loop(now):
                events.append(_crash_loop(one, now, wall))
        return events

    def keep(self, services: Iterable[str]) -> None:
        """The truth names these services now: the others are not ours any more."""
        known = set(services)
        self.services = {svc: found for svc, found in self.services.items() if svc in known}
        self.gone = {svc: gone for svc, gone in self.gone.items() if svc in known}
        self.crowding.crowded &= known

    def lost(self, bus: str) -> None:
        """A bus is not heard: nothing is known of who beats there."""
        self.deaf.add(bus)

    def joined(self, bus: str, now: float) -> None:
        """A bus is heard (again): silence there begins now."""
        self.deaf.discard(bus)
        self.forgive(now, bus)

    def forgive(self, now: float, bus: str | None = None) -> None:
        """Nobody could be heard (on `bus`): all silence begins now."""
        for name in self.hearing_since if bus is None else (bus,):
            self.hearing_since[name] = now
        for one in self.everyone():
            if bus in (None, one.bus):
                one.heard_at = now

    def converged(self, wall: float, now: float) -> list[Event]:
        """Once for each revision: everyone who shows one shows the one in force."""
        shown = {one.last.rev for one in self.everyone() if one.last.rev is not None}
        if not self.convergence.reached(shown, now):
            return []
        took_sec = self.convergence.took_sec
        more = {} if took_sec is None else {"took_sec": f"{took_sec:.3f}"}
        return [Event("converged", "", "", wall, self.convergence.at, more)]

    def everyone(self) -> Iterator[Instance]:
        """All instances; whoever is not in the event loop's thread may miss one that comes or goes."""
        for found in list(self.services.values()):
            yield from list(found.values())

    def of(self, svc: str) -> Mapping[str, Instance]:
        """The instances of a service, by boot."""
        return self.services.get(svc, {})

    def put(self, one: Instance) -> None:
        """It is there from now on."""
        self.services.setdefault(one.svc, {})[one.boot] = one

    def _drop(self, one: Instance) -> None:
        found = self.services.get(one.svc, {})
        found.pop(one.boot, None)
        if not found:
            self.services.pop(one.svc, None)

    def _came(self, new: Instance, now: float, wall: float) -> list[Event]:
        beside = self.of(new.svc).values()
        overdue = [one for one in beside if one.overdue(now)]
        gone = self.gone.get(new.svc)
        before = gone.pop().past if gone else None
        if not gone:
            self.gone.pop(new.svc, None)
        if before is None and overdue and new.last.i == 1:
            replaced = min(overdue, key=lambda one: one.heard_at)
            self._drop(replaced)
            before = replaced.past
        if len(beside) >= INSTANCES_A_SERVICE:
            self._drop(min(beside, key=lambda one: one.heard_at))
        if before is not None:
            return _succeeds(new, before, now, wall)
        return [Event("joined", new.svc, new.boot, wall, new.last.rev)]

    def _left(self, silent: list[Instance], now: float, wall: float) -> list[Event]:
        events = []
        for one in silent:
            self._drop(one)
        for one in silent:
            successor = self._successor(one)
            if successor is None:
                gone = self.gone.setdefault(one.svc, [])
                gone.append(Gone(one.boot, one.past, wall))
                del gone[:-GONE_A_SERVICE]
                events.append(Event("left", one.svc, one.boot, wall, one.last.rev))
            else:
                events += _succeeds(successor, one.past, now, wall)
        return events

    def _successor(self, left: Instance) -> Instance | None:
        """Who began after `left` had beaten last, and has not taken over from anyone yet."""
        after = [
            one
            for one in self.of(left.svc).values()
            if one.joined_at > left.beat_at and not one.past.restarts
        ]
        return min(after, key=lambda one: one.joined_at, default=None)

    def _crowded(self, now: float, wall: float) -> list[Event]:
        events = []
        for svc, replicas in self.replicas.items():
            instances = self.of(svc).values()
            count = self.crowding.begins(svc, replicas, instances, now)
            if count:
                newest = max(instances, key=lambda one: one.joined_at)
                more = {"count": str(count), "replicas": str(replicas)}
                events.append(Event("conflict", svc, newest.boot, wall, newest.last.rev, more))
        return events

    def _note_skew(self, one: Instance) -> None:
        if one.begins_to_skew():
            self.skewed.append((one.svc, round(one.skew_sec, 3)))


def _succeeds(new: Instance, past: Past, now: float, wall: float) -> list[Event]:
    """It takes the place of one that is gone, and its past."""
    new.past = past
    past.restarted(new.joined_at)
    events = [Event("restarted", new.svc, new.boot, wall, new.last.rev)]
    return [*events, _crash_loop(new, now, wall)] if past.begins_to_loop(now) else events


def _crash_loop(one: Instance, now: float, wall: float) -> Event:
    more = {"restarts_hour": str(one.past.in_the_hour(now))}
    return Event("crash_loop", one.svc, one.boot, wall, one.last.rev, more)
