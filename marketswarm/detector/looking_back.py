"""When beats are held against those from before a gap: the cases, from the gap's end to their telling.

Pure. What a case is, and what proves one, is `gap.py`; this knows when to look, and what makes a case fall.
"""

from marketswarm.beat import Beat
from marketswarm.detector.clock import Moment
from marketswarm.detector.gap import before_the_gap, open_case
from marketswarm.detector.noting import Notes
from marketswarm.detector.record import Heard, Record
from marketswarm.detector.verdict import Verdict
from marketswarm.detector.watched_bus import WatchedBus


class LookingBack:
    """Told of every beat that is parsed, and so of the first of each service after a gap.

    Args:
        notes: where a later run reads what became of a service.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def meets(self, record: Record) -> None:
        """A beat came, and nothing is known of it yet: is the one before it from before a gap?"""
        if record.met != record.bus.clock.turns and record.before is None:
            record.before = before_the_gap(record)

    def said_goodbye(self, record: Record, beat: Beat) -> None:
        """A `stopping` beat: what follows is planned."""
        if record.before is not None and beat.boot == record.before.boot:
            record.before = record.before._replace(stopped=True)
        self._notes.urge(record.watch.svc)

    def other_voice(self, record: Record, boot: str | None) -> None:
        """Another instance beats than the last time, or one that had said goodbye."""
        if boot != record.voice:
            record.hand_over(boot)
            _drop_if_it_falls(record, boot)
        self._notes.urge(record.watch.svc)

    def look(self, record: Record, beat: Beat, heard: Heard) -> None:
        """Holds the first beat after a gap against the last one before it."""
        record.met = record.bus.clock.turns
        _drop_if_it_falls(record, beat.boot)
        known = record.before
        if known is None:
            return
        if not record.bus.clock.caught_up and (beat.boot is None or beat.boot in known.among):
            # how late it is nobody knows: what piled up meanwhile is still being heard
            record.before = known._replace(again=True)
            return
        case = open_case(record, known, beat, heard)
        record.before = None
        self._notes.urge(record.watch.svc)
        # of two gaps in a row the first restart is told: the second came of it
        if case is not None and (record.case is None or not record.case.restarted):
            record.drop_case()
            record.case = case
            record.bus.cases.file(case)

    def closed(self, bus: WatchedBus, now: Moment) -> list[Verdict]:
        """What happened in gaps, and may be told by now."""
        found = []
        for case in bus.cases.ripe(bus.clock.proven):
            record = case.record
            if record.case is not case or record.gone:
                continue
            if record.last is None or record.last.at <= case.at:
                bus.cases.file(case)  # it beat once: that may yet become a miss
                continue
            found.append(case.verdict(now))
            record.drop_case()
            self._notes.urge(record.watch.svc)
        return found


def _drop_if_it_falls(record: Record, boot: str | None) -> None:
    """What piled up proves nothing here: a bus that was frozen hands out old beats in any order."""
    if record.case is not None and record.bus.clock.caught_up and record.case.falls_with(boot):
        record.drop_case()
