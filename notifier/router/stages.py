"""Name the stages that a notice passes on its way to people; their list, in order, is in `router.py`. Pure.

A stage takes notices, and returns those that pass and, each with a named reason, those that it stops. The
stages before GROUP stop a notice before it is queued: its incident stays in a state from which it is made
again. Those from GROUP on sort what is queued. Times are epoch seconds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from notifier.router.incident import Decision, Incident, Notice, NoticeKind

OPENINGS: Final = (NoticeKind.DOWN,)
"""The kind of notice that each stage may stop."""
MUTABLE: Final = tuple(
    say for say in NoticeKind if say not in (NoticeKind.UP, NoticeKind.BLIP, NoticeKind.HEALED)
)
"""The kinds of notices that are not queued in a mute. The end of what people heard of is."""


class StageName(StrEnum):
    """The stages, in the order in which a notice passes them; it passes SILENCE once more after GROUP."""

    SILENCE = "silence"  # a silence or a maintenance window covers it, or there is no channel
    FLAPPING = "flapping"  # its service flaps
    CAUSE = "cause"  # what its service depends on is down
    RATE = "rate"  # a message about its service was sent a short time ago
    HOLD = "hold"  # the medic works on the outage
    GROUP = "group"  # it waits for others of its group
    ROUTE = "route"  # it gets its channels


class WaitReason(StrEnum):
    """Why a queued notice is not sent now, where that is no `Decision` about its incident."""

    GROUP = "group_wait"  # it stays queued: others of its group may follow
    CLOSED = "closed"  # an end, held until its channel is open
    UNWELL = "unwell"  # an end for a channel that was closed: its service is down again, flaps or is muted


class Stopped(NamedTuple):
    """A notice that a stage stopped, and why."""

    notice: Notice
    stage: StageName
    reason: Decision | WaitReason


class Sorted(NamedTuple):
    """The notices that pass, and those that are stopped."""

    passed: list[Notice]
    stopped: list[Stopped]


class NoticeStage(Protocol):
    """One stage."""

    @property
    def name(self) -> StageName: ...

    def sort(self, notices: Sequence[Notice], now: float) -> Sorted: ...


@dataclass(frozen=True, slots=True)
class HoldStage:
    """A stage that stops notices of some kinds (`says`) for a reason that lies in their incidents."""

    name: StageName
    says: tuple[NoticeKind, ...]
    find_reason: Callable[[Incident, float], Decision | None]
    incidents: Mapping[str, Incident]

    def sort(self, notices: Sequence[Notice], now: float) -> Sorted:
        found = Sorted([], [])
        for notice in notices:
            incident = self.incidents.get(notice.key) if notice.say in self.says else None
            reason = None if incident is None else self.find_reason(incident, now)
            if reason is None:
                found.passed.append(notice)
            else:
                found.stopped.append(Stopped(notice, self.name, reason))
        return found


@dataclass(frozen=True, slots=True)
class GroupStage:
    """A stage that stops all queued notices until they are due.

    `find_due_at` returns when that is, or None while no channel is open.
    """

    name: StageName
    find_due_at: Callable[[], float | None]

    def sort(self, notices: Sequence[Notice], now: float) -> Sorted:
        due_at = self.find_due_at()
        if due_at is not None and due_at <= now:
            return Sorted(list(notices), [])
        reason = Decision.NO_CHANNEL if due_at is None else WaitReason.GROUP
        return Sorted([], [Stopped(notice, self.name, reason) for notice in notices])


@dataclass(frozen=True, slots=True)
class QueueStage:
    """A stage for queued notices: `handle` returns a notice that passes, otherwise the reason that stops it.

    It may record in the incident that the notice is stopped.
    """

    name: StageName
    handle: Callable[[Notice, float], Notice | Decision | WaitReason]

    def sort(self, notices: Sequence[Notice], now: float) -> Sorted:
        found = Sorted([], [])
        for notice in notices:
            result = self.handle(notice, now)
            if isinstance(result, Notice):
                found.passed.append(result)
            else:
                found.stopped.append(Stopped(notice, self.name, result))
        return found


def run_stages(stages: Iterable[NoticeStage], notices: Sequence[Notice], now: float) -> Sorted:
    """Return the notices that pass all of these stages, and those that one of them stopped."""
    passed, stopped = list(notices), list[Stopped]()
    for stage in stages:
        if not passed:
            break
        passed, more = stage.sort(passed, now)
        stopped += more
    return Sorted(passed, stopped)


def find_hold(
    stages: Iterable[HoldStage], say: NoticeKind, incident: Incident, now: float
) -> Decision | None:
    """Return why a notice of this kind about an incident would be stopped; None if it would pass.

    No notice is made for this: there may be ten thousand incidents to look at each second.
    """
    for stage in stages:
        if say in stage.says and (reason := stage.find_reason(incident, now)) is not None:
            return reason
    return None
