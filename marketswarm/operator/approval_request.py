"""Write and read the words by which an event about a proposal of the medic says how to approve it. Pure."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from marketswarm.event import Event, Kind
from marketswarm.event_text import is_proposal
from marketswarm.text import format_moment
from marketswarm.truth import MEDIC

MAX_WAIT_SEC: Final = 86_400.0
"""How long after its event a request counts at most: a truth lets no proposal wait longer."""
_REQUEST: Final = re.compile(
    r"; to approve it until ([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) UTC: "
    rf"marketswarm {MEDIC} approve ([0-9a-f]{{8}})\Z"
)


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """The proposal `ident` that waits for a person, and until when, in epoch seconds.

    `remedy` is what is proposed: the word of a remedy, and perhaps more behind it.
    """

    remedy: str
    ident: str
    until: float


def describe_request(request: ApprovalRequest) -> str:
    """Return the reason of a proposal's event, which `find_request` reads."""
    until = format_moment(request.until)
    return f"{request.remedy}; to approve it until {until}: marketswarm {MEDIC} approve {request.ident}"


def find_request(event: Event) -> ApprovalRequest | None:
    """Return the proposal that an event is about; None for other events."""
    if event.type is not Kind.MONITOR_MISS or not is_proposal(event.svc):
        return None
    reason = event.reason or ""
    found = _REQUEST.search(reason)
    if found is None:
        return None
    try:
        until = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    except ValueError:  # a 31st of February
        return None
    return ApprovalRequest(reason[: found.start()], found[2], min(until, event.ts + MAX_WAIT_SEC))
