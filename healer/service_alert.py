"""The check of alerts that services write: each may alert on what is its own, and on nothing else. Pure."""

import re
from typing import Final

from marketswarm.agent.outage_state import AlertRule
from marketswarm.event import Event, MalformedEvent, Severity, make_event_id, parse_event

MAX_NAME_CHARS: Final = 100
MAX_REASON_CHARS: Final = 200

_ID: Final = re.compile(r"(?P<kind>[a-z_]+)\.(?P<family>[a-z]+):[A-Za-z0-9_.-]{1,120}\.(?P<ms>\d{1,15})")


def parse_service_alert(rule: AlertRule, raw: bytes) -> Event | MalformedEvent:
    """Parse an event that a service wrote; return a malformed one if the service may not publish it."""
    event = parse_event(raw)
    if isinstance(event, MalformedEvent):
        return event
    name = event.svc.removeprefix(rule.prefix)
    is_its_own = event.svc.startswith(rule.prefix) and 0 < len(name) <= MAX_NAME_CHARS and name.isprintable()
    found = _ID.fullmatch(event.id)
    is_id = found is not None and (found["kind"], found["family"]) == (event.type, rule.family)
    wrong = {
        "foreign_type": event.type not in (rule.miss, rule.ok, rule.unwatched),
        "foreign_svc": not is_its_own,
        "foreign_by": event.by != rule.by,
        # with the id of another program's event, readers would drop that event as a repetition
        "foreign_id": not is_id or found is None or int(found["ms"]) != round(event.ts * 1000),
        "bad_severity": event.severity is not None and event.severity not in set(Severity),
        "bad_reason": len(event.reason or "") > MAX_REASON_CHARS or not (event.reason or "").isprintable(),
    }
    return next((MalformedEvent(reason) for reason, is_wrong in wrong.items() if is_wrong), event)


def close_outage(rule: AlertRule, miss: Event, now: float) -> Event:
    """Return the event that closes a miss whose service left the truth. `now` is in epoch seconds."""
    # readers order events by `ts`: even with a clock that was set back, an end must come after its beginning
    ts = max(round(now, 3), round(miss.ts + 0.001, 3))
    subject = miss.id.removeprefix(f"{miss.type}.").rpartition(".")[0]
    return Event(
        rule.unwatched, miss.svc, ts, make_event_id(rule.unwatched, subject, ts), "healer", since=miss.since
    )
