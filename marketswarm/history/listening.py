"""Find out from the healer's beats when it was listening. Pure.

An event on the log shows that the healer listened at that moment; no event may mean that all went well, or
that no healer was there to write one. So the time between events counts as listened to only if the healer's
own beats prove that: `boot` says that its process is the same as before, and `i` that it beat all the time.
This holds for a time in which the board itself was away, too.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from marketswarm.beat import Beat

LEAST_SHARE: Final = 0.95
"""The share of the time that the beats of a process must cover for it to count as alive all the time."""
MAX_BOOTS: Final = 8
"""How many processes of the healer are remembered; two run at once at most, a leader and its standby."""


class Heard(NamedTuple):
    """The newest beat of one process of the healer, and when it was heard, in epoch seconds."""

    boot: str
    i: int
    at: int


class Listening(NamedTuple):
    """What is known of the healer's presence.

    `until` is the moment up to which each second is known to be listened to or not; `heard` are the processes
    that beat last, the newest one last.
    """

    until: int
    heard: tuple[Heard, ...] = ()


def hear(
    known: Listening, beat: Beat, at: int, timeout_sec: float, started: float | None = None
) -> tuple[Listening, tuple[int, int] | None]:
    """Return what is known after a beat, and the time between that is unheard; None if there is none.

    Args:
        timeout_sec: the silence up to which the healer counts as alive.
    """
    if beat.boot is None:
        return known, None
    at = max(at, known.until)
    begun = _proven_from(known.heard, beat, at, timeout_sec, started)
    others = tuple(one for one in known.heard if one.boot != beat.boot)
    heard = (*others[-MAX_BOOTS + 1 :], Heard(beat.boot, beat.i, at))
    unheard = (known.until, begun) if begun > known.until else None
    return Listening(at, heard), unheard


def _proven_from(
    heard: Sequence[Heard], beat: Beat, at: int, timeout_sec: float, started: float | None
) -> int:
    """Return the moment from which on the beat proves that its process listened, at most `at`."""
    before = next((one for one in heard if one.boot == beat.boot), None)
    every = beat.every or 0.0
    if before is not None:
        covered = (beat.i - before.i) * every + timeout_sec
        return before.at if covered >= LEAST_SHARE * (at - before.at) else at
    # a new process: it listens since it began, as far as it has beaten since
    begun = at - beat.i * every
    return max(0, min(at, round(begun if started is None else max(begun, started))))


def find_unheard(known: Listening, now: int, timeout_sec: float) -> tuple[int, int] | None:
    """Return the begin and end of the healer's present silence; None if its last beat is recent.

    Both are epoch seconds.
    """
    return (known.until, now) if now - known.until > timeout_sec else None
