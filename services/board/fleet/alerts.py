"""Read the alert log backwards in pages, with filters, and find one event by its id.

Each bus has a log of its own, and what concerns a bus is on several of them, so events with one id are one
event.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Final
from urllib.parse import urlencode

import orjson

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stream import StreamEntry, entry_sort_key, read_entries_before, read_entries_between
from marketswarm.event import Event, MalformedEvent, parse_event
from marketswarm.event_text import describe_event, severity_of
from marketswarm.keys import ALERT_LOG
from marketswarm.text import escape_text, parse_digits
from marketswarm.web.limits import RETRY_SEC, RefusedError
from services.board.fleet.frame import Frame

PAGE_EVENTS: Final = 100
MAX_PAGE_EVENTS: Final = 1000
CHUNK_ENTRIES: Final = 500
MAX_CHUNKS: Final = 20  # chunks of one log that a request reads; the next page continues
FIND_ENTRIES: Final = 1000
MAX_FIND_CHUNKS: Final = 100
"""Of how many chunks of FIND_ENTRIES one event is looked for on a log: together, what a log usually keeps."""
MAX_LATE_MSEC: Final = 3_600_000  # how much later than its time an event is looked for on the log
MAX_EARLY_MSEC: Final = 60_000  # how much earlier: clocks differ
NEWEST: Final = b"+"


@dataclass(frozen=True, slots=True)
class AlertView:
    """One event of the alert log. `title` and `text` are words for people, `position` its place on the log.

    `is_bad` is True for the begin of a problem, False for its end, None for a note. Times are epoch seconds.
    """

    id: str
    type: str
    svc: str
    ts: float
    title: str
    text: str
    is_bad: bool | None
    severity: str = "info"
    by: str = ""
    host: str | None = None
    down_sec: float | None = None
    position: str = ""


@dataclass(frozen=True, slots=True)
class AlertQuery:
    """What a request wants to see of the alert log; `before` is the place of the first event not to show."""

    svc: str = ""
    type: str = ""
    before: str = ""

    def url(self, **changes: str) -> str:
        """Return the path of the page with this query, in which `changes` replace values."""
        values = {each.name: changes.get(each.name, getattr(self, each.name)) for each in fields(self)}
        wanted = {name: value for name, value in values.items() if value}
        return "/alerts?" + urlencode(wanted) if wanted else "/alerts"


@dataclass(frozen=True, slots=True)
class AlertsAnswer:
    """A page of the alert log, the newest first; `older` is the `before` of the next one, null at the end."""

    events: tuple[AlertView, ...]
    older: str | None
    away: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertsPage:
    """What was found on the alert log by a query; `types` are those to choose from.

    Its `away` has the reason for each bus whose log could not be read.
    """

    template: ClassVar = "alerts.html"
    frame: Frame
    query: AlertQuery
    found: AlertsAnswer
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertAnswer:
    """One event, and the buses whose log has it."""

    event: AlertView
    buses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AlertPage:
    """One event by its id, with its indented JSON."""

    template: ClassVar = "alert.html"
    frame: Frame
    found: AlertAnswer
    raw: str = ""


def make_alert_view(event: Event, position: str = "") -> AlertView:
    """Return an event as the board shows it; `position` is the id of its entry on the log."""
    title, text = describe_event(event)
    return AlertView(
        id=escape_text(event.id),
        type=event.type,
        svc=escape_text(event.svc),
        ts=event.ts,
        title=escape_text(title),
        text=escape_text(text),
        is_bad=event.type.is_bad,
        severity=severity_of(event.type).value,
        by=escape_text(event.by),
        host=None if event.host is None else escape_text(event.host),
        down_sec=event.down_sec,
        position=position,
    )


def parse_position(text: str) -> bytes | None:
    """Return the id of an entry in a request, as XREVRANGE takes it; None for anything else."""
    ms, _, seq = text.partition("-")
    fits = all(parse_digits(part, 19) is not None for part in (ms, seq or "0"))
    return text.encode() if fits else None


async def read_alerts(buses: Sequence[Bus], query: AlertQuery, limit: int = PAGE_EVENTS) -> AlertsAnswer:
    """Return up to `limit` events that match a query, from before `query.before` backwards."""
    position = parse_position(query.before)
    before = NEWEST if position is None else b"(" + position
    readers = [_BackwardReader(bus, before) for bus in buses]
    found: dict[str, AlertView] = {}
    last: str | None = None
    async for entry in _read_merged(readers):
        last = entry.id.decode()
        event = parse_entry(entry)
        if event is None or event.id in found:
            continue
        if query.svc in ("", event.svc) and query.type in ("", event.type):
            found[event.id] = make_alert_view(event, last)
            if len(found) >= limit:
                break
    else:
        if all(reader.is_done for reader in readers):
            last = None
    away = {reader.bus.name: reader.why for reader in readers if reader.why is not None}
    return AlertsAnswer(tuple(found.values()), last, away)


async def find_alert(buses: Sequence[Bus], event_id: str) -> tuple[AlertAnswer, bytes] | None:
    """Return an event, and its JSON as it is on the log; None if no log has it.

    The id ends with the event's time, so only that part of each log is read. Raises RefusedError, 503, if it
    was not found, and a bus does not answer or has more events of that time than are looked at.
    """
    at_msec = parse_digits(event_id.rpartition(".")[2])
    if at_msec is None:
        return None
    found = await asyncio.gather(*(_find_on_bus(bus, event_id, at_msec) for bus in buses))
    holders = {bus.name: each for bus, each in zip(buses, found, strict=True) if isinstance(each, tuple)}
    if holders:
        view, raw = next(iter(holders.values()))
        return AlertAnswer(view, tuple(holders)), raw
    for refusal in found:
        if isinstance(refusal, RefusedError):
            raise refusal
    return None


def parse_entry(entry: StreamEntry) -> Event | None:
    event = parse_event((entry.fields or {}).get(b"event", b""))
    return None if isinstance(event, MalformedEvent) else event


def format_raw(raw: bytes) -> str:
    """Return an event's JSON with indents, for people; as it is where it is nested too deep for that."""
    try:
        return orjson.dumps(orjson.loads(raw), option=orjson.OPT_INDENT_2).decode()
    except TypeError:
        return raw.decode()


