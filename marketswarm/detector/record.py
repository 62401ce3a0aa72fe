"""What is known of one watched service, and DETECTION's rule for when it falls due.

Pure. `at` is always a reading of the listening clock of the service's bus.

A beat that differs from the last parsed one in nothing but a later `i` and `ts` is taken at sight: same
beginning, same end, same length, and greater byte by byte. Its parse is put off until someone asks for the
record (`vet`), which is seldom: the wheel does twice a timeout. Should the parse find that it was none, the
last beat that was parsed counts again. So a burst costs a third, and no verdict rests on an unparsed beat.
"""

from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from marketswarm.beat import Beat, parse
from marketswarm.detector.clock import Moment
from marketswarm.detector.verdict import State
from marketswarm.truth import MOST_REPLICAS, Watch

if TYPE_CHECKING:  # they name each other
    from marketswarm.detector.gap import Case, Known
    from marketswarm.detector.watched_bus import WatchedBus

BOOTS_KEPT: Final = 2 * MOST_REPLICAS
"""Instances of a service whose highest `i` is remembered: all that a truth allows, and as many before them.

Whoever invents a new one with each beat makes those be forgotten that were silent longest.
"""


SLOWLY: Final = 0.9
"""What becomes of a pace that was measured each time that a faster one is."""

UNFAMILIAR: Final = b"\xff"
"""A beginning that no JSON has."""


class Heard(NamedTuple):
    """When a beat was heard, on three clocks, in seconds; one for all the beats that came at once."""

    at: float
    mono: float
    wall: float


def warm_up(interval_sec: float, timeout_sec: float) -> float:
    """The reference's formula, in seconds: how long a service has to show up after a gap."""
    return min(timeout_sec, max(2 * interval_sec, 0.75 * timeout_sec))


