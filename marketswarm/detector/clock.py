"""The listening clock of one bus: time that provably was listened to.

Silence is counted on this clock and on no other. It moves only when a canary, published over one
connection, comes back over the subscriber's: everything that had reached the bus before that canary has
then been heard. Whatever cannot be proven is a gap, in which the clock stands still.

Pure: `now` is monotonic time in seconds, always passed in.
"""

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Final

CANARY_EVERY_SEC: Final = 0.25
"""How often canaries are sent: what a frozen bus can make `running` promise too much, at most."""

OVERDUE_SEC: Final = 1.0
"""A canary away for longer, or a loop that wakes later than it should by more, is a gap."""


_CUT: Final = frozenset({"refused", "error"})


@dataclass(frozen=True, slots=True)
class Moment:
    """One reading of both clocks, in seconds. `wall` is for what people read, never for a decision."""

    mono: float
    wall: float

    def since(self, wall: float) -> float:
        """Seconds from `wall`, never below nought: that clock may have been set back meanwhile."""
        return max(0.0, self.wall - wall)


class ListeningClock:
    """What one bus's sessions and canaries prove. `proven` and `running` are in seconds of listening.

    A new clock is in a gap until the first canary of the first session comes back.
    """

    __slots__ = (
        "_accepted",
        "_anchor",
        "_mutes",
        "_outstanding",
        "_session",
        "_session_reason",
        "_write_reason",
        "gap_end",
        "gaps",
        "overslept_ever_sec",
        "overslept_sec",
        "proof",
        "proven",
        "round_trip_sec",
        "sessions",
        "taken",
        "turns",
    )

    def __init__(self, start: Moment) -> None:
        self.proven = 0.0
        self.gap_end = 0.0
        self.gaps = 0
        self.sessions = 0
        self.turns = 0  # how often hearing was lost, or caught up with
        self.round_trip_sec = 0.0
        self.proof = start  # the last moment at which this bus was known to be heard
        self.taken: Moment | None = None  # when the bus last took a canary, heard or not
        self.overslept_sec = 0.0  # how long since then the listener itself did not run
        self.overslept_ever_sec = 0.0  # the same since the beginning
        self._anchor: float | None = None  # the monotonic time that `proven` stands for; None in a gap
        self._session = False
        # canaries on their way, number and time of sending; the oldest of very many is forgotten
        self._outstanding: deque[tuple[int, float]] = deque(maxlen=64)
        self._session_reason: str | None = "refused"
        self._write_reason: str | None = None
        self._accepted = False  # the bus took the last canary that it answered
        # the latest stretches in which one who was awake heard nothing: when each ended, and how long it was
        self._mutes: deque[tuple[float, float]] = deque(maxlen=16)

    @property
    def listening(self) -> bool:
        """False in a gap."""
        return self._anchor is not None

    @property
    def caught_up(self) -> bool:
        """Whether what piled up in the last gap has been heard: a canary ended it, another came since."""
        return self._anchor is not None and self.proven > self.gap_end

    @property
    def in_session(self) -> bool:
        """From the last SUBSCRIBE acknowledged to the connection's end."""
        return self._session

    @property
    def reason(self) -> str:
        """Why there is a gap, as far as is known: the word for `bus_miss`.

        A connection that was cut says less than what came of the other: a certificate, a password. Where the
        bus takes writes, that a session was cut or went wrong says no more than that nothing is heard.
        """
        if self._accepted and self._session_reason in _CUT:
            return "deaf"
        known = [reason for reason in (self._write_reason, self._session_reason) if reason is not None]
        return next((reason for reason in known if reason != "refused"), known[0] if known else "deaf")

    def running(self, now: float) -> float:
        """The clock as it runs on from the last proof; stands still in a gap."""
        return self.proven if self._anchor is None else self.proven + (now - self._anchor)

    def unheard_for(self, now: float) -> float:
        """How long, in seconds, this bus was not heard although someone listened."""
        return now - self.proof.mono - self.overslept_sec

    def muted_since(self, mono: float, now: float) -> float:
        """For how long, in seconds, this bus was mute from then to now: perhaps it took no beats either."""
        if len(self._mutes) == self._mutes.maxlen and self._mutes[0][0] > mono:
            return inf
        muted_sec = self.unheard_for(now)  # beats may be heard before the canary that ends it
        lately_sec = muted_sec if muted_sec > OVERDUE_SEC else 0.0
        return lately_sec + sum(sec for until, sec in self._mutes if until > mono)

    def deaf_for(self, now: float) -> float:
        """How long, in seconds, a session has been open without a canary that was sent coming back."""
        if not self._session or self._write_reason or not self._outstanding:
            return 0.0
        return now - self._outstanding[0][1]

    def opened(self) -> None:
        """A new session, whose last SUBSCRIBE was acknowledged: it proves nothing of the time before it."""
        self._begin_gap()
        self.sessions += 1
        self._session = True
        self._session_reason = None
        self._outstanding.clear()

    def lost(self, reason: str) -> None:
        """The session ended, or could not be made."""
        self._session = False
        self._session_reason = reason
        self._begin_gap()

    def sent(self, number: int, now: float) -> None:
        """A canary is about to be published; numbers grow."""
        self._outstanding.append((number, now))

    def accepted(self, now: Moment) -> None:
        """The bus took a canary, and with it a write."""
        self._write_reason, self._accepted, self.taken = None, True, now

    def refused(self, number: int, reason: str) -> None:
        """The bus did not take a canary, or not in time: nothing can be proven while it takes none."""
        self._write_reason, self._accepted = reason, False
        if self._outstanding and self._outstanding[-1][0] == number:
            self._outstanding.pop()
        self._begin_gap()

    def heard(self, number: int, now: Moment) -> bool:
        """A canary came back. Returns True when that ended a gap."""
        skipped = False
        while self._outstanding and self._outstanding[0][0] < number:
            self._outstanding.popleft()
            skipped = True
        if not self._session or not self._outstanding or self._outstanding[0][0] != number:
            return False  # of an earlier session, or not ours
        sent_at = self._outstanding.popleft()[1]
        self.round_trip_sec = now.mono - sent_at
        if (muted_sec := self.unheard_for(now.mono)) > OVERDUE_SEC:
            self._mutes.append((now.mono, muted_sec))
        self.proof, self.overslept_sec = now, 0.0
        if self._anchor is not None and (skipped or self.round_trip_sec > OVERDUE_SEC):
            self._begin_gap()
        if self._anchor is None:
            self._anchor = now.mono
            self.gap_end = self.proven
            return True
        if sent_at > self._anchor:
            self.turns += not self.caught_up
            self.proven += sent_at - self._anchor
            self._anchor = sent_at
        return False

    def check(self, now: float) -> None:
        """Begins a gap when a canary is overdue, or none has been sent for too long."""
        if self._anchor is None:
            return
        late = self._outstanding and now - self._outstanding[0][1] > OVERDUE_SEC
        if late or now - self._anchor > 2 * OVERDUE_SEC + CANARY_EVERY_SEC:
            self._begin_gap()

    def stalled(self, overslept_sec: float) -> None:
        """The listener itself did not run for so long: nothing it failed to see counts against anyone."""
        self._begin_gap()
        self.overslept_sec += overslept_sec
        self.overslept_ever_sec += overslept_sec

    def _begin_gap(self) -> None:
        if self._anchor is not None:
            self._anchor = None
            self.gaps += 1
            self.turns += 1
