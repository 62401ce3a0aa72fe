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
from marketswarm.detector.verdict import Copies

CHECK_EVERY_SEC: Final = 1.0
CHECKED_AT_ONCE: Final = 100
"""Services that are checked each second: a tenth of a millisecond of work. All of 100,000 take 17 minutes."""
OVERLOOKED_SEC: Final = 10.0
"""A service is overlooked if it was to be evaluated this long ago, and nothing that is due is left."""


def find_disagreement(
    service: WatchedService, bus: WatchedBus, evaluated_until: float, *, is_job: bool, is_awaited: bool
) -> Copies | None:
    """Return the first copies of the state of a service that do not agree; None if all do.

    Args:
        bus: the bus that it beats on.
        evaluated_until: the reading of its listening clock up to which all that was due was evaluated;
            -infinity if some of that is left.
        is_job: whether it is among the jobs.
        is_awaited: whether something waits until its channel can be heard.
    """
    if (service.state is State.DOWN) is (service.outage is None):
        return Copies.OUTAGE
    if service.channel not in bus.channels:
        return Copies.CHANNEL
    if (service.job is not None) is not is_job:
        return Copies.JOBS
    if service.channel_refused_at is not None and not is_awaited:
        return Copies.REFUSAL
    is_overlooked = service.next_evaluation() < evaluated_until - OVERLOOKED_SEC
    return Copies.WHEEL if is_overlooked else None
