"""What is known of the beats of one service before a gap, and the case that follows. Pure.

`restarts.py` says what a case is, and what a beat after a gap proves.
"""

from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import Any, Final, NamedTuple

from marketswarm.beat import Beat
from marketswarm.detector.clock import HeardAt, Moment
from marketswarm.detector.saved import SavedBeat
from marketswarm.detector.service import NEVER, WatchedService
from marketswarm.detector.states import Publication, State
from marketswarm.detector.verdict import Verdict
from marketswarm.event import Kind

PACE_TOLERANCE: Final = 1.1
LEAST_SHARE: Final = 0.25
"""A silence that is a smaller share of the whole time is ignored."""
PACE_DECAY: Final = 0.9
"""What remains of a measured pace each time that a faster one is measured."""


class BeatBeforeGap(NamedTuple):
    """The last beat before a gap, and what was known at that time.

    Attributes:
        beat: that beat as it is saved, with the longest time between beats that counts as the pace.
        mono: when it was heard, or when a later one was stored, in monotonic seconds.
        instances: the instances that were known then.
        counted_from: the `i` at which the counting of beats began.
        heard: when this run heard it, if it did.
        is_final: whether no instance beat after it until listening began again, at the clock's `turn`.
        was_heard_again: whether an instance from before was heard since, while messages that had piled up
            were still being heard.
        proven_sec: a silence before this beat that is proven already.
        next_i, next_ts: the last of the beats that followed it with none missing in between; 0 if none did.
        next_sec: the longest time between two of these, by their own `ts`.
    """

    beat: SavedBeat
    mono: float
    instances: frozenset[str]
    counted_from: int
    heard: HeardAt | None = None
    is_final: bool = False
    turn: int = 0
    was_heard_again: bool = False
    proven_sec: float = 0.0
    next_i: int = 0
    next_ts: float = 0.0
    next_sec: float = 0.0

    def followed_by(self, beat: Beat) -> "BeatBeforeGap":
        """Return this with a beat that followed; unchanged if a beat is missing in between."""
        i, ts = (self.next_i, self.next_ts) if self.next_i else (self.beat.i, self.beat.ts)
        if beat.boot != self.beat.boot or beat.i != i + 1:
            return self
        return self._replace(next_i=beat.i, next_ts=beat.ts, next_sec=max(self.next_sec, beat.ts - ts))

    def seconds_to(self, ts: float, mono: float) -> float:
        """Return the seconds from this beat to another, by the clock that says less."""
        return min(ts - self.beat.ts, mono - self.mono)

    def longest_silence(self, sec: float, beats: int) -> float:
        """Return the longest proven silence, in seconds, within `sec` seconds with this number of beats."""
        return 0.0 if self.beat.others else find_longest_silence(sec, beats, self.beat.pace_sec)


@dataclass(slots=True, eq=False)
class Case:
    """A gap to be published once the service was heard for a timeout more.

    `at` is when the case was opened, by the listening clock.
    """

    service: WatchedService
    before: BeatBeforeGap
    at: float
    boot: str
    i: int
    gap_sec: float
    restarted: bool

    def due(self) -> float:
        """Return when the case may be published, by the listening clock; infinity once it was dropped."""
        history: History = self.service.history
        if history.undecided.case is not self:
            return inf
        return max(self.at, self.service.clock.gap_end) + self.service.rule.timeout_sec

    def verdict(self, now: Moment) -> Verdict:
        """Return the verdict to publish; its id is the same in every healer."""
        svc = self.service.svc
        # a boot may be any text, and an event's id must fit into headers
        boot_hash = sha256(self.before.beat.boot.encode()).hexdigest()[:16]
        event_id = f"{Kind.HEARTBEAT_GAP}.{svc}.{boot_hash}"
        return Verdict(
            svc,
            State.UP,
            Publication.ALERT,
            now.wall,
            timeout_sec=self.service.rule.timeout_sec,
            since=self.before.beat.wall,
            boot=self.boot,
            i=self.service.instances.find_i(self.boot) or self.i,
            gap_sec=self.gap_sec,
            restarted=self.restarted,
            event_id=event_id if self.restarted else f"{event_id}.{self.before.counted_from}",
        )


class Undecided(NamedTuple):
    """What is still to be decided about gaps of one service; almost all share `DECIDED`.

    Attributes:
        before: the last beat before a gap, until one after it is compared.
        case: the case that followed, until it is published.
        allowance: a beat under an older truth, and its timeout.
    """

    before: BeatBeforeGap | None = None
    case: Case | None = None
    allowance: tuple[HeardAt, float] | None = None


DECIDED: Final = Undecided()


@dataclass(slots=True, eq=False)
class History:
    """The observer's data on one service; a change of its state drops the gap."""

    turn: int  # the bus clock's turn at the last beat
    undecided: Undecided = DECIDED
    pace_sec: float = 0.0  # the longest recent time between beats; 0 if it was not measured
    # the beat that was saved last: its instance, its `i`, and when, in monotonic seconds
    saved_boot: str | None = None
    saved_i: int = 0
    saved_at: float = NEVER

    def change_undecided(self, **changes: Any) -> None:
        """Set attributes of `undecided`."""
        changed = self.undecided._replace(**changes)
        self.undecided = DECIDED if changed == DECIDED else changed

    def drop_gap(self, service: WatchedService) -> None:
        """Drop the case and the beat before the gap; the next gap begins after this moment."""
        if self.undecided is not DECIDED:
            self.change_undecided(case=None, before=None)
        self.turn = service.clock.turns

    def note_saved(self, boot: str, i: int, mono: float) -> None:
        """Note the beat that is saved now, and measure the time between beats since the one saved before.

        A slow pace decays by a tenth each time.
        """
        if self.saved_boot == boot:
            if i <= self.saved_i:
                return
            found = (mono - self.saved_at) / (i - self.saved_i)
            self.pace_sec = max(found, PACE_DECAY * self.pace_sec)
        else:
            self.pace_sec = 0.0
        self.saved_boot, self.saved_i, self.saved_at = boot, i, mono


def find_longest_silence(sec: float, beats: int, pace_sec: float) -> float:
    """Return the longest silence that is proven by so few beats in `sec` seconds; `pace_sec` may be 0."""
    if sec <= 0.0 or beats < 1:
        return 0.0
    least = sec / beats
    if not pace_sec:
        return least
    uncovered = sec - (beats - 1) * PACE_TOLERANCE * pace_sec
    return max(least, uncovered) if uncovered >= LEAST_SHARE * sec else least
