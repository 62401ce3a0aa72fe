"""One bus as the healer sees it: its listening clock, its services, and whether it is lost.

Losing a bus is one fact, not a hundred: its services' clocks stand still meanwhile.
"""

from collections.abc import Sequence
from math import inf
from typing import Final

from marketswarm.detector.clock import ListeningClock, Moment
from marketswarm.detector.gap import Case
from marketswarm.detector.record import Record
from marketswarm.detector.share import ProvenShare, Window
from marketswarm.detector.verdict import BUS_TRANSITIONS, Of, On, State, Told, Verdict
from marketswarm.detector.wheel import TimingWheel

AT_ONCE: Final = 2000
"""Services taken up in one look at the clocks: some milliseconds of work."""


class WatchedBus:
    """Mutable, and changed by `Liveness` alone.

    Args:
        name: what the truth calls it.
        timeout_sec: seconds without a canary after which it is declared lost.
        start: when the watching began.
    """

    __slots__ = (
        "cases",
        "channels",
        "clock",
        "deaf",
        "looked_at",
        "lost",
        "more",
        "name",
        "refused",
        "share",
        "state",
        "timeout_sec",
        "turn",
        "waiting",
        "wheel",
    )

    def __init__(self, name: str, timeout_sec: float, start: Moment) -> None:
        self.name = name
        self.timeout_sec = timeout_sec
        self.clock = ListeningClock(start)
        self.share = ProvenShare(self.clock, start)
        self.channels: dict[bytes, Record] = {}
        self.wheel: TimingWheel[Record] = TimingWheel(_when)
        self.cases: TimingWheel[Case] = TimingWheel(Case.due)
        self.refused: frozenset[bytes] | None = None  # channels that may not be heard; None until a session
        self.turn = 0  # the clock's turn at which everyone's next beat was last asked to be parsed
        self.waiting: list[Record] = []  # due by the running clock: the next canary proves it
        self.looked_at = -inf  # what the clock had proven when all who wait were looked at last
        self.more = False  # some of them were put off to the next look
        self.state = State.UNKNOWN
        self.lost: Moment | None = None  # while it is down: when it was last heard, if ever
        self.deaf = False  # while it is down: it was lost as deaf, and one canary does not end that

    @property
    def hardly_heard(self) -> bool:
        """Whether it was heard for too little of the time of late, though it may be heard just now."""
        return self.deaf or self.share.poor > 0

    def file(self, record: Record) -> None:
        """Puts a record on the wheel, unless it lies there already.

        An entry that lies there is never too late: a beat only moves what is due to a later time, and a
        mark that follows an unheard half of a timeout comes no earlier than the due time before it.
        """
        if not record.filed:
            record.filed = True
            self.wheel.file(record)

    def ripe(self, running: float) -> list[Record]:
        """Takes off the wheel what wants a look at this reading of the listening clock, some at a time."""
        found = self.wheel.ripe(running, AT_ONCE)
        for record in found:
            record.filed = False
        return found

    def due_now(self, running: float) -> list[Record]:
        """Take out what wants a look; those who wait for a canary, only when one has come since.

        However many fall due at once, one look takes up some of them, and the next look is due at once.
        """
        found = self.ripe(running)
        if self.looked_at != self.clock.proven:
            found, self.waiting = [*self.waiting, *found], []
        self.looked_at, self.more = self.clock.proven, False
        return found

    def put_off(self, records: Sequence[Record]) -> None:
        """Leave some of them to the next look, which is due at once."""
        self.waiting += records
        self.looked_at, self.more = -inf, True

    def ask_again(self, record: Record) -> None:
        """Have a suspect that could not be asked looked at with the next look."""
        self.waiting.append(record)
        self.looked_at = -inf

    def estrange(self) -> None:
        """Has everyone's next beat parsed: hearing was lost since, or is whole again."""
        self.turn = self.clock.turns
        for record in self.channels.values():
            record.estrange()

    def judge(self, now: Moment, *, may_blame: bool) -> Verdict | None:
        """Declares the bus lost once it could not be heard for its timeout, or for too much of the time.

        And found, where that takes more than one canary. `may_blame`: a bus that is not heard at all is
        away, and not this listener.
        """
        window = self.share.look(self.timeout_sec, now)
        if self.state is State.DOWN:
            return self._regain(now) if self.deaf and window is Window.GOOD else None
        if self.share.deaf:
            since = self.share.since
            return self._lose("deaf", now.mono - since.mono, since, now)
        silent_sec = self.clock.unheard_for(now.mono)
        if self.clock.listening or not may_blame or silent_sec < self.timeout_sec:
            return None
        return self._lose(self.clock.reason, silent_sec, self.clock.proof, now)

    def regained(self, now: Moment) -> Verdict | None:
        """Notes that the bus is heard."""
        if self.state is State.UP or (self.state is State.DOWN and self.deaf):
            return None
        return self._regain(now)

    def _lose(self, reason: str, late_sec: float, since: Moment, now: Moment) -> Verdict | None:
        self.lost = since if self.state is State.UP else None
        self.deaf = reason == "deaf"
        return self._move(
            On.DUE,
            now,
            reason=reason,
            late_sec=late_sec,
            timeout_sec=self.timeout_sec,
            since=None if self.lost is None else self.lost.wall,
        )

    def _regain(self, now: Moment) -> Verdict | None:
        self.deaf = False
        self.share.restart(now)
        if (lost := self.lost) is None:
            return self._move(On.BEAT, now)
        return self._move(On.BEAT, now, down_sec=now.mono - lost.mono, since=lost.wall)

    def _move(self, on: On, now: Moment, **found: float | str | None) -> Verdict | None:
        self.state, told = BUS_TRANSITIONS[self.state, on]
        if told is Told.FORGOTTEN:
            return None
        return Verdict(self.name, self.state, told, now.wall, of=Of.BUS, **found)  # type: ignore[arg-type]  # the callers above name the fields


def _when(record: Record) -> float:
    at = record.next_at()
    if at == inf:
        record.filed = False  # the wheel lets go of it
    return at


NO_TIMEOUT: Final = inf
"""For a listener that leaves the telling of lost buses to others."""
