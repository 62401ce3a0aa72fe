"""What a listener that stands by would still have to tell, were the leader to go now. Pure.

It concludes as the leader does, a moment earlier or later, and keeps its verdicts until the roster shows that
the leader told them. What the leader had time to tell and did not, it saw otherwise: its word counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.detector import State, Subject, Verdict
from marketswarm.monitor.store import Entry

SURE_SEC: Final = 2.0
"""A leader that was alive so long after a verdict of ours had time to tell the same."""
ABOUT_SEC: Final = 2.0
"""Two listeners publish the same at about the same time, by clocks that go about the same."""


@dataclass(frozen=True, slots=True)
class PendingVerdict:
    """A verdict, and when it was concluded, in monotonic seconds.

    The loss of a bus is `its_own` when the leader heard that bus and wrote to it while this listener heard
    nothing: what was lost is the way there.
    """

    verdict: Verdict
    at: float
    its_own: bool = False


def find_unpublished(
    pending: Sequence[PendingVerdict],
    entry: Entry | None,
    *,
    before: float | None,
    leader_seen_at: float,
) -> list[PendingVerdict]:
    """What of the verdicts on one service or bus, oldest first, is not told yet.

    Args:
        pending: the verdicts.
        entry: what the roster holds of it now.
        before: the `ts` of that entry when it was looked at last; None when it never was.
        leader_seen_at: when the leader was last seen alive, in monotonic seconds.
    """
    left = [one for one in pending if one.verdict.event_id is None]
    gaps = [
        one
        for one in pending
        if one.verdict.event_id is not None
        and not _told_gap(one, entry)
        and leader_seen_at <= one.at + SURE_SEC
    ]
    moved = _moved(left, entry, before)
    if left and (moved or len(left) == 1):
        # the leader's word may stand for the last of several transitions: those before are told then, too
        last = max((n for n, one in enumerate(left, 1) if _agrees(one.verdict, entry)), default=0)
        left = left[last:]
    elif left and _agrees(left[-1].verdict, entry) and _nothing_to_the_leader(left, leader_seen_at):
        left = []  # it came and went
    return sorted((*left, *gaps), key=lambda one: one.at)


def is_its_own(verdict: Verdict, leader_heard_bus_at: float, now: float) -> bool:
    """Whether a loss, concluded at `now`, is that of the way to a bus which the leader hears.

    A bus that is away was written to a timeout ago at the latest, so half a timeout is proof enough.

    Args:
        verdict: what was concluded.
        leader_heard_bus_at: when the leader was last seen to write to the bus while it heard it.
        now: in monotonic seconds, as that.
    """
    lost = verdict.subject is Subject.BUS and verdict.state is State.DOWN
    return lost and verdict.timeout_sec is not None and now - leader_heard_bus_at < verdict.timeout_sec / 2


def _nothing_to_the_leader(left: Sequence[PendingVerdict], leader_seen_at: float) -> bool:
    """Whether the leader, who was there, saw nothing of it, or can't have."""
    losses = [one for one in left if one.verdict.state is State.DOWN]
    return leader_seen_at > left[-1].at + SURE_SEC or (bool(losses) and all(one.its_own for one in losses))


def _moved(left: Sequence[PendingVerdict], entry: Entry | None, before: float | None) -> bool:
    """Whether something was told of it since the first of these was concluded.

    Where there is no entry, and none was ever seen, nothing was: a bus that was never lost has none either.
    One that was never looked at is taken for old by its time, which is that of whoever wrote it.
    """
    if any(one.verdict.state is State.UNWATCHED for one in left):
        return True
    if entry is None:
        return before is not None
    if before is None:
        return bool(left) and entry.ts >= left[0].verdict.ts - ABOUT_SEC
    return entry.ts != before


def _told_gap(one: PendingVerdict, entry: Entry | None) -> bool:
    if entry is None:
        return False
    # whatever was told since the gap began, somebody listened then, and what he told is the better account
    listened = one.verdict.since is not None and entry.ts > one.verdict.since
    return listened or entry.mark == one.verdict.event_id


def _agrees(verdict: Verdict, entry: Entry | None) -> bool:
    if entry is None:
        # nothing is stored of who is not watched, nor of a bus that was never lost
        return verdict.state is State.UNWATCHED or (
            verdict.subject is not Subject.SERVICE and verdict.state is State.UP
        )
    return entry.verdict is verdict.state
