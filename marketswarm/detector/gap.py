"""What happened while nobody listened: the next beat held against the last one before a gap.

Pure. A beat's `boot` and `i` show that its process is another one than before, or that it beat too seldom to
have lived through. Whatever is concluded must be proven, so `gap_sec` is a lower bound:

- n beats of one process cover n times its pace, and a tenth more; what they leave uncovered was silence. Its
  pace is the slowest that was measured while it could be heard, for a service may beat as slowly as its
  timeout lets it. Where none was measured, n beats leave a silence of at least their time over n, and that is
  all. Many beats that came somewhat slower than before would look like one silence: less than a quarter of it
  all is none.
- Of a process that is gone nobody knows when it beat last, unless it said goodbye, or the second witness
  still held its last beat when the listening began again.
- While a bus was mute its senders could not beat, and some do not count what they could not send.
- How long a silence may be says the timeout that was in force when it began, not a shorter one since.

Time is the smaller of what the listener's clock and the beats' own `ts` say: a step of one proves nothing.
And nothing is told before the listener has heard the service for a timeout more: if an instance from before
beats again, the new one was no successor but a second one.
"""

from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from marketswarm.beat import Beat, parse
from marketswarm.detector.clock import Moment
from marketswarm.detector.verdict import Noted, State, Testimony, Told, Verdict
from marketswarm.event import Kind

if TYPE_CHECKING:  # they name each other
    from marketswarm.detector.record import Heard, Record

TURNS_TO_CATCH_UP: Final = 1
ALLOWANCE: Final = 1.1
LEAST_PART: Final = 0.25


class Known(NamedTuple):
    """The last beat before a gap, and what is known of that time.

    `heard` is when this run heard it, if it did. `among` are the instances known by then, and there was
    `company` when another one of them beat as well. `pace_sec` is the longest time between its beats, 0 where
    none was measured; `allowed_sec` the timeout that it had to keep then. `final`: nobody beat after it until
    the listening began again, at the clock's `turn`. `again`: one of them was heard since, while what had
    piled up was still being heard. `proven_sec` is a silence before this beat that is proven already;
    `counted_from` the `i` at which that counting began.
    """

    boot: str
    i: int
    ts: float
    wall: float
    mono: float
    among: frozenset[str]
    counted_from: int
    heard: "Heard | None" = None
    pace_sec: float = 0.0
    allowed_sec: float = 0.0
    company: bool = False
    stopped: bool = False
    final: bool = False
    turn: int = 0
    again: bool = False
    proven_sec: float = 0.0

    def since(self, ts: float, mono: float) -> float:
        """Seconds from this beat to another, at most what either clock says."""
        return min(ts - self.ts, mono - self.mono)

    def silence(self, sec: float, beats: int) -> float:
        """The longest in `sec` seconds, at the end of which the process had beaten so many times more."""
        if sec <= 0.0 or beats < 1 or self.company:
            return 0.0
        least = sec / beats
        if not self.pace_sec:
            return least
        uncovered = sec - (beats - 1) * ALLOWANCE * self.pace_sec
        return max(least, uncovered) if uncovered >= LEAST_PART * sec else least


@dataclass(slots=True, eq=False)
class Case:
    """What is to be told of a gap once the service was heard for a timeout more.

    `at` is when it was opened, by the listening clock.
    """

    record: "Record"
    known: Known
    at: float
    boot: str
    i: int
    gap_sec: float
    restarted: bool
    closed: bool = False

    def due(self) -> float:
        """When it may be told, by the listening clock; infinity once it is closed."""
        if self.closed:
            return inf
        return max(self.at, self.record.bus.clock.gap_end) + self.record.watch.timeout_sec

    def falls_with(self, boot: str | None) -> bool:
        """Whether a beat of that instance, heard when it was sent, shows that nothing is proven."""
        return boot in self.known.among if self.restarted else boot != self.boot

    def verdict(self, now: Moment) -> Verdict:
        """The case as it is told; whoever concludes the same gives it the same mark."""
        watch = self.record.watch
        mark = f"{Kind.HEARTBEAT_GAP}.{watch.svc}.{_short(self.known.boot)}"
        return Verdict(
            watch.svc,
            State.UP,
            Told.ALERT,
            now.wall,
            timeout_sec=watch.timeout_sec,
            since=self.known.wall,
            boot=self.boot,
            i=self.record.boots.get(self.boot, self.i),
            gap_sec=self.gap_sec,
            restarted=self.restarted,
            mark=mark if self.restarted else f"{mark}.{self.known.counted_from}",
        )


