"""Say where an incident stands: one state, found from its fields and from the notices pending about it. Pure.

Each service that is down is in a state that ends by itself or is known to people. LOST is the state that must
not be: the router counts it, logs it, and queues the notice.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from notifier.router.incident import Decision, Incident, Notice, NoticeKind


class IncidentState(StrEnum):
    """The state of an incident; `find_next_notices` in `timers.py` has what follows from each."""

    QUIET = "quiet"  # it is up, and people know that, or never heard of the outage
    QUEUED = "queued"  # a notice about the outage is pending
    TOLD = "told"  # it is down, and a message about it was sent
    HELD = "held"  # it is down, and `held` is why no message about it is sent
    FLAPS_UNTOLD = "flaps_untold"  # it flaps, and nothing says so: it began while the incident was muted
    FLAPS_TOLD = "flaps_told"  # it flaps, and a message that says so was sent or is pending
    SETTLED_UNTOLD = "settled_untold"  # it flaps no longer, and people were told only that it does
    LOST = "lost"  # it is down, and nobody will ever hear of it


FLAPS: Final = frozenset({IncidentState.FLAPS_UNTOLD, IncidentState.FLAPS_TOLD})
UNPREDICTABLE: Final = FLAPS | {IncidentState.SETTLED_UNTOLD, IncidentState.QUEUED, IncidentState.LOST}
"""The states that end at a time which can't be computed. So does HELD, unless by the rate limit."""


def find_state(incident: Incident, pending: Iterable[Notice]) -> IncidentState:
    """Return the state of an incident; `pending` are the notices about it that are not sent yet."""
    notices = list(pending)
    if incident.flapping:
        is_told = incident.flap_thread or any(each.say is NoticeKind.FLAPPING for each in notices)
        return IncidentState.FLAPS_TOLD if is_told else IncidentState.FLAPS_UNTOLD
    if incident.flap_thread:
        return IncidentState.SETTLED_UNTOLD
    if not incident.down:
        return IncidentState.QUIET
    if any(incident.id in each.ids for each in notices):
        return IncidentState.QUEUED
    if incident.told_at is not None:
        return IncidentState.TOLD
    # held back for a reason that is looked at again
    is_held = incident.held is not None and (incident.held is not Decision.RATE_LIMIT or incident.kept > 0)
    return IncidentState.HELD if is_held else IncidentState.LOST
