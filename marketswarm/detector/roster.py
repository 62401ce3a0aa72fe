"""A change of the roster: which services are dropped, added and changed, in steps of a few of them. Pure.

To compare two rosters of a hundred thousand services takes tenths of a second, and to change as many takes
seconds. So the comparison may run in a thread of its own, and other work continues between two steps.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.detector.service import WatchedService
from marketswarm.truth import Watch

SERVICES_AT_ONCE: Final = 50
"""Services that are changed in one step: for jobs, some milliseconds of work."""


@dataclass(slots=True)
class RosterChange:
    """What is left to be done until a roster is in force.

    Attributes:
        buses: the buses of the roster, with the seconds after which each counts as lost.
        channels: the channels of the roster by their buses.
        services: the number of services in the roster.
        dropped: the services that are no longer watched.
        changed: the services that are new, or have another line in the truth.
        is_begun, is_done: how far the change is.
    """

    buses: Mapping[str, float]
    channels: Mapping[str, frozenset[str]]
    services: int
    dropped: deque[str]
    changed: deque[Watch]
    is_begun: bool = False
    is_done: bool = False

    def take_step(self) -> Iterator[str | Watch]:
        """Yield the next services: the name of one that is dropped, the watch of one that is changed."""
        for _ in range(SERVICES_AT_ONCE):
            if self.dropped:
                yield self.dropped.popleft()
            elif self.changed:
                yield self.changed.popleft()
            else:
                return


def plan_change(
    current: Mapping[str, WatchedService], watches: Iterable[Watch], buses: Mapping[str, float]
) -> RosterChange:
    """Compare a roster with the services that are watched now; change nothing.

    May run in another thread, as long as no other change is under way.
    """
    wanted = {watch.svc: watch for watch in watches}
    channels: dict[str, list[str]] = {name: [] for name in buses}
    for watch in wanted.values():
        channels[watch.bus].append(watch.channel)
    changed = (
        watch
        for svc, watch in wanted.items()
        if (known := current.get(svc)) is None or not known.is_under(watch)
    )
    dropped = deque(sorted(current.keys() - wanted.keys()))
    frozen = {name: frozenset(each) for name, each in channels.items()}
    return RosterChange(buses, frozen, len(wanted), dropped, deque(changed))