def _short(boot: str) -> str:
    """A boot is foreign text of any kind; an event's id must fit into headers."""
    return sha256(boot.encode()).hexdigest()[:16]


def before_the_gap(record: "Record") -> Known | None:
    """What a run that listened before the gap knows; None where no `boot` tells processes apart."""
    heard, beat = record.sure, parse(record.vetted, record.watch.svc)
    if heard is None or not isinstance(beat, Beat) or beat.boot is None:
        return None
    return Known(
        beat.boot,
        beat.i,
        beat.ts,
        heard.wall,
        heard.mono,
        frozenset(record.boots),
        beat.i,
        heard,
        pace_sec=record.pace_sec and max(record.pace_sec, record.watch.interval_sec),
        allowed_sec=record.allowed_sec(),
        company=bool(record.company()),
        stopped=record.stopped,
    )


def before_the_start(record: "Record", noted: Noted, testimony: Testimony | None, now: Moment) -> Known:
    """What an earlier run noted, and what the second witness adds to it."""
    known = Known(
        noted.boot,
        noted.i,
        noted.ts,
        noted.wall,
        now.mono - (now.wall - noted.wall),
        frozenset((noted.boot, *noted.beside)),
        noted.i,
        pace_sec=noted.pace_sec and max(noted.pace_sec, record.watch.interval_sec),
        allowed_sec=noted.timeout_sec,
        company=bool(noted.beside),
        stopped=noted.stopped,
        turn=record.bus.clock.turns,
        again=record.voice in (noted.boot, *noted.beside),
    )
    return known if testimony is None else _attested(known, testimony, now)


def _attested(known: Known, testimony: Testimony, now: Moment) -> Known:
    beat, age_sec = testimony.beat, testimony.age_sec
    goodbye = beat.status == "stopping"
    i = beat.i - goodbye  # the key of a goodbye has the age of the beat before it
    if age_sec is None or beat.boot != known.boot or i < known.i:
        return known
    sec = known.since(beat.ts, now.mono - age_sec)
    return known._replace(
        i=i,
        ts=beat.ts,
        mono=now.mono - age_sec,
        stopped=known.stopped or goodbye,
        final=True,
        proven_sec=known.silence(sec, i - known.i),
    )


def open_case(record: "Record", known: Known, beat: Beat, heard: "Heard") -> Case | None:
    """Judges the first beat after a gap; None when it proves nothing worth telling."""
    clock, timeout_sec = record.bus.clock, max(record.watch.timeout_sec, known.allowed_sec)
    restarted = beat.boot not in known.among
    if beat.boot is None or (restarted and known.again and clock.caught_up):
        return None  # it can't be told apart, or was replaced while that could be heard
    sec = known.since(beat.ts, heard.mono) - clock.muted_since(known.mono, heard.mono)
    gap_sec = known.proven_sec if known.proven_sec >= timeout_sec else 0.0
    if restarted:
        ended = known.final and clock.turns - known.turn <= TURNS_TO_CATCH_UP
        if ended or (known.stopped and not known.company):
            gap_sec = max(gap_sec, sec / max(1, beat.i))
    elif beat.boot == known.boot:
        gap_sec = max(gap_sec, known.silence(sec, beat.i - known.i))
    if gap_sec >= timeout_sec or (restarted and not known.stopped):
        return Case(record, known, heard.at, beat.boot, beat.i, gap_sec, restarted)
    return None
