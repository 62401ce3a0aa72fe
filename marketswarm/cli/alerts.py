"""Implement `marketswarm alerts`: print alert events as they are published, from the durable log.

The log, `healer:alerts:log`, is read by position, so nothing is missed while a bus restarts. An event that is
on several buses has one id and is yielded once.
"""

import asyncio
import select
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import tzinfo
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from marketswarm.bus import Bus, BusError
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.outage import PAUSES
from marketswarm.bus.stored_values import parse_object
from marketswarm.bus.stream import StreamEntry, entry_sort_key, read_newest_id
from marketswarm.cli import event_loop, output
from marketswarm.cli.data_folder import DATA
from marketswarm.cli.fleet_view import FleetView, ask_fleet, describe_away, open_fleet
from marketswarm.cli.local_time import format_date, format_time
from marketswarm.cli.options import Data, Json, flag, time_option
from marketswarm.event import MalformedEvent, parse_event_object
from marketswarm.event_text import describe_event, join_words
from marketswarm.exit import Code, Exit
from marketswarm.keys import ALERT_LOG
from marketswarm.status.fleet_state import read_fleet_state
from marketswarm.status.service_rows import make_service_rows
from marketswarm.tasks import end_tasks, run_until_first
from marketswarm.text import escape_text, format_names
from marketswarm.truth import SYSTEM

_BLOCK_SEC = 2.0
_PAGE_ENTRIES = 1_000
_KNOWN_IDS_KEPT = 10_000
_CHECK_READER_SEC = 1.0
_MAX_NAMED = 12  # services that are down; the others are counted
_MARKS = {True: ("✗", output.RED), False: ("✓", output.GREEN), None: ("·", output.DIM)}

LoggedEvent = tuple[bytes, dict[str, Any]]
"""An event: its bytes, and the object that they encode; its `id` and `ts` say which it is, and when."""
ParseEntry = Callable[[StreamEntry], list[LoggedEvent]]


def alerts(
    since: Annotated[
        float | None, time_option("--since", "1h", "Begin that long ago: 30s, 10m, 1h, 2d.")
    ] = None,
    no_follow: Annotated[bool, flag("--no-follow", "With --since: print what there is and end.")] = False,
    as_json: Json = False,
    data: Data = DATA,
) -> None:
    """Follow the alerts: misses, recoveries, lost buses. Ctrl-C ends it.

    They are read from the durable log, so a bus that restarts loses none. Stderr has first what is down now.
    With --no-follow, it ends with 3 if a bus could not be read.
    """
    if no_follow and since is None:
        raise typer.BadParameter("--no-follow: say --since, too")
    if no_follow:
        ask_fleet(data, lambda fleet: _print_past(since or 0.0, fleet, as_json))
    else:
        event_loop.run(run_until_first(_print_events(since, data, as_json), wait_until_stdout_closes()))


async def _print_events(since_sec: float | None, data: Path, as_json: bool) -> None:
    async with open_fleet(data) as fleet:
        events = await follow_log(fleet.buses(), since_sec)
        if not as_json:
            output.print_aside(f"{await _describe_outages(fleet)}; listening, Ctrl-C ends it")
        async for raw, event in events:
            _print_event(raw, event, as_json)


async def _print_past(since_sec: float, fleet: FleetView, as_json: bool) -> None:
    readers = [EventLogReader(bus, since_sec) for bus in fleet.buses()]
    for raw, event in await read_past_events(readers):
        _print_event(raw, event, as_json)
    require_all_read(readers)


