"""The check of massive's probe alerts: massive may alert on its own targets, and on nothing else. Pure."""

import re
from typing import Final

from marketswarm.event import Event, Kind, MalformedEvent, parse_event

SVC: Final = "massive"
KINDS: Final = (Kind.PROBE_MISS, Kind.PROBE_OK, Kind.PROBE_UNWATCHED)
MAX_NAME_CHARS: Final = 100
MAX_REASON_CHARS: Final = 200

_ID: Final = re.compile(r"(?P<kind>[a-z_]+)\.massive:[A-Za-z0-9_.-]{1,120}\.(?P<ms>\d{1,15})")


def parse_probe_alert(raw: bytes) -> Event | MalformedEvent:
    """Parse an event that massive wrote; return a malformed one if massive may not publish it."""
    event = parse_event(raw)
    if isinstance(event, MalformedEvent):
        return event
    prefix, _, name = event.svc.partition("/")
    found = _ID.fullmatch(event.id)
    wrong = {
        "foreign_type": event.type not in KINDS,
        "foreign_svc": prefix != SVC or not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable(),
        "foreign_by": event.by != SVC,
        # with the id of another program's event, readers would drop that event as a repetition
        "foreign_id": not found or found["kind"] != event.type or int(found["ms"]) != round(event.ts * 1000),
        "bad_reason": len(event.reason or "") > MAX_REASON_CHARS or not (event.reason or "").isprintable(),
    }
    return next((MalformedEvent(reason) for reason, is_wrong in wrong.items() if is_wrong), event)
