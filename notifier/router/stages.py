"""Name the stages that a notice passes on its way to people; they are listed, in order, in `router.py`. Pure.

The first stages stop a notice before it is queued, each with a named reason: its incident stays in a state
from which it is made again. The others sort what is queued, once its group is due. Times are epoch seconds.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from notifier.router.incident import Decision, Incident, Notice, NoticeKind

OPENINGS: Final = (NoticeKind.DOWN,)
"""The kind of notice that each stage may stop."""
MUTABLE: Final = tuple(
    say for say in NoticeKind if say not in (NoticeKind.UP, NoticeKind.BLIP, NoticeKind.HEALED)
)
"""The kinds of notices that are not queued in a mute. The end of what people heard of is."""


class StageName(StrEnum):
    """The stages, in the order in which a notice passes them; it passes SILENCE once more before ROUTE."""

    SILENCE = "silence"  # a silence or a maintenance window covers it, or there is no channel
    FLAPPING = "flapping"  # its service flaps
    CAUSE = "cause"  # what its service depends on is down
    RATE = "rate"  # a message about its service was sent a short time ago
    HOLD = "hold"  # the medic works on the outage
    ROUTE = "route"  # it gets its channels


@dataclass(frozen=True, slots=True)
class HoldStage:
    """A stage that stops notices of some kinds (`says`) for a reason that lies in their incident."""

    name: StageName
    says: tuple[NoticeKind, ...]
    find_reason: Callable[[Incident, float], Decision | None]


@dataclass(frozen=True, slots=True)
class QueueStage:
    """A stage for queued notices: `handle` returns a notice that passes, otherwise None.

    It may record in the incident that the notice is stopped.
    """

    name: StageName
    handle: Callable[[Notice, float], Notice | None]

    def sort(self, notices: Iterable[Notice], now: float) -> list[Notice]:
        """Return the notices that pass."""
        handled = [self.handle(notice, now) for notice in notices]
        return [notice for notice in handled if notice is not None]


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