def _print_event(raw: bytes, event: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json_bytes(raw)
    else:
        output.print_line(*format_event_line(event, now=time.time()))


def format_event_line(
    document: Mapping[str, Any], zone: tzinfo | None = None, *, now: float | None = None
) -> tuple[str, str]:
    """Return the line for an event, `12:50:58 ✗ rss_agg is down: no beat for 31.2 s`, and its colour.

    Of an event that can't be parsed, such as one of an unknown type, the line has the type and the service.
    `zone` None is the machine's; an event of another day than that of `now` gets its date.
    """
    event, ts = parse_event_object({**document, "ts": 0.0}), document.get("ts")  # dashes for a wrong time
    mark, style = _MARKS[None if isinstance(event, MalformedEvent) else event.type.is_bad]
    if isinstance(event, MalformedEvent):
        text = f"{document.get('type')} {document.get('svc', '')}".rstrip()
    else:
        text = join_words(*describe_event(event))
    date = "" if now is None else format_date(ts, now, zone)
    return escape_text(f"{date}{format_time(ts, zone)} {mark} {text}"), style


async def _describe_outages(fleet: FleetView) -> str:
    if fleet.found is None:
        return "no bus has a truth, so what is down now is not known"
    state, failed = await read_fleet_state(fleet.truth, fleet.bus)
    if SYSTEM in failed:  # it has the roster
        [away] = describe_away({SYSTEM: failed[SYSTEM]})
        return f"{away}, so what is down now is not known"
    down = [row.svc for row in make_service_rows(fleet.truth, state) if row.verdict == "down"]
    if not down:
        return "nothing is down now"
    return f"down now: {format_names(down, _MAX_NAMED)}"


async def wait_until_stdout_closes() -> None:
    """Return once the reader of stdout has closed it, for a command that may print nothing for hours."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are always reported
    while not poll.poll(0):  # noqa: ASYNC110 - asyncio can't wait for errors alone
        await asyncio.sleep(_CHECK_READER_SEC)


async def follow_log(
    buses: Sequence[Bus], since_sec: float | None = None
) -> AsyncGenerator[LoggedEvent, None]:
    """Return a generator of the events of all logs, merged; none is missed once this has returned.

    `since_sec` is how far back to begin; None begins now. A bus that does not answer is tried again.
    """
    return await follow_readers([EventLogReader(bus, since_sec) for bus in buses])


async def follow_readers(readers: Sequence["EventLogReader"]) -> AsyncGenerator[LoggedEvent, None]:
    """Return a generator of the events of some readers, as `follow_log` does."""
    return _merge(await read_past_events(readers), readers)


async def read_past_events(readers: Sequence["EventLogReader"]) -> list[LoggedEvent]:
    """Return the past events of all logs by their time, each once; the readers continue behind them."""
    past = await asyncio.gather(*(reader.read_past() for reader in readers))
    known = KnownIds()
    return [each for each in sorted(chain(*past), key=_get_timestamp) if known.add(each[1])]


def require_all_read(readers: Sequence["EventLogReader"]) -> None:
    """Raise Exit, code 3, with a line for each bus whose past events could not be read, if there is one."""
    failed = {reader.bus.name: reader.failure for reader in readers if reader.failure is not None}
    if failed:
        raise Exit(Code.NO_BUS, "\n".join(describe_away(failed)))


async def _merge(
    past: Sequence[LoggedEvent], readers: Sequence["EventLogReader"]
) -> AsyncGenerator[LoggedEvent, None]:
    known = KnownIds()
    queue: asyncio.Queue[LoggedEvent] = asyncio.Queue()
    for each in past:
        queue.put_nowait(each)
    tasks = [asyncio.ensure_future(reader.run(queue)) for reader in readers]
    try:
        while True:
            raw, event = await queue.get()
            if known.add(event):
                yield raw, event
    finally:
        await end_tasks(*tasks)


class KnownIds:
    """Keep the ids of the latest _KNOWN_IDS_KEPT events that were yielded."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, event: dict[str, Any]) -> bool:
        """Add an event's id; return False if it was known. An event without an id is never known."""
        key = event.get("id")
        if not isinstance(key, str):
            return True
        if key in self._ids:
            return False
        self._ids[key] = None
        if len(self._ids) > _KNOWN_IDS_KEPT:
            self._ids.popitem(last=False)
        return True


class EventLogReader:
    """Read the events of one log of a bus, by default the alert log: those of the past, and then new ones.

    `parse` returns the events of an entry, none if it has none that can be read.
    """

    def __init__(
        self, bus: Bus, since_sec: float | None, stream: str = ALERT_LOG, parse: ParseEntry | None = None
    ) -> None:
        self.bus, self._since_sec, self._begun = bus, since_sec, time.monotonic()
        self._stream, self._parse = stream, parse or _parse_alert
        self._follower: StreamFollower | None = None  # None until the bus has answered once
        self.failure: str | None = None

    async def read_past(self) -> list[LoggedEvent]:
        """Return the events of the last `since_sec` seconds, and continue behind them.

        If the bus does not answer, `failure` says why, and some events may be missing, or all. The result is
        empty if `since_sec` is None.
        """
        found: list[LoggedEvent] = []
        try:
            self._follower = await self._open(self._since_sec)
            while self._since_sec is not None and (page := await self._read(self._follower)) is not None:
                found += page
        except BusError as error:
            self.failure = error.reason
        return found

    async def run(self, queue: asyncio.Queue[LoggedEvent]) -> None:
        """Put new events into the queue until cancelled; after an outage, resume at the old position."""
        while True:
            try:
                if self._follower is None:  # the bus was away from the beginning
                    self._follower = await self._open((self._since_sec or 0) + time.monotonic() - self._begun)
                for each in await self._read(self._follower, _BLOCK_SEC) or ():
                    queue.put_nowait(each)
            except BusError:
                await asyncio.sleep(PAUSES.longest_sec)

    async def _open(self, since_sec: float | None) -> StreamFollower:
        """Follow the log from its end, or from `since_sec` ago by the bus's clock. Raises BusError."""
        start = await read_newest_id(self.bus, self._stream)
        if since_sec is not None:
            now, _ = await self.bus.ask(self.bus.client.time())
            # never behind the end, since that would mean that the log was created again
            start = min(start, b"%d-0" % max(0, int((now - since_sec) * 1000) - 1), key=entry_sort_key)
        return StreamFollower(self.bus, self._stream, start)

    async def _read(
        self, follower: StreamFollower, block_sec: float | None = None
    ) -> list[LoggedEvent] | None:
        entries, _ = await follower.read(_PAGE_ENTRIES, block_sec)
        return [event for entry in entries for event in self._parse_entry(entry)] if entries else None

    def _parse_entry(self, entry: StreamEntry) -> list[LoggedEvent]:
        if entry.fields is None:
            output.print_aside(f"skipped: entry {entry.id.decode()} of {self._stream} has {entry.size} bytes")
            return []
        return self._parse(entry)


def _parse_alert(entry: StreamEntry) -> list[LoggedEvent]:
    raw = (entry.fields or {}).get(b"event", b"")
    event = parse_object(raw)
    return [(raw, event)] if event else []


def _get_timestamp(each: LoggedEvent) -> float:
    ts = each[1].get("ts")
    return ts if isinstance(ts, int | float) else 0.0
