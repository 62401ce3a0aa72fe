"""Keep which instances of every service run, as their beats show it. Pure; times are passed in.

An instance is looked at when it may have become silent, and not each second: there may be very many.

`now` is a monotonic time and decides which instance is silent; `wall` is in epoch seconds and is only shown.
While a bus is deaf (while it can't be heard) none of its instances leaves. A new `boot` beside a running one
is a second instance until the first falls silent: then the new one was its successor, and that was a restart.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Literal, get_args

from marketswarm.beat import Beat, Sender, find_form, parse_sender
from marketswarm.detector import TimingWheel
from services.mesh.instance import SKEW_SEC, Instance, RestartHistory

EventKind = Literal["joined", "left", "restarted", "crash_loop", "conflict", "stranger", "converged"]
EVENT_KINDS: tuple[EventKind, ...] = get_args(EventKind)
MAX_EARLY: Final = 8  # revisions that beats showed before this process had them
EARLY_SEC: Final = 10.0  # a beat that showed a revision earlier than this does not belong to its reseed
MAX_INSTANCES: Final = 50  # a sender may use a new boot for each beat
MAX_DEPARTED: Final = 50
MAX_FAMILIAR_BYTES: Final = 1024  # a longer beat is parsed each time: its form would take as much memory
NOBODY: Final = Sender()


@dataclass(frozen=True, slots=True)
class MeshEvent:
    """Hold an entry of `mesh:events`; `more` are the fields that only this kind of event has."""

    event: EventKind
    svc: str
    boot: str
    ts: float
    rev: int | None = None
    more: dict[str, str] = field(default_factory=dict)

    def fields(self) -> dict[Any, Any]:
        fields = {"event": self.event, "svc": self.svc, "boot": self.boot, "ts": f"{self.ts:.3f}"}
        return fields | ({} if self.rev is None else {"rev": str(self.rev)}) | self.more


class Convergence:
    """Detect when all instances use the same revision of the truth, and measure how long that took.

    `at` is the revision of the last convergence. `took_sec` counts from when mesh itself or a beat first
    showed the revision here; it is None if mesh began with this revision.
    """

    def __init__(self) -> None:
        self.at: int | None = None
        self.took_sec: float | None = None
        self._revision: int | None = None
        self._since: float | None = None  # when `_revision` was first seen, if it came by a reseed
        self._early: dict[int, float] = {}

    def set_revision(self, rev: int | None, now: float) -> None:
        """Record since when (monotonic) mesh itself uses the revision `rev`."""
        if rev is None or rev == self._revision:
            return
        early = self._early.get(rev, now)
        self._since = None if self._revision is None else early if now - early < EARLY_SEC else now
        self._revision = rev
        self._early.clear()

    def record_revision(self, rev: int | None, now: float) -> None:
        if rev is not None and rev > (self._revision or 0) and len(self._early) < MAX_EARLY:
            self._early.setdefault(rev, now)

    @property
    def is_awaited(self) -> bool:
        """Whether mesh uses a revision that not all instances have shown yet."""
        return self._revision is not None and self.at != self._revision

    def check(self, shown: Collection[int], now: float) -> bool:
        """Return True, once for each revision, if all instances show (`shown`) the one that mesh uses."""
        if not self.is_awaited or set(shown) != {self._revision}:
            return False
        self.at = self._revision
        self.took_sec = None if self._since is None else max(0.0, now - self._since)
        return True


@dataclass(frozen=True, slots=True)
class Departed:
    """Hold an instance that left, until a successor inherits its restart history."""

    boot: str
    history: RestartHistory
    ts: float


@dataclass(slots=True)
class Topology:
    """Keep the instances of every service, and derive events from their beats and their silence.

    Args:
        heard_since: the monotonic time since when each bus has been heard without a gap.
        in_conflict: the services with more instances than the truth wants.
        skewed: services whose clock has just turned out to be wrong, and its skew in seconds, for the log.
    """

    timeout_of: Callable[[str], float]
    services: dict[str, dict[str, Instance]] = field(default_factory=dict)  # by name, then by boot
    departed: dict[str, list[Departed]] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    heard_since: dict[str, float] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    convergence: Convergence = field(default_factory=Convergence)
    in_conflict: set[str] = field(default_factory=set)
    skewed: list[tuple[str, float]] = field(default_factory=list)
    _wheel: TimingWheel[str] = field(init=False)  # services by when an instance of them may be silent
    _on_wheel: set[str] = field(default_factory=set)
    _suspects: set[str] = field(default_factory=set)  # services with several instances, or one that restarted

    def __post_init__(self) -> None:
        self._wheel = TimingWheel(self._find_silent_at)

    def record_familiar(self, svc: str, bus: str, payload: bytes, now: float, wall: float) -> bool:
        """Record a payload that is an instance's last beat with another `i` and `ts`; False for any other.

        The rest is known, so it is neither parsed nor checked again, and no event follows.
        """
        for one in self.instances_of(svc).values():
            counts = None if one.form is None else one.form.parse_counts(payload)
            if counts is None:
                continue
            self.convergence.record_revision(one.last.rev, now)
            if not one.boot or counts[0] > one.i:  # no replay
                one.take_counts(*counts, bus, now, wall)
                self._record_skew(one)
            return True
        return False

    def record_beat(
        self, bus: str, beat: Beat, now: float, wall: float, payload: bytes = b"{}"
    ) -> list[MeshEvent]:
        """Record a valid beat of a known service; return the events that follow.

        A beat that is no newer than the last one of its instance is a replay, and changes nothing. The
        details of the sender are parsed from `payload`, at each beat until they are known.
        """
        boot = beat.boot or ""
        form = find_form(payload, beat) if len(payload) <= MAX_FAMILIAR_BYTES else None
        known = self.instances_of(beat.svc).get(boot)
        self.convergence.record_revision(beat.rev, now)
        if known is not None:
            if boot and beat.i <= known.i:
                return []
            # a process that reported the start of a run, and nothing since then, ends with it
            ends_with_run = known.last.run == "started" and beat.run in ("ended", "failed")
            known.last, known.form = beat, form
            known.take_counts(beat.i, beat.ts, bus, now, wall)
            if known.sender == NOBODY:
                known.sender = parse_sender(payload)
            self._record_skew(known)
            is_last = beat.status == "stopping" or ends_with_run
            return self._remove([known], now, wall) if is_last else []
        if beat.status == "stopping":
            return []
        sender = parse_sender(payload)
        new = Instance(beat.svc, boot, bus, beat, now, now, wall, wall, sender=sender, form=form)
        events = self._make_succession_events(new, now, wall)
        self.add(new)
        self._record_skew(new)
        return events

    def remove_silent(self, now: float, wall: float) -> list[MeshEvent]:
        """Remove silent instances; return the events of that, and of conflicts and crash loops that begin."""
        silent: list[Instance] = []
        due = self._wheel.pop_due(now)
        self._on_wheel.difference_update(due)
        for svc in due:
            timeout_sec = self.timeout_of(svc)
            silent += [
                one
                for one in self.instances_of(svc).values()
                if one.bus not in self.deaf and now - one.heard_at > timeout_sec
            ]
        events = self._remove(silent, now, wall)
        for svc in due:
            self._put_on_wheel(svc)
        return events + self._detect_faults(now, wall)

    def _put_on_wheel(self, svc: str) -> None:
        if svc not in self._on_wheel:
            self._on_wheel.add(svc)
            self._wheel.add(svc)

    def _find_silent_at(self, svc: str) -> float:
        """Return when an instance of a service may be silent; infinity, which ends this, if none is left."""
        found = self.instances_of(svc)
        if not found:
            self._on_wheel.discard(svc)
            return inf
        return min(one.heard_at for one in found.values()) + self.timeout_of(svc)

    def keep_services(self, services: Iterable[str]) -> None:
        """Remove the instances of all other services."""
        known = set(services)
        self.services = {svc: found for svc, found in self.services.items() if svc in known}
        self.departed = {svc: gone for svc, gone in self.departed.items() if svc in known}
        self.in_conflict &= known
        self._wheel = TimingWheel(self._find_silent_at)  # a timeout may be shorter now
        self._on_wheel.clear()
        for svc in self.services:
            self._put_on_wheel(svc)

    def mark_heard(self, bus: str, now: float) -> None:
        """Record that a bus can be heard since `now`: the silence of its instances restarts."""
        self.deaf.discard(bus)
        self.reset_silence(now, bus)

    def reset_silence(self, now: float, bus: str | None = None) -> None:
        """Begin the silence of every instance again at `now`; with `bus`, only of those on this bus."""
        for name in self.heard_since if bus is None else (bus,):
            self.heard_since[name] = now
        for one in self.instances():
            if bus in (None, one.bus):
                one.heard_at = now

    def check_convergence(self, wall: float, now: float) -> list[MeshEvent]:
        if not self.convergence.is_awaited:
            return []
        shown = {one.last.rev for one in self.instances() if one.last.rev is not None}
        if not self.convergence.check(shown, now):
            return []
        took_sec = self.convergence.took_sec
        more = {} if took_sec is None else {"took_sec": f"{took_sec:.3f}"}
        return [MeshEvent("converged", "", "", wall, self.convergence.at, more)]

    def instances(self) -> Iterator[Instance]:
        """Yield all instances; another thread than the event loop's may miss one that joins or leaves."""
        for found in list(self.services.values()):
            yield from list(found.values())

    def instances_of(self, svc: str) -> Mapping[str, Instance]:
        return self.services.get(svc, {})

    def add(self, one: Instance) -> None:
        found = self.services.setdefault(one.svc, {})
        found[one.boot] = one
        self._put_on_wheel(one.svc)
        if one.history.times or len(found) > 1:
            self._suspects.add(one.svc)

    def _drop(self, one: Instance) -> None:
        found = self.services.get(one.svc, {})
        found.pop(one.boot, None)
        if not found:
            self.services.pop(one.svc, None)

    def _make_succession_events(self, new: Instance, now: float, wall: float) -> list[MeshEvent]:
        """Return the events for a new instance: `joined`, or `restarted` if it succeeds another.

        Its predecessor left or, if this is the first beat of the new one, is overdue. A process that comes
        back after a silence succeeds nobody: it continues with the restarts that it had.
        """
        beside = self.instances_of(new.svc).values()
        overdue = [one for one in beside if one.is_overdue(now)]
        gone = self.departed.get(new.svc, [])
        itself = next((one for one in gone if one.boot and one.boot == new.boot), None)
        left = itself or next(reversed(gone), None)
        before = left.history if left is not None else None
        if left is not None:
            gone.remove(left)
        if not gone:
            self.departed.pop(new.svc, None)
        if before is None and overdue and new.i == 1:
            replaced = min(overdue, key=lambda one: one.heard_at)
            self._drop(replaced)
            before = replaced.history
        if len(beside) >= MAX_INSTANCES:
            self._drop(min(beside, key=lambda one: one.heard_at))
        if before is not None and itself is None:
            return _succeed(new, before, now, wall)
        if before is not None:
            new.history = before
        return [MeshEvent("joined", new.svc, new.boot, wall, new.last.rev)]

    def _remove(self, silent: list[Instance], now: float, wall: float) -> list[MeshEvent]:
        """Remove instances; return for each the event that it left, or that its successor restarted."""
        events = []
        for one in silent:
            self._drop(one)
        for one in silent:
            successor = self._find_successor(one)
            if successor is None:
                gone = self.departed.setdefault(one.svc, [])
                gone.append(Departed(one.boot, one.history, wall))
                del gone[:-MAX_DEPARTED]
                events.append(MeshEvent("left", one.svc, one.boot, wall, one.last.rev))
            else:
                events += _succeed(successor, one.history, now, wall)
                self._suspects.add(one.svc)
        return events

    def _find_successor(self, left: Instance) -> Instance | None:
        """Return the first instance that joined after the last beat of `left` and has no restarts."""
        after = [
            one
            for one in self.instances_of(left.svc).values()
            if one.joined_at > left.beat_at and not one.history.restarts
        ]
        return min(after, key=lambda one: one.joined_at, default=None)

    def _detect_faults(self, now: float, wall: float) -> list[MeshEvent]:
        """Return the events of conflicts and of crash loops that begin now."""
        events = []
        for svc in sorted(self._suspects | self.in_conflict):
            instances, replicas = self.instances_of(svc).values(), self.replicas.get(svc, inf)
            if len(instances) <= replicas:
                self.in_conflict.discard(svc)
            elif svc not in self.in_conflict and (count := count_at_once(instances, now)) > replicas:
                self.in_conflict.add(svc)
                newest = max(instances, key=lambda one: one.joined_at)
                more = {"count": str(count), "replicas": str(replicas)}
                events.append(MeshEvent("conflict", svc, newest.boot, wall, newest.last.rev, more))
            restarted = [one for one in instances if one.history.times]
            events += [_crash_loop(one, now, wall) for one in restarted if one.history.detect_crash_loop(now)]
            if len(instances) < 2 and not restarted:
                self._suspects.discard(svc)
        return events

    def _record_skew(self, one: Instance) -> None:
        # with the lower limit for the end, a clock that varies around the limit is reported once
        was, one.skewed = one.skewed, abs(one.skew_sec) > (SKEW_SEC / 2 if one.skewed else SKEW_SEC)
        if one.skewed and not was:
            self.skewed.append((one.svc, round(one.skew_sec, 3)))


def _succeed(new: Instance, history: RestartHistory, now: float, wall: float) -> list[MeshEvent]:
    new.history = history
    history.add(new.joined_at)
    events = [MeshEvent("restarted", new.svc, new.boot, wall, new.last.rev)]
    return [*events, _crash_loop(new, now, wall)] if history.detect_crash_loop(now) else events


def _crash_loop(one: Instance, now: float, wall: float) -> MeshEvent:
    more = {"restarts_hour": str(one.history.in_last_hour(now))}
    return MeshEvent("crash_loop", one.svc, one.boot, wall, one.last.rev, more)


def count_at_once(instances: Collection[Instance], now: float) -> int:
    """Return how many instances of a service provably ran at once.

    A killed instance stays in the topology until its timeout, beside its successor. So only those count that
    may still run, and of the others of them those that sent a beat after the last of them joined.
    """
    alive = [one for one in instances if not one.is_overdue(now)]
    counts = (
        1 + sum(one is not newest and one.joined_at <= newest.joined_at < one.beat_at for one in alive)
        for newest in alive
    )
    return max(counts, default=0)
