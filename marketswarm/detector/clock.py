"""The listening clock of one bus: the time in which the healer provably listened.

Silence is measured on this clock and on no other. It advances only when a canary, published over one
connection, comes back over the subscriber's connection: everything that had reached the bus before that
canary has then been heard. Time that can't be proven is a gap, in which the clock stands still.

A session that is cut again and again proves a little time after each cut, so no canary is ever missing for
the bus's whole timeout. `ListeningShare` therefore measures how much of the time was proven.

Pure: `now` is passed in, as monotonic seconds or as a `Moment`.
"""

from collections import deque
from dataclasses import InitVar, dataclass, field
from enum import StrEnum
from math import inf
from typing import Final, NamedTuple

CANARY_EVERY_SEC: Final = 0.25
"""The pause between two canaries: `running` is ahead of what a frozen bus delivered by this much at most."""

OVERDUE_SEC: Final = 1.0
"""A canary that was waited for longer, or a loop that wakes later by more than this, begins a gap."""

MAX_OUTSTANDING: Final = 1024
"""How many canaries are remembered until they come back; a server keeps messages for a shorter time."""

DELAY_SEC: Final = 0.1
"""A loop that wakes later by more than this was held up, so the delay is not a silence of a bus."""

POOR_BELOW: Final = 0.5
GOOD_FROM: Final = 0.75
POOR_IN_A_ROW: Final = 2
"""A bus is deaf after two windows in a row with less than half proven; one with three quarters ends that."""