class _BackwardReader:
    """Read one bus's log backwards. `why` is the reason why the bus failed, None if it did not."""

    def __init__(self, bus: Bus, before: bytes) -> None:
        self.bus = bus
        self.why: str | None = None
        self.is_done = False
        self.entries: list[StreamEntry] = []  # the newest first
        self._before = before

    async def fill(self) -> None:
        """Read the next chunk unless there are entries left or the log is at its end."""
        if self.entries or self.is_done:
            return
        try:
            self.entries = await read_entries_before(self.bus, ALERT_LOG, self._before, count=CHUNK_ENTRIES)
        except BusError as error:
            self.why = error.reason
        if self.entries:
            self._before = b"(" + self.entries[-1].id
        else:
            self.is_done = True


async def _read_merged(readers: Sequence[_BackwardReader]) -> AsyncIterator[StreamEntry]:
    """Yield the entries of all readers, the newest first; all that are left after MAX_CHUNKS are not read."""
    for _ in range(MAX_CHUNKS):
        await asyncio.gather(*(reader.fill() for reader in readers))
        waiting = [reader for reader in readers if not reader.is_done]
        if not waiting:
            return
        while all(reader.entries for reader in waiting):
            newest = max(waiting, key=lambda reader: entry_sort_key(reader.entries[0].id))
            yield newest.entries.pop(0)


async def _find_on_bus(
    bus: Bus, event_id: str, at_msec: int
) -> tuple[AlertView, bytes] | RefusedError | None:
    """Return the event as one bus's log has it, and its JSON; None if the log does not have it.

    Where that is not known (the bus is away, or the log too long to be read), return why, as what to answer.
    Looks outwards from the event's time, in both directions by turns: of many events at once, those that were
    written next to it are the first ones.
    """
    sides = deque((_read_ahead(bus, at_msec), _read_behind(bus, at_msec)))
    try:
        for _ in range(MAX_FIND_CHUNKS):
            if not sides:
                return None
            entries = await anext(sides[0], None)
            if entries is None:
                sides.popleft()
                continue
            found = _find_among(entries, event_id)
            if found is not None:
                return found
            sides.rotate()
    except BusError as error:
        return RefusedError(503, f"bus {error.bus} does not answer: {error.reason}", RETRY_SEC)
    most = MAX_FIND_CHUNKS * FIND_ENTRIES
    return RefusedError(503, f"it is not among the {most} events on bus {bus.name} that are next to its time")


def _find_among(entries: Sequence[StreamEntry], event_id: str) -> tuple[AlertView, bytes] | None:
    mark = event_id.rpartition(".")[2].encode()  # what is of another time is not even parsed
    for entry in entries:
        raw = (entry.fields or {}).get(b"event", b"")
        event = parse_event(raw) if mark in raw else None
        if isinstance(event, Event) and event.id == event_id:
            return make_alert_view(event, entry.id.decode()), raw
    return None


async def _read_ahead(bus: Bus, at_msec: int) -> AsyncIterator[list[StreamEntry]]:
    """Yield chunks of a bus's log from a time (epoch milliseconds) to MAX_LATE_MSEC after it."""
    first, last = f"{at_msec}", f"{at_msec + MAX_LATE_MSEC}"
    while entries := await read_entries_between(bus, ALERT_LOG, first, last, count=FIND_ENTRIES):
        yield entries
        first = f"({entries[-1].id.decode()}"


async def _read_behind(bus: Bus, at_msec: int) -> AsyncIterator[list[StreamEntry]]:
    """Yield chunks of a bus's log from before a time back to MAX_EARLY_MSEC before it, the newest first."""
    before, earliest = b"(%d-0" % max(1, at_msec), (at_msec - MAX_EARLY_MSEC, 0)
    while entries := await read_entries_before(bus, ALERT_LOG, before, count=FIND_ENTRIES):
        yield entries
        if entry_sort_key(entries[-1].id) < earliest:
            return
        before = b"(" + entries[-1].id
