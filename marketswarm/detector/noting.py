"""What a later run must know of each service's last beat, picked a few at a time.

Pure. A new instance and a goodbye are noted with the next save; of all others the latest beat is, as often as
is worth it and no oftener than the budget allows: a service that nobody notes for a while costs nothing but
precision, should the listener go away.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from math import inf
from typing import Final

from marketswarm.beat import Beat, parse
from marketswarm.detector.record import Record
from marketswarm.detector.verdict import Noted

NOTES_PER_SEC: Final = 1000
"""What keeps a hundred thousand services cheap: each is looked at every 100 s then."""


class Notes:
    """Asked once a second for what is to be saved.

    Args:
        records: the roster, as it is at any time.
        vet: makes sure of the beat that a record took at sight.
    """

    def __init__(self, records: dict[str, Record], vet: Callable[[Record], None]) -> None:
        self._records = records
        self._vet = vet
        self._urgent: dict[str, None] = {}
        self._round: Iterator[Record] = iter(())
        self._asked = -inf

    def urge(self, svc: str) -> None:
        """Something happened to a service that a later run must know."""
        self._urgent[svc] = None

    def take(self, now: float) -> dict[str, Noted | None]:
        """What is to be saved now (monotonic seconds), None for what is to be forgotten.

        What could not be saved is given back with `urge`.
        """
        budget = int(min(1.0, now - self._asked) * NOTES_PER_SEC)
        if budget < 1:
            return {}
        self._asked = now
        found: dict[str, Noted | None] = {}
        for svc in list(islice(self._urgent, budget)):
            del self._urgent[svc]
            record = self._records.get(svc)
            if record is None:
                found[svc] = None
            elif (noted := self._note(record)) is not None:
                found[svc] = noted
        for record in self._next(budget - len(found)):
            if not record.gone and _is_worth_it(record) and (noted := self._note(record)) is not None:
                found[record.watch.svc] = noted
        return found

    def _next(self, count: int) -> list[Record]:
        some = list(islice(self._round, count))
        if len(some) < count:
            self._round = iter(list(self._records.values()))
        return some

    def _note(self, record: Record) -> Noted | None:
        """The last beat that was heard; none while it is open what became of the one before a gap."""
        self._vet(record)
        heard, beat = record.sure, parse(record.vetted, record.watch.svc)
        if record.case is not None or (record.before is not None and record.before.heard != heard):
            return None
        if heard is None or not isinstance(beat, Beat) or beat.boot is None:
            return None
        record.noted = heard.at
        record.measure(beat.boot, beat.i, heard.mono)
        beside = {boot: record.boots.get(boot, 0) for boot in record.company()}
        pace_sec, timeout_sec = record.pace_sec, record.allowed_sec()
        return Noted(beat.boot, beat.i, beat.ts, heard.wall, record.stopped, beside, pace_sec, timeout_sec)


def _is_worth_it(record: Record) -> bool:
    return record.last is not None and record.last.at - record.noted >= record.watch.timeout_sec / 2