class Record:
    """One service's place in the roster. Mutable, and changed by `Liveness` alone."""

    __slots__ = (
        "allowance",
        "asked",
        "before",
        "beside",
        "boots",
        "bus",
        "case",
        "enter",
        "filed",
        "floor",
        "forgotten",
        "gone",
        "head",
        "hearsay",
        "held",
        "last",
        "marked",
        "met",
        "misses",
        "noted",
        "pace_sec",
        "paced",
        "payload",
        "refused",
        "size",
        "state",
        "stopped",
        "sure",
        "tail",
        "vetted",
        "voice",
        "warm_up_sec",
        "watch",
    )

    def __init__(self, watch: Watch, bus: "WatchedBus", enter: float) -> None:
        self.watch = watch
        self.bus = bus
        self.warm_up_sec = warm_up(watch.interval_sec, watch.timeout_sec)
        self.state = State.UNKNOWN
        self.last: Heard | None = None
        self.enter = enter  # when it was first watched
        self.floor = -inf  # never due before: what a change of interval or timeout grants
        self.boots: dict[str, int] = {}  # the highest `i` of each instance, the oldest instance first
        self.forgotten = 0  # the sum of those that were dropped from there
        self.misses = 0  # how often it was declared down
        self.marked = False  # its silence is being remembered beyond this process
        self.stopped = False  # it said goodbye, and nothing since
        self.refused: Moment | None = None  # since when its bus does not let us hear its channel
        self.asked = False  # the second witness is being asked
        self.filed = False  # it lies on its bus's wheel: there is one entry for a record, never two
        # the beat that would be taken at sight: its beginning, its end, its length, and the last such one
        self.head = UNFAMILIAR
        self.tail = b""
        self.size = 0
        self.payload = b""
        self.vetted = b""  # the last payload that was parsed, and when it was heard
        self.sure: Heard | None = None
        self.allowance: tuple[Heard, float] | None = None  # a beat under another truth, and its timeout
        self.hearsay: Heard | None = None  # the last beat that only the second witness knew
        self.voice: str | None = None  # the instance that beat last
        self.beside: dict[str, float] | None = None  # when others beat last, in monotonic seconds
        # what `gap` needs
        self.met = bus.clock.turns  # how far the bus was when it beat last
        self.before: Known | None = None  # the last beat before a gap, until one after it was judged
        self.case: Case | None = None  # what that came to, until it is told
        self.pace_sec = 0.0  # between its beats, the longest of late; 0 while that was not measured
        self.paced: tuple[str, int, float] | None = None  # from which beat: instance, `i`, when
        self.noted = -inf  # the last beat that a later run will know, by the listening clock
        self.held = False  # nobody looked yet what an earlier run knew of it
        self.gone = False  # no longer watched, or replaced by another record

    def get_to_know(self, payload: bytes, beat: Beat, heard: Heard) -> None:
        """Learns from a parsed beat, just heard, what the next one of this process looks like."""
        self.payload = self.vetted = payload
        self.sure = heard
        head = b'{"svc":"%b","i":' % self.watch.svc.encode()
        middle = b'%d,"ts":%.3f' % (beat.i, beat.ts)
        tail = payload[len(head) + len(middle) :]
        known = payload.startswith(head + middle) and tail[:1] in (b",", b"}")
        # a second "i" or "ts" behind would be the one that counts
        if known and not any(key in tail for key in (b'"svc"', b'"i"', b'"ts"', b"\\")):
            self.head, self.tail, self.size = head, tail, len(payload)
        else:
            self.head = UNFAMILIAR

    def inherit(self, old: "Record") -> None:
        """Goes on with what is known of the instances, and of a gap, under another watch."""
        self.payload = self.vetted = old.vetted
        self.sure = None if old.sure is None else self.last
        self.voice, self.beside = old.voice, old.beside
        self.pace_sec = old.pace_sec and max(old.pace_sec, old.watch.interval_sec)
        if self.sure is not None:
            self.allowance = self.sure, old.allowed_sec()
        if self.bus is old.bus:
            self.met, self.before, self.case = old.met, old.before, old.case
        if self.case is not None:
            self.case.record = self

    def allowed_sec(self) -> float:
        """How long it may be silent after its last beat; what a truth of that time allowed still holds."""
        if self.allowance is not None and self.allowance[0] is self.sure:
            return max(self.watch.timeout_sec, self.allowance[1])
        return self.watch.timeout_sec

    def estrange(self) -> None:
        """From now on every payload is parsed when it comes, until `get_to_know` is called again."""
        self.head = UNFAMILIAR

    def drop_case(self) -> None:
        """Nothing is to be told of a gap any more."""
        if self.case is not None:
            self.case.closed = True
            self.case = None

    def forget_gap(self) -> None:
        """What it did in a gap is no question any more: it was missed, or its coming up is told."""
        self.drop_case()
        self.before, self.met = None, self.bus.clock.turns

    def vet(self) -> bool:
        """Parses what was taken at sight last; returns False, and takes it back, if it was no new beat."""
        if self.payload is self.vetted:
            return True
        found = parse(self.payload, self.watch.svc)
        if isinstance(found, Beat) and not self.is_replay(found.boot, found.i):
            self.vetted, self.sure = self.payload, self.last
            return True
        self.payload, self.last = self.vetted, self.sure
        self.estrange()
        return False

    def due(self) -> float:
        """When it may be declared down: after a gap each gets a warm-up, one silence at most one."""
        timeout, warm = self.watch.timeout_sec, self.warm_up_sec
        grace = self.bus.clock.gap_end + warm
        if self.last is None:
            due = min(max(self.enter + warm, grace), self.enter + 2 * warm)
        else:
            due = min(max(self.last.at + timeout, grace), self.last.at + timeout + warm)
        return max(due, self.floor)

    def mark_at(self) -> float:
        """When its silence becomes worth remembering over a restart."""
        return self.enter if self.last is None else self.last.at + self.watch.timeout_sec / 2

    def next_at(self) -> float:
        """When the timing wheel should bring it up; infinity while nothing can fall due."""
        if self.gone or self.asked or self.refused is not None or self.state is State.DOWN:
            return inf
        if self.payload is not self.vetted and self.sure is not None:
            # or what counts, should the parse find that it was no beat, would be as old as the last parse
            return min(self.sure.at + self.watch.timeout_sec / 2, self.due())
        return self.due() if self.marked else min(self.mark_at(), self.due())

    def silence(self, now: float) -> float:
        """Seconds without a beat by the listening clock `now`; since it is watched, if never seen."""
        return now - (self.enter if self.last is None else self.last.at)

    def is_replay(self, boot: str | None, i: int) -> bool:
        """Whether this beat, or a later one of its process, was heard before; takes note of it if not."""
        if boot is None:
            return False
        highest = self.boots.get(boot)
        if highest is not None and i <= highest:
            return True
        if highest is None and len(self.boots) >= BOOTS_KEPT:
            self._forget_an_instance()
        self.boots[boot] = i
        return False

    def _forget_an_instance(self) -> None:
        """Makes room for a new instance in the place of the one that was silent longest."""
        beside = self.beside or {}
        oldest = min(self.boots, key=lambda boot: inf if boot == self.voice else beside.get(boot, -inf))
        self.forgotten += self.boots.pop(oldest)
        beside.pop(oldest, None)

    def hand_over(self, boot: str | None) -> None:
        """Another instance beats than the one that beat last; or both do, in turn."""
        before, self.voice = self.voice, boot
        if before is None or self.sure is None:
            return
        beside = self.beside or {}
        beside[before] = self.sure.mono
        if boot is not None:
            beside.pop(boot, None)
        self.beside = beside

    def measure(self, boot: str, i: int, mono: float) -> None:
        """Takes the time between beats since it was last measured; what was once slow counts for a while."""
        if self.paced is not None and self.paced[0] == boot:
            if i <= self.paced[1]:
                return
            found = (mono - self.paced[2]) / (i - self.paced[1])
            self.pace_sec = max(found, SLOWLY * self.pace_sec)
        else:
            self.pace_sec = 0.0
        self.paced = boot, i, mono

    def company(self) -> tuple[str, ...]:
        """The other instances that lived when the last beat was heard."""
        if not self.beside or self.sure is None:
            return ()
        lately = self.sure.mono - self.watch.timeout_sec
        return tuple(boot for boot, mono in self.beside.items() if mono >= lately)

    def boot(self) -> str | None:
        """The instance that was first heard last, if instances can be told apart."""
        return next(reversed(self.boots), None)

    def is_news(self, boot: str | None, i: int, age_sec: float, now: float) -> bool:
        """Whether a beat that another witness knows was never heard here; without a `boot` its age tells."""
        return self.is_younger(age_sec, now) if boot is None else i > self.boots.get(boot, -1)

    def is_unheard_life(self, beat: Beat, age_sec: float, now: float) -> bool:
        """Return True if a beat that another witness knows is a sign of life that was never heard here.

        A goodbye is no sign of life, however long its key may live. It shows that there was a beat before it,
        whose `i` is one less; without a `boot` nobody can tell whether that one was heard.
        """
        if beat.status != "stopping":
            return self.is_news(beat.boot, beat.i, age_sec, now)
        return beat.boot is not None and self.is_news(beat.boot, beat.i - 1, age_sec, now)

    def is_younger(self, age_sec: float, now: float) -> bool:
        """Whether a beat of that age is younger than the silence; some is left to the network."""
        return age_sec < self.silence(now) - 0.25
