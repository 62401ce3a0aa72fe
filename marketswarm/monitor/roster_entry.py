"""An entry of the roster: the verdict on a service or a bus, which publish.lua writes."""

from dataclasses import dataclass
from typing import Any, Final

from marketswarm.beat import MAX_BOOT_CHARS, MAX_VIA_CHARS
from marketswarm.bus.stored_values import parse_count, parse_epoch, parse_object, parse_text, report_unusable
from marketswarm.detector import State
from marketswarm.event import MAX_EVENT_BYTES, Event, MalformedEvent, dump_compact, parse_event

MAX_ENTRY_BYTES: Final = 2 * MAX_EVENT_BYTES
MAX_MARK_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class RosterEntry:
    """A verdict as the roster holds it: `up` or `down`, published at `ts`.

    `ts` and `since` (the last beat before it) are epoch seconds; `ts` is 0 if the stored one is unusable.
    `event` is the alert event of a service that is down, as JSON. `ended` is when the outage began that an ok
    ended, if not with the last beat. `via` is the way by which a failure came that is open.
    """

    verdict: State
    ts: float = 0.0
    since: float | None = None
    boot: str | None = None
    i: int | None = None
    mark: str | None = None
    event: bytes | None = None
    ended: float | None = None
    via: str | None = None

    def read_event(self) -> Event | None:
        """Return the alert event of a service that is down; None if there is none, as of each that is up."""
        event = None if self.event is None else parse_event(self.event)
        return event if isinstance(event, Event) else None

    def reason(self) -> str | None:
        event = self.read_event()
        return None if event is None else event.reason

    def failure(self) -> str | None:
        """Return what the report of a failure said that the service is down for; None if nothing."""
        event = self.read_event()
        return None if event is None else event.detail

    def down_since(self) -> float | None:
        """Return when the outage in the event began, if not with the last beat, in epoch seconds."""
        event = self.read_event()
        return None if event is None else parse_epoch(event.down_since)


def parse_entry(bus: str, key: str, field: str, value: bytes) -> RosterEntry | None:
    """Parse an entry of the roster `key` on `bus`; return None if it has no usable verdict.

    Any other part that is unusable is reported and left out: the verdict still counts, so that an outage gets
    its end.
    """
    entry, is_usable = parse_entry_parts(value)
    if not is_usable:
        report_unusable(bus, key, field)
    return entry


def parse_entry_parts(value: bytes) -> tuple[RosterEntry | None, bool]:
    """Parse an entry of a roster without reporting; return it, and True if every part of it is usable.

    The entry is None if it has no usable verdict; any other part that is unusable is left out.
    """
    found = parse_object(value, MAX_ENTRY_BYTES)
    if found.get("verdict") not in ("up", "down"):
        return None, False
    ts, since = parse_epoch(found.get("ts")), parse_epoch(found.get("since"))
    boot, i = parse_text(found.get("boot"), MAX_BOOT_CHARS), parse_count(found.get("i"))
    mark = parse_text(found.get("mark"), MAX_MARK_CHARS)
    event, ended = _encode_event(found.get("event")), parse_epoch(found.get("down_since"))
    via = parse_text(found.get("via"), MAX_VIA_CHARS)
    read = {"ts": ts, "since": since, "boot": boot, "i": i, "mark": mark, "event": event, "down_since": ended}
    read |= {"via": via}
    unusable = any(value is None and found.get(name) is not None for name, value in read.items())
    is_usable = ts is not None and not unusable
    return RosterEntry(State(found["verdict"]), ts or 0.0, since, boot, i, mark, event, ended, via), is_usable


def _encode_event(found: Any) -> bytes | None:
    """Return the alert event of an entry as JSON again; None if it is not an alert event."""
    if not isinstance(found, dict):
        return None
    try:
        raw = dump_compact(found)
    except TypeError:  # deeper than orjson writes: it reads 1024 levels
        return None
    return None if isinstance(parse_event(raw), MalformedEvent) else raw
