"""Who is watched, on which bus, and what a change of that means.

Pure. Holds the records; what becomes of them while time passes is `judgement.py`.
"""

from collections.abc import Iterable, Mapping

from marketswarm.detector.clock import Moment
from marketswarm.detector.record import Heard, Record
from marketswarm.detector.verdict import TRANSITIONS, Of, On, Reason, State, Told, Verdict
from marketswarm.detector.watched_bus import WatchedBus
from marketswarm.truth import Watch


class Roster:
    """Every watched service and bus."""

    def __init__(self) -> None:
        self.buses: dict[str, WatchedBus] = {}
        self.records: dict[str, Record] = {}
        self.dirty: dict[str, Record | None] = {}
        """Silences to be remembered beyond this process, or (None) to be forgotten; the owner empties it."""
        self.held = True
        """Nothing is concluded of a service yet that what an earlier run knew of it may change."""

    def rewatch(self, watches: Iterable[Watch], buses: Mapping[str, float], now: Moment) -> list[Verdict]:
        """Puts a roster in force: `buses` by name, with the seconds after which each counts as lost.

        Every watch's bus must be among them. Returns the verdicts on services no longer watched.
        """
        for name, timeout_sec in buses.items():
            self.buses.setdefault(name, WatchedBus(name, timeout_sec, now)).timeout_sec = timeout_sec
        wanted = {watch.svc: watch for watch in watches}
        gone = [svc for svc, record in self.records.items() if record.refused and svc not in wanted]
        verdicts = [Verdict(svc, State.UNWATCHED, Told.ALERT, now.wall, of=Of.WATCH) for svc in gone]
        verdicts += [self._drop(svc, now) for svc in sorted(self.records.keys() - wanted.keys())]
        for watch in wanted.values():
            self._enlist(watch, now)
        self.buses = {name: self.buses[name] for name in buses}
        for bus in self.buses.values():
            bus.channels = {}
        for record in self.records.values():
            record.bus.channels[record.watch.channel.encode()] = record
        return verdicts

    def _drop(self, svc: str, now: Moment) -> Verdict:
        record = self.records.pop(svc)
        record.gone = True
        self.dirty[svc] = None
        return self._move(record, On.REMOVED, now, before=record.last)

    def _enlist(self, watch: Watch, now: Moment) -> None:
        old = self.records.get(watch.svc)
        if old is not None and old.watch == watch:
            return
        bus = self.buses[watch.bus]
        running = bus.clock.running(now.mono)
        record = Record(watch, bus, running)
        record.held = self.held if old is None else old.held
        if old is not None:
            # a new record for the old silence: whatever changed, it is never due before a warm-up from now
            old.vet()
            old.gone = True
            before = running - old.silence(old.bus.clock.running(now.mono))
            record.enter = before
            record.last = None if old.last is None else old.last._replace(at=before)
            record.state, record.boots, record.stopped = old.state, old.boots, old.stopped
            record.misses, record.forgotten = old.misses, old.forgotten
            record.refused = old.refused  # until its bus says otherwise
            record.floor = running + record.warm_up_sec
            record.inherit(old)
            if old.marked:  # what is remembered of it must not stay a reading of another clock
                record.marked = True
                self.dirty[watch.svc] = record
        self.records[watch.svc] = record
        bus.file(record)

    def _move(self, record: Record, on: On, now: Moment, *, before: Heard | None) -> Verdict:
        """Takes a record to its next state; `before` is the last beat before what moves it."""
        was = record.state
        record.state, told = TRANSITIONS[was, on]
        due, beat = on is On.DUE, on is On.BEAT
        record.misses += due
        since = None if before is None else before.wall
        return Verdict(
            record.watch.svc,
            record.state,
            told,
            now.wall,
            reason=_reason(record) if due else None,
            late_sec=record.silence(record.bus.clock.running(now.mono)) if due else None,
            overdue_sec=record.bus.clock.running(now.mono) - record.due() if due else None,
            timeout_sec=record.watch.timeout_sec,
            age_sec=now.mono - record.last.mono if beat and record.last else None,
            down_sec=now.mono - before.mono if was is State.DOWN and beat and before else None,
            since=since,
            boot=record.boot(),
            i=record.boots.get(record.boot() or ""),
        )


def _reason(record: Record) -> Reason:
    if record.stopped:
        return Reason.STOPPED
    return Reason.NEVER_SEEN if record.last is None else Reason.SILENT
