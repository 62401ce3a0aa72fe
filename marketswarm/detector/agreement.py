"""Check that the copies of a state agree, in production too. Pure.

Some of what is known is held twice, so that it is found at once: a service is on the wheel of its bus, and
knows that it is; a service that is down has an outage. Were two copies to differ, a service could be silent
for ever without a miss. So the detector looks at some services each second, in turn, mends what differs, and
returns it.
"""

from typing import Final

from marketswarm.detector.bus import WatchedBus
from marketswarm.detector.service import WatchedService
from marketswarm.detector.states import State
from marketswarm.detector.trouble import ServiceOutage
from marketswarm.detector.verdict import Copies

CHECK_EVERY_SEC: Final = 1.0
CHECKED_AT_ONCE: Final = 250
"""Services that are checked each second: less than a millisecond of work, and all of 100,000 in 7 minutes."""
OVERLOOKED_SEC: Final = 10.0
"""A service is overlooked if it was to be evaluated this long ago, and nothing that is due is left."""


def mend_service(
    service: WatchedService,
    bus: WatchedBus,
    jobs: dict[str, WatchedService],
    awaited: dict[str, float],
    running: float,
    *,
    is_refused: bool,
) -> Copies | None:
    """Check one service, and mend the first thing that differs; return what that was, None if all agrees.

    Args:
        bus: the bus that it beats on.
        jobs: the services that are jobs.
        awaited: when services flooded their channels last; some seconds later, they are heard again.
        running: the reading of the listening clock up to which all services that were due were returned;
            -infinity if some are left.
        is_refused: whether its channel is known to be refused.
    """
    if (service.state is State.DOWN) is (service.outage is None):
        service.outage = ServiceOutage(None) if service.outage is None else None
        return Copies.OUTAGE
    if service.channel not in bus.channels:
        bus.add_service(service)
        return Copies.CHANNEL
    if (service.job is not None) is not (service.svc in jobs):
        jobs.pop(service.svc, None)
        if service.job is not None:
            jobs[service.svc] = service
        return Copies.JOBS
    if service.channel_refused_at is not None and not is_refused and service.svc not in awaited:
        awaited[service.svc] = service.channel_refused_at.mono
        return Copies.REFUSAL
    if service.next_evaluation() < running - OVERLOOKED_SEC:
        service.is_on_wheel = False
        bus.schedule(service)
        return Copies.WHEEL
    return None