_CUT_REASONS: Final = frozenset({"refused", "error"})


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks, in seconds. `wall` is for what people read, not for decisions."""

    mono: float
    wall: float

    def since(self, wall: float) -> float:
        """Return the seconds since `wall`, at least 0: the wall clock may have been set back meanwhile."""
        return max(0.0, self.wall - wall)

    def at_wall(self, wall: float) -> "Moment":
        """Return the earlier moment at which the wall clock showed `wall`, if it was not set since then."""
        return Moment(self.mono - self.since(wall), wall)


class HeardAt(NamedTuple):
    """The time at which a beat was heard: listening, monotonic and wall clock, in seconds.

    All beats of one batch share one value.
    """

    at: float
    mono: float
    wall: float

    @property
    def moment(self) -> Moment:
        return Moment(self.mono, self.wall)

    def earlier(self, sec: float) -> "HeardAt":
        """Return the time that was so many seconds before, with none of them in a gap."""
        return HeardAt(self.at - sec, self.mono - sec, self.wall - sec)

    def at_wall(self, wall: float) -> "HeardAt":
        """Return the earlier time at which the wall clock showed `wall`, if all since then was heard."""
        return self.earlier(max(0.0, self.wall - wall))._replace(wall=wall)

    def shift(self, ahead_sec: float) -> "HeardAt":
        """Return the same time by a listening clock that is ahead by so much."""
        return self._replace(at=self.at + ahead_sec)


@dataclass(slots=True, eq=False)
class ListeningClock:
    """The time that one bus's sessions and canaries prove.

    `proven` is the seconds of listening that the last canary proved, `gap_end` the value of `proven` at the
    end of the last gap. A new clock is in a gap until the first canary of the first session comes back.
    """

    start: InitVar[Moment]
    proven: float = 0.0
    gap_end: float = 0.0
    gaps: int = 0
    sessions: int = 0
    turns: int = 0  # how often a gap began, or the listener caught up after one
    round_trip_sec: float = 0.0
    listening_since: float = field(init=False)  # when the last gap ended, in monotonic seconds
    proof: Moment = field(init=False)  # the last moment at which this bus was known to be heard
    accepted_at: Moment | None = None  # when the bus last took a canary, heard or not
    stalled_sec: float = 0.0  # how long the listener itself did not run since `proof`
    stalled_total_sec: float = 0.0  # the same since the beginning
    is_in_session: bool = False  # from its last SUBSCRIBE acknowledged to the connection's end
    own_delays_sec: float = 0.0  # the time until canaries that were late since messages were handled first
    _anchor: float | None = None  # the monotonic time that `proven` stands for; None in a gap
    # canaries without a return yet: number, time of sending, `_worked_sec` then
    _outstanding: deque[tuple[int, float, float]] = field(
        default_factory=lambda: deque(maxlen=MAX_OUTSTANDING)
    )
    _worked_sec: float = 0.0  # how long the listener has handled messages so far, as it said last
    _worked_at_proof: float = 0.0  # the same at `proof`, or when the session began
    _session_reason: str | None = "refused"
    _write_reason: str | None = None
    _accepted: bool = False  # the bus took the last canary that it answered
    # the latest stretches in which the listener ran and heard nothing: when each ended, and its length
    _mute_times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=16))

    def __post_init__(self, start: Moment) -> None:
        self.listening_since, self.proof = start.mono, start

    @property
    def is_listening(self) -> bool:
        """Whether the clock runs; False in a gap."""
        return self._anchor is not None

    @property
    def is_caught_up(self) -> bool:
        """Whether all messages of the last gap were heard: a second canary came after its end."""
        return self._anchor is not None and self.proven > self.gap_end

    @property
    def reason(self) -> str:
        """The reason for the gap, in the words of `bus_miss`.

        An error of the publishing connection (a certificate, a password) precedes the reason that the session
        was cut. While the bus accepts writes, a session that is cut or fails gives `deaf`.
        """
        if self._accepted and self._session_reason in _CUT_REASONS:
            return "deaf"
        known = [reason for reason in (self._write_reason, self._session_reason) if reason is not None]
        return next((reason for reason in known if reason != "refused"), known[0] if known else "deaf")

    def read(self, now: float) -> float:
        """Return the clock's reading at `now` if all continues well: `proven` plus the time since.

        In a gap, return `proven`.
        """
        return self.proven if self._anchor is None else self.proven + (now - self._anchor)

    def stamp(self, now: Moment) -> HeardAt:
        """Return the readings of all clocks now."""
        return HeardAt(self.read(now.mono), now.mono, now.wall)

    def read_for_looks(self, now: float) -> float:
        """Return up to when services that are due are to be looked at: `read`, but little ahead of `proven`.

        While many messages wait to be handled, `read` is far ahead, and the next beats of services that are
        silent by it are among them.
        """
        return min(self.read(now), self.proven + OVERDUE_SEC + CANARY_EVERY_SEC)

    def unheard_sec(self, now: float) -> float:
        """Return for how many seconds this bus was not heard while this process ran."""
        return now - self.proof.mono - self.stalled_sec

    def muted_sec_since(self, mono: float, now: float) -> float:
        """Return for how many seconds since `mono` the bus was mute, and perhaps took no beats either.

        Return infinity if that can't be known, since only the latest 16 such times are kept.
        """
        if len(self._mute_times) == self._mute_times.maxlen and self._mute_times[0][0] > mono:
            return inf
        muted_sec = self.unheard_sec(now)  # beats may be heard before the canary that ends it
        current_sec = muted_sec if muted_sec > OVERDUE_SEC else 0.0
        return current_sec + sum(sec for until, sec in self._mute_times if until > mono)

    def silent_sec(self, now: float) -> float:
        """Return `unheard_sec` without the time in which messages of this session were handled.

        The canary may be behind them: a bus that delivers so many is not silent.
        """
        worked_sec = self._worked_sec - self._worked_at_proof if self.is_in_session else 0.0
        return self.unheard_sec(now) - worked_sec

    def missing_canary_sec(self, now: float, worked_sec: float = 0.0) -> float:
        """Return for how many seconds the listener has waited for the oldest canary on the open session.

        `worked_sec` is for how long it has handled messages so far. That is not waiting, because the canary
        may be behind them.
        """
        if not self.is_in_session or self._write_reason or not self._outstanding:
            return 0.0
        _, sent_at, worked_at_sending = self._outstanding[0]
        return _measure_wait(now - sent_at, worked_sec - worked_at_sending)

    def note_session_opened(self) -> None:
        """Begin a session, as its last SUBSCRIBE was acknowledged; it proves no time before now."""
        self._begin_gap()
        self.sessions += 1
        self.is_in_session = True
        self._session_reason = None
        self._worked_at_proof = self._worked_sec
        self._outstanding.clear()

    def note_session_lost(self, reason: str) -> None:
        self.is_in_session = False
        self._session_reason = reason
        self._begin_gap()

    def note_canary_sent(self, number: int, now: float, worked_sec: float = 0.0) -> None:
        """Note that a canary is about to be published; numbers grow.

        `worked_sec` is for how long the listener has handled messages so far, since it was made.
        """
        self._worked_sec = worked_sec
        self._outstanding.append((number, now, worked_sec))

    def note_canary_accepted(self, now: Moment) -> None:
        self._write_reason, self._accepted, self.accepted_at = None, True, now

    def note_canary_refused(self, number: int, reason: str) -> None:
        """Note that the bus did not accept a canary in time: no time can be proven until it accepts one."""
        self._write_reason, self._accepted = reason, False
        if self._outstanding and self._outstanding[-1][0] == number:
            self._outstanding.pop()
        self._begin_gap()

    def note_canary_received(self, number: int, now: Moment, worked_sec: float = 0.0) -> bool:
        """Note that a canary came back; return True if that ended a gap. `worked_sec`: see above.

        One that is late since the listener handled the messages before it begins no gap, because none of them
        is lost: after a gap all services take more work, which would begin the next one. The time until then
        is added to `own_delays_sec`.
        """
        skipped = False
        while self._outstanding and self._outstanding[0][0] < number:
            self._outstanding.popleft()
            skipped = True
        if not self.is_in_session or not self._outstanding or self._outstanding[0][0] != number:
            return False  # a canary of an earlier session, or another listener's
        _, sent_at, worked_at_sending = self._outstanding.popleft()
        self.round_trip_sec = now.mono - sent_at
        waited_sec = _measure_wait(self.round_trip_sec, worked_sec - worked_at_sending)
        if not skipped and waited_sec <= OVERDUE_SEC < self.round_trip_sec:
            self.own_delays_sec += self.unheard_sec(now.mono)
        self._worked_sec = self._worked_at_proof = worked_sec
        if (muted_sec := self.unheard_sec(now.mono)) > OVERDUE_SEC:
            self._mute_times.append((now.mono, muted_sec))
        self.proof, self.stalled_sec = now, 0.0
        if self._anchor is not None and (skipped or waited_sec > OVERDUE_SEC):
            self._begin_gap()
        if self._anchor is None:
            self._anchor = self.listening_since = now.mono
            self.gap_end = self.proven
            return True
        if sent_at > self._anchor:
            self.turns += not self.is_caught_up
            self.proven += sent_at - self._anchor
            self._anchor = sent_at
        return False

    def check_canary(self, now: float) -> None:
        """Begin a gap if the listener has waited too long for a canary, or if none was sent for too long.

        A bus that stands still meanwhile accepts no canary either, and that begins a gap as well.
        """
        if self._anchor is None:
            return
        if self._outstanding:
            _, sent_at, worked_at_sending = self._outstanding[0]
            waited_sec = _measure_wait(now - sent_at, self._worked_sec - worked_at_sending)
            is_late = waited_sec > OVERDUE_SEC or len(self._outstanding) == MAX_OUTSTANDING
        else:
            is_late = now - self._anchor > 2 * OVERDUE_SEC + CANARY_EVERY_SEC
        if is_late:
            self._begin_gap()

    def note_stall(self, stalled_sec: float) -> None:
        """Begin a gap: this process did not run for so many seconds, and a silence in them proves nothing."""
        self._begin_gap()
        self.note_delay(stalled_sec)

    def note_delay(self, stalled_sec: float) -> None:
        """Leave out these seconds, in which this process did not run, from the time that the bus was unheard.

        No gap begins. Each delay is short, but on a starved machine they follow each other.
        """
        self.stalled_sec += stalled_sec
        self.stalled_total_sec += stalled_sec

    def _begin_gap(self) -> None:
        """Begin a gap and count it, unless there is one already."""
        if self._anchor is not None:
            self._anchor = None
            self.gaps += 1
            self.turns += 1


def _measure_wait(sec: float, worked_sec: float) -> float:
    """Return for how many of these seconds a listener waited that handled messages for `worked_sec` of them.

    That is 0 if it worked most of the time: on a starved machine, what comes between takes long as well.
    """
    waited_sec = sec - worked_sec
    return waited_sec if waited_sec >= sec / 2 else 0.0


class WindowProof(StrEnum):
    """A rating of a window by how much of it was proven."""

    GOOD = "good"
    FAIR = "fair"  # neither begins deafness nor ends it
    POOR = "poor"
    LATE = "late"  # most of it was heard late, or it is poor, by this process's own work on messages
    UNHEARD = "unheard"  # no canary at all came back; the bus's timeout decides about that


@dataclass(slots=True, eq=False)
class ListeningShare:
    """The share of time that was proven on one bus, in windows of the bus's timeout.

    `start` is when the first window begins.
    """

    clock: ListeningClock
    start: InitVar[Moment]
    poor_count: int = field(init=False)  # the number of poor windows in a row
    poor_since: Moment = field(init=False)  # when the first of them began
    is_late: bool = field(init=False)  # whether the last window was `late`
    # when the window began, and what the clock said then
    _begin: Moment = field(init=False)
    _proven: float = field(init=False)
    _stalled_sec: float = field(init=False)
    _own_delays_sec: float = field(init=False)

    def __post_init__(self, start: Moment) -> None:
        self.restart(start)

    @property
    def is_deaf(self) -> bool:
        """Whether too little of the time was proven in enough windows in a row."""
        return self.poor_count >= POOR_IN_A_ROW

    def restart(self, now: Moment) -> None:
        """Begin a window at `now`, and drop the result of the windows before it."""
        self.poor_count, self.poor_since, self.is_late = 0, now, False
        self._begin_window(now)

    def close_window(self, window_sec: float, now: Moment) -> WindowProof | None:
        """End the window if it has lasted `window_sec`, and return its rating; otherwise return None.

        Call this several times per window. Time in which this process did not run is part of no window.
        """
        elapsed_sec = now.mono - self._begin.mono - (self.clock.stalled_total_sec - self._stalled_sec)
        if elapsed_sec < window_sec:
            return None
        share = (self.clock.proven - self._proven) / elapsed_sec
        proof = WindowProof.POOR
        if share >= POOR_BELOW:
            proof = WindowProof.GOOD if share >= GOOD_FROM else WindowProof.FAIR
        heard_late = (self.clock.own_delays_sec - self._own_delays_sec) / elapsed_sec
        if proof is WindowProof.POOR and self.clock.proof.mono <= self._begin.mono:
            proof = WindowProof.UNHEARD
        elif heard_late >= POOR_BELOW or (proof is WindowProof.POOR and share + heard_late >= POOR_BELOW):
            proof = WindowProof.LATE
        self.is_late = proof is WindowProof.LATE
        if proof is WindowProof.POOR:
            self.poor_since = self.poor_since if self.poor_count else self._begin
            self.poor_count += 1
        else:
            self.poor_count = 0
        self._begin_window(now)
        return proof

    def _begin_window(self, now: Moment) -> None:
        self._begin = now
        self._proven = self.clock.proven
        self._stalled_sec = self.clock.stalled_total_sec
        self._own_delays_sec = self.clock.own_delays_sec
