"""The history of a whole fleet: facts of the last hours, and sums of each hour before them. Pure.

The last hours are held as facts, so that an event that comes late, or one that says since when, changes them
exactly. An hour that lies EXACT_HOURS back is finished: its spans are counted, and only the counts are kept.
If an event then says that an outage began before that, the counts are corrected.

An hour of a service is kept only if it differs from that of its bus, and an hour of a bus only if the
healer did not listen to all of it. So a quiet service costs nothing but its name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from zlib import crc32

from marketswarm.beat import Beat
from marketswarm.event import Event, Kind
from marketswarm.history.listening import Listening, find_unheard, hear
from marketswarm.history.rollup import (
    HOUR_SEC,
    WINDOWS,
    PastOutage,
    Run,
    Seconds,
    count_hours,
    count_seconds,
    cut_runs,
    fill_runs,
    find_differences,
    make_down,
    replace_runs,
    sum_runs,
)
from marketswarm.history.spans import (
    Change,
    Fact,
    KnownState,
    Span,
    Timeline,
    clip,
    join,
    make_fact,
    paint,
    read_event,
)
from marketswarm.truth import HEALER

T = TypeVar("T")
EXACT_HOURS: Final = 6
"""How many full hours are held as facts, besides the one that has begun."""
KEPT_HOURS: Final = 400 * 24
PERIOD_HOURS: Final = 32 * 24
"""The hours of one stored key, which expires as a whole, so each hour is kept for at least 368 days."""
GONE_SEC: Final = 7 * 86_400
"""A service that is not in the truth for so long is forgotten; if it comes back, its history restarts."""
MAX_OUTAGES: Final = 32
MAX_KEPT: Final = 1000

_SERVICE_KINDS: Final = ("heartbeat_", "watch_")
"""How the kinds of events about services begin."""


def bus_subject(bus: str) -> str:
    """Return the key of a bus's hours; no service's name has a colon."""
    return f"bus:{bus}"


def bus_number(bus: str) -> int:
    """Return the number, below 2**32, by which the record of a service names its bus."""
    return crc32(bus.encode())


@dataclass(slots=True)
class ServiceHistory:
    """The history of one service, without its finished hours.

    `first` is its first hour, `outages` the last MAX_OUTAGES outages that are finished, as start and end;
    `gone_at` is when it was missing in the truth first, in epoch seconds. `bus` is the `bus_number` of its
    bus (None if that is not known), `moved_at` when it moved there: what that bus lost before does not count.
    """

    first: int
    timeline: Timeline
    outages: list[tuple[int, int]] = field(default_factory=list)
    gone_at: int | None = None
    bus: int | None = None
    moved_at: int = 0

    @property
    def is_quiet(self) -> bool:
        """True if the spans are those of the bus."""
        return self.timeline.is_quiet and self.moved_at <= self.timeline.begin


@dataclass(slots=True)
class UnsavedChanges:
    """What changed since it was stored last. `hours` has subjects with one of their periods each."""

    services: set[str] = field(default_factory=set)
    buses: set[str] = field(default_factory=set)
    hours: set[tuple[str, int]] = field(default_factory=set)
    progress: bool = False


class FleetHistory:
    """Hold the facts and the finished hours of a fleet; `final` is the first hour that is not finished."""

    def __init__(self, final: int, listening: Listening | None = None) -> None:
        begin = final * HOUR_SEC
        self.final = final
        self.listening = listening or Listening(begin)
        self.healer = Timeline(begin, KnownState.UP)
        """The presence of the healer: up while it listens to anything at all."""
        self.buses: dict[str, Timeline] = {}
        self.services: dict[str, ServiceHistory] = {}
        self.hours: dict[str, list[Run]] = {}
        """The finished hours of each subject that differ from what is expected."""
        self.bus_of: Mapping[str, str] = {}
        self.healer_timeout_sec = 30.0
        self.changes = UnsavedChanges()
        self._sums: dict[str, tuple[tuple[int, int], dict[str, Seconds]]] = {}
        self._kept: dict[tuple[object, ...], Any] = {}
        """What was computed for many services at once, until a bus or the healer changes."""
        self._unheard_version = 0

    # -- what is recorded

    def follow(self, bus_of: Mapping[str, str], healer_timeout_sec: float, now: int) -> list[str]:
        """Follow these services; return the new ones. One that is gone is forgotten after GONE_SEC."""
        self.bus_of, self.healer_timeout_sec = dict(bus_of), healer_timeout_sec
        for bus in dict.fromkeys(bus_of.values()):
            if bus not in self.buses:
                self.buses[bus] = Timeline(self.final * HOUR_SEC, KnownState.UP)
        for svc, record in list(self.services.items()):
            if svc in bus_of:
                if record.gone_at is not None:
                    record.gone_at = None
                    self.changes.services.add(svc)
            elif record.gone_at is None:
                record.gone_at = now
                record.timeline.add(make_fact(Change.UNWATCHED, now))
                self.changes.services.add(svc)
            elif now - record.gone_at > GONE_SEC:
                del self.services[svc]
                self.changes.services.add(svc)
        new = self._add_services(bus_of, now)
        self._forget_caches()
        self._sums.clear()
        return new

    def _add_services(self, bus_of: Mapping[str, str], now: int) -> list[str]:
        new = [svc for svc in bus_of if svc not in self.services]
        first = max(self.final, now // HOUR_SEC)
        for svc in new:
            self.services[svc] = ServiceHistory(first, Timeline(first * HOUR_SEC))
            self.changes.services.add(svc)
        numbers = {bus: bus_number(bus) for bus in set(bus_of.values())}
        for svc, bus in bus_of.items():
            if self.services[svc].bus != numbers[bus]:
                self._set_bus(svc, numbers[bus], now)
        return new

    def _set_bus(self, svc: str, number: int, now: int) -> None:
        """Note the bus of a service; if it moved there, keep what was unknown on the old one as its own."""
        record = self.services[svc]
        is_move, old = record.bus is not None, self._find_bus(record)
        record.bus = number
        self.changes.services.add(svc)
        if not is_move or svc == HEALER:
            return
        line, end = record.timeline, record.timeline.begin // HOUR_SEC
        first = max(record.first, end - KEPT_HOURS)
        if first < end:
            self._move_hours(svc, old or "", first, end)
        unheard = self.buses[old].unheard_spans(now) if old else ()
        for span in clip(unheard, max(line.begin, record.moved_at), now):
            line.add(Fact(span.end, Change.UNHEARD, span.start, span.end))
        record.moved_at = now

    def _move_hours(self, svc: str, old: str, first: int, end: int) -> None:
        """Keep the finished hours of a service as they differ from its present bus, not from its old one."""
        own, shared = self.hours.get(svc, ()), self._shared_runs(svc)
        before = self.hours.get(bus_subject(old), ())
        if before == shared:
            return
        # a whole bus may move at once
        key = ("moved", old, self._bus_of(svc), first, end, tuple(own))
        runs = self._keep(key, lambda: find_differences(fill_runs(own, before, first, end), shared))
        self._replace_hours(svc, runs, first, end)

    def _find_bus(self, record: ServiceHistory) -> str | None:
        return next((bus for bus in self.buses if bus_number(bus) == record.bus), None)

    def _bus_of(self, svc: str) -> str:
        """Return the last bus of a service that is gone; an empty text if none is known."""
        bus = self.bus_of.get(svc)
        return bus if bus is not None else self._find_bus(self.services[svc]) or ""

    def adopt(self, svc: str, state: KnownState, since: float) -> None:
        """Take over the healer's stored verdict on a service, if the events here do not say the same."""
        record = self.services.get(svc)
        if record is None or record.timeline.current() is state:
            return
        line = record.timeline
        if since < line.begin and not line.facts:
            record.timeline = Timeline(line.begin, state, refused=line.refused)
        else:
            newest = line.facts[-1].at if line.facts else line.begin
            line.add(make_fact(Change.UP if state is KnownState.UP else Change.DOWN, max(since, newest)))
        self.changes.services.add(svc)

    def apply_event(self, event: Event) -> None:
        fact = read_event(event)
        if fact is None:
            return
        if event.type.startswith(_SERVICE_KINDS):
            self._add_to_service(event.svc, fact)
        elif event.type in (Kind.HEALER_MISS, Kind.HEALER_OK):
            self._add_to_healer(fact)
            self._add_to_service(HEALER, fact)
            if event.type is Kind.HEALER_OK and fact.start < fact.end:
                # the sentinel knows better than the healer's beats, which are missing then
                self._add_to_service(HEALER, fact._replace(change=Change.SILENCE))
        elif event.type is Kind.REACH_GAP:
            self._add_to_healer(fact)
        elif (timeline := self.buses.get(event.svc)) is not None and timeline.add(fact):
            self.changes.buses.add(event.svc)
            self._forget_caches()

    def hear_healer(self, beat: Beat, at: float, started: float | None = None) -> None:
        """Record a beat of the healer, sent `at`: what it proves was listened to, and what was not."""
        self.listening, unheard = hear(self.listening, beat, int(at), self.healer_timeout_sec, started)
        self.changes.progress = True
        if unheard is not None:
            self.mark_unheard(*unheard)
            fact = Fact(unheard[1], Change.UNHEARD, *unheard)
            self._add_to_service(HEALER, fact)

    def mark_unheard(self, start: int, end: int) -> None:
        self._add_to_healer(Fact(end, Change.UNHEARD, start, end))

    def _add_to_healer(self, fact: Fact) -> None:
        if self.healer.add(fact):
            self.changes.progress = True
            self._forget_caches()

    def _add_to_service(self, svc: str, fact: Fact) -> None:
        record = self.services.get(svc)
        if record is None:
            return
        line = record.timeline
        reaches_back = (
            fact.change in (Change.DOWN, Change.UP)
            and fact.start < min(fact.end, line.begin)
            and line.state is not KnownState.DOWN
            and not line.reaches_back()
        )
        if not line.add(fact):
            return
        self.changes.services.add(svc)
        if reaches_back:
            self._correct(svc, record, fact.start, min(fact.end, line.begin))

    def _correct(self, svc: str, record: ServiceHistory, start: int, end: int) -> None:
        """Count a time in finished hours as down, because an outage that began then was reported later."""
        begin = record.timeline.begin // HOUR_SEC
        first = max(record.first, start // HOUR_SEC, begin - KEPT_HOURS)
        if first >= begin:
            return
        shared = self._shared_runs(svc)
        hours = fill_runs(self.hours.get(svc, ()), shared, first, begin)
        self._replace_hours(svc, find_differences(make_down(hours, start, end), shared), first, begin)
        _add_outage(record.outages, max(start, first * HOUR_SEC), end)

    # -- finished hours

    def due_hour(self, now: int) -> int:
        return now // HOUR_SEC - EXACT_HOURS

    def _finish_buses(self, target: int) -> None:
        """Count the hours of all buses before `target`. First of three steps; each may be repeated."""
        end = target * HOUR_SEC
        if self.listening.until < end:
            self._give_up_waiting(end)
        for bus in self.buses:
            spans = paint([Span(self.final * HOUR_SEC, end, KnownState.UP)], self._find_unheard(bus, end))
            runs = [run for run in count_hours(spans, self.final, target) if run.unknown]
            self._replace_hours(bus_subject(bus), runs, self.final, target)

    def _finish_service(self, svc: str, target: int) -> None:
        """Second step: count the hours of a service before `target`, and delete its facts before that."""
        record = self.services[svc]
        begin, end = record.timeline.begin, target * HOUR_SEC
        spans = self.spans(svc, end)
        for span in spans:
            if span.state is KnownState.DOWN:
                _add_outage(record.outages, span.start, span.end)
        first = begin // HOUR_SEC
        runs = count_hours(spans, first, target)
        self._replace_hours(svc, find_differences(runs, self._shared_runs(svc)), first, target)
        record.timeline.advance(end)
        self.changes.services.add(svc)

    def finish_in_steps(self, target: int) -> Iterator[None]:
        """Yield after each short step; answers between are right. If given up, begin the steps again."""
        end = target * HOUR_SEC
        self._finish_buses(target)
        yield
        for svc, record in list(self.services.items()):
            if record.is_quiet:
                record.timeline.advance(end)
            elif record.timeline.begin < end:
                self._finish_service(svc, target)
            yield
        if target // PERIOD_HOURS != self.final // PERIOD_HOURS:
            for name, runs in list(self.hours.items()):
                self.hours[name] = cut_runs(runs, target - KEPT_HOURS, target)
                if not self.hours[name]:
                    del self.hours[name]
                yield
        # last, because the services before needed the facts of healer and buses
        for timeline in (self.healer, *self.buses.values()):
            timeline.advance(end)
        self.final = target
        self.changes.progress = True
        self.changes.buses |= self.buses.keys()
        self._forget_caches()

    def _give_up_waiting(self, end: int) -> None:
        """Record that no healer listened from the last beat to `end`: later beats prove the rest."""
        start = self.listening.until
        self.mark_unheard(start, end)
        record = self.services.get(HEALER)
        if record is not None and record.timeline.current() is not KnownState.DOWN:
            self._add_to_service(HEALER, Fact(end, Change.UNHEARD, start, end))
        self.listening = self.listening._replace(until=end)
        self.changes.progress = True

    def _replace_hours(self, subject: str, runs: Sequence[Run], first: int, end: int) -> None:
        old = self.hours.get(subject, [])
        new = replace_runs(old, runs, first, end)
        if new == old:
            return
        self.hours[subject] = new
        if not new:
            del self.hours[subject]
        if subject in self.services:
            self._sums.pop(subject, None)
        else:
            self._sums.clear()
            self._forget_caches()
        for period in range(first // PERIOD_HOURS, (end - 1) // PERIOD_HOURS + 1):
            low, high = period * PERIOD_HOURS, (period + 1) * PERIOD_HOURS
            if cut_runs(old, low, high) != cut_runs(new, low, high):
                self.changes.hours.add((subject, period))

    def _shared_runs(self, svc: str) -> Sequence[Run]:
        """Return the hours of its bus; none for the healer, which only the sentinel listens to."""
        return () if svc == HEALER else self.hours.get(bus_subject(self._bus_of(svc)), ())

    # -- what is asked

    def spans(self, svc: str, end: int) -> list[Span]:
        """Return the spans of a service from its last finished hour to `end`, without holes."""
        record = self.services[svc]
        line, bus = record.timeline, self._bus_of(svc)
        if svc == HEALER:
            silent = find_unheard(self.listening, end, self.healer_timeout_sec)
            shown = silent is not None and line.current() is not KnownState.DOWN
            return line.spans([Span(*silent, KnownState.UNKNOWN)] if silent and shown else (), end)
        if record.moved_at > line.begin:
            return line.spans(self._list_unheard(bus, end, record.moved_at), end)
        if not record.is_quiet:
            return line.spans(self._find_unheard(bus, end), end)
        key = ("quiet", bus, line.begin, end, self.listening.until)
        return self._keep(key, lambda: line.spans(self._find_unheard(bus, end), end))

    def recent(self, svc: str, now: int) -> list[Span]:
        """Return the spans of the last full hour and of the one that has begun, up to `now`, without holes.

        What was before a history began is unknown, and so is all of a service that has none.
        """
        begin = (now // HOUR_SEC - 1) * HOUR_SEC
        known = clip(self.spans(svc, now), begin, now) if svc in self.services else []
        return join([Span(begin, known[0].start if known else now, KnownState.UNKNOWN), *known])

    def recent_key(self, svc: str, now: int) -> tuple[int, ...]:
        """Return a key of what `recent` returns: while it is the same, only the last end moves."""
        silent = find_unheard(self.listening, now, self.healer_timeout_sec)
        line = self.services[svc].timeline
        return (now // HOUR_SEC, self._unheard_version, line.version, silent[0] if silent else -1)

    def uptime(self, svc: str, now: int) -> dict[str, Seconds]:
        """Return for each window of WINDOWS the seconds of a service; all 0 for one without a history."""
        record = self.services.get(svc)
        if record is None:
            return dict.fromkeys(WINDOWS, Seconds())
        spans, found = self.spans(svc, now), {}
        for name, finished in self._sum_finished(svc, record, now // HOUR_SEC).items():
            begin = max(record.timeline.begin, (now // HOUR_SEC - WINDOWS[name]) * HOUR_SEC)
            found[name] = finished.plus(count_seconds(spans, begin, now))
        return found

    def outages(self, svc: str, now: int) -> list[PastOutage]:
        """Return the last outages of a service, oldest first: at least MAX_OUTAGES if there were so many."""
        record = self.services.get(svc)
        if record is None:
            return []
        found = list(record.outages)
        spans = self.spans(svc, now)
        for span in spans:
            if span.state is KnownState.DOWN:
                _add_outage(found, span.start, span.end, most=2**31)
        lasts = bool(spans) and spans[-1].state is KnownState.DOWN and spans[-1].end == now
        ended = [PastOutage(start, end) for start, end in found]
        return [*ended[:-1], PastOutage(ended[-1].start, None)] if lasts else ended

    def finished_hours(self, svc: str, first: int, end: int) -> list[Run]:
        record = self.services.get(svc)
        if record is None:
            return []
        begin, to = max(first, record.first), min(end, record.timeline.begin // HOUR_SEC)
        return fill_runs(self.hours.get(svc, ()), self._shared_runs(svc), begin, to) if begin < to else []

    def _sum_finished(self, svc: str, record: ServiceHistory, hour: int) -> dict[str, Seconds]:
        """Return for each window the sums of the hours that are finished, before the one that has begun."""
        key, end = (hour, record.timeline.begin), record.timeline.begin // HOUR_SEC
        known = self._sums.get(svc)
        if known is None or known[0] != key:
            firsts = {name: max(record.first, hour - hours) for name, hours in WINDOWS.items()}
            known = key, {name: self._sum_hours(svc, first, end) for name, first in firsts.items()}
            self._sums[svc] = known
        return known[1]

    def _sum_hours(self, svc: str, first: int, end: int) -> Seconds:
        if first >= end:
            return Seconds()
        own, shared = self.hours.get(svc, ()), self._shared_runs(svc)
        if own or svc == HEALER:
            return sum_runs(fill_runs(own, shared, first, end))
        return self._keep(
            ("sum", self._bus_of(svc), first, end), lambda: sum_runs(fill_runs((), shared, first, end))
        )

    def _find_unheard(self, bus: str, end: int) -> list[Span]:
        key = ("unheard", bus, end, self.listening.until)
        return self._keep(key, lambda: self._list_unheard(bus, end))

    def _list_unheard(self, bus: str, end: int, since: int = 0) -> list[Span]:
        """Return the spans up to `end` without a healer, and those from `since` on without the bus."""
        found = self.healer.unheard_spans(end)
        silent = find_unheard(self.listening, end, self.healer_timeout_sec)
        if silent is not None:
            found.append(Span(*silent, KnownState.UNKNOWN))
        if bus in self.buses:
            found += clip(self.buses[bus].unheard_spans(end), since, end)
        return found

    def _keep(self, key: tuple[object, ...], compute: Callable[[], T]) -> T:
        """Return what was computed for a key; compute it if it was not, or MAX_KEPT others were since."""
        if key not in self._kept:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = compute()
        found: T = self._kept[key]
        return found

    def _forget_caches(self) -> None:
        self._kept.clear()
        self._unheard_version += 1


def _add_outage(outages: list[tuple[int, int]], start: int, end: int, most: int = MAX_OUTAGES) -> None:
    """Add an outage to a list in order, made one with those that it touches; keep the last `most`."""
    touching = [one for one in outages if one[0] <= end and start <= one[1]]
    for one in touching:
        outages.remove(one)
    outages.append((min([start, *(a for a, _ in touching)]), max([end, *(b for _, b in touching)])))
    outages.sort()
    del outages[:-most]
