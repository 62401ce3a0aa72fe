"""Keep the history in Redis: read it, and write what changed.

On system-redis there are three kinds of hashes: `board:history` (how far the alert log is recorded, and the
timelines of healer and buses), `board:history:spans` (a record for each service), `board:history:hours:<n>`
(the finished hours of 32 days, which expire together when the oldest are 400 days old).

What it costs, as `tests/board/test_history_store.py` measures it by MEMORY USAGE: a quiet service has about
90 bytes, however long it runs; one that is down for ten minutes of each day has 3 kB in a year; one that is
down for a part of every hour, and each time for another one, has 42 kB. That is the most.

Several boards may write. Each write is one script that checks the version of what is stored; a board that
lost reads again before it writes. A large write is cut into parts, the position in the log comes with the
last one. What is written twice is the same, since facts are a set and hours are counted again; so a board may
be killed at any moment.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from marketswarm.bus import Bus, BusError
from marketswarm.bus.errors import ReplyTooLongError
from marketswarm.bus.stored_values import delete_wrong_types, is_wrong_type, report_unusable
from marketswarm.bus.stream import FIRST_ID, REPLY_BYTES, is_entry_id
from marketswarm.bus.transaction import BusTransaction, commit
from marketswarm.history.encoding import (
    MAX_HOURS_BYTES,
    MAX_RECORD_BYTES,
    UnreadableHistoryError,
    encode_hours,
    encode_progress,
    encode_service,
    encode_timeline,
    parse_hours,
    parse_progress,
    parse_service,
    parse_timeline,
)
from marketswarm.history.fleet_history import (
    KEPT_HOURS,
    PERIOD_HOURS,
    FleetHistory,
    ServiceHistory,
    UnsavedChanges,
    bus_subject,
)
from marketswarm.history.rollup import HOUR_SEC, join_runs
from marketswarm.keys import BOARD_HISTORY, BOARD_SPANS, board_hours_key
from marketswarm.pages import split_pages
from marketswarm.time_slice import TimeSlice

CHANGES_AT_ONCE: Final = 1000
NAMES_AT_ONCE: Final = 500
READ_SEC: Final = 10.0

T = TypeVar("T")
_VERSION: Final = re.compile(rb"\d{1,18}")


@dataclass(slots=True)
class StoredHistory:
    """A history as it is stored: up to which entry of the alert log, and under which version."""

    history: FleetHistory
    position: bytes
    version: bytes


_Change = tuple[str, str, bytes]
"""A field to write: the key of its hash, its name, its value; an empty value deletes it."""


async def read_history(bus: Bus, now: int, only: Sequence[str] | None = None) -> StoredHistory | None:
    """Read the history on system-redis; None if there is none, or none that can be used.

    What claims to be later than `now`, or is too old to continue from, can't be used. `only` are the services
    to read; None reads all of them.
    """
    names = ("version", "position", "progress", "healer")
    version, position, progress, healer = await _read_fields(bus, BOARD_HISTORY, names, MAX_RECORD_BYTES)
    if not (version and position and progress and healer):
        return None
    if not (_VERSION.fullmatch(version) and is_entry_id(position)):
        report_unusable(bus.name, BOARD_HISTORY, "no position")
        return None
    try:
        history = FleetHistory(*parse_progress(progress))
        history.healer = parse_timeline(healer)
        _require_time(history, now)
    except UnreadableHistoryError as error:
        report_unusable(bus.name, BOARD_HISTORY, str(error))
        return None
    await _read_buses(bus, history)
    known = await _read_names(bus, BOARD_SPANS)
    wanted = known if only is None else [svc for svc in only if svc in known]
    await _read_services(bus, history, wanted, now)
    await _read_hours(bus, history, [*map(bus_subject, history.buses), *history.services])
    return StoredHistory(history, position, version)


async def read_position(bus: Bus) -> tuple[bytes, bytes]:
    """Return the version of the stored history, and up to which entry of the log it goes. Raises BusError.

    The version is empty, and the position the beginning, where nothing is stored that can be used.
    """
    names = ("version", "position")
    version, position = await _read_fields(bus, BOARD_HISTORY, names, MAX_RECORD_BYTES)
    return version or b"", position if position and is_entry_id(position) else FIRST_ID


async def write_history(bus: Bus, stored: StoredHistory, position: bytes) -> bool:
    """Write what changed, and the position in the log up to which it was read.

    Return False if another board has written since; read the history again then, and after a BusError, before
    the next write.
    """
    history = stored.history
    parts: list[list[_Change]] = [[]]
    time_slice = TimeSlice()
    for group in _group_changes(history):
        await time_slice.pause()
        if len(parts[-1]) >= CHANGES_AT_ONCE:
            parts.append([])
        parts[-1] += group
    parts[-1] += [
        (BOARD_HISTORY, "position", position),
        (BOARD_HISTORY, "progress", encode_progress(history.final, history.listening)),
        (BOARD_HISTORY, "healer", encode_timeline(history.healer)),
    ]
    for part in parts:
        version = b"%d" % (int(stored.version or b"0") + 1)
        if not await _write(bus, part, stored.version, version):
            return False
        stored.version = version
    stored.position, history.changes = position, UnsavedChanges()
    return True


async def _write(bus: Bus, part: Sequence[_Change], old: bytes, new: bytes) -> bool:
    """Write changes; return False if another version is stored than `old`, or a key of ours is no hash.

    Such a key is deleted. Raises BusError.
    """
    changed: dict[str, dict[str, bytes]] = {BOARD_HISTORY: {}, BOARD_SPANS: {}}
    for key, name, value in part:
        changed.setdefault(key, {})[name] = value
    changed[BOARD_HISTORY]["version"] = new
    write = BusTransaction()
    write.require(BOARD_HISTORY, "version", old)
    for key, fields in changed.items():
        kept = {name: value for name, value in fields.items() if value}
        expires_at = None if key in {BOARD_HISTORY, BOARD_SPANS} else _expires_at(key)
        write.write_hash(key, kept, fields.keys() - kept.keys(), expires_at=expires_at)
    try:
        return await commit(bus, write, READ_SEC)
    except BusError as error:
        if not is_wrong_type(error):
            raise
        await delete_wrong_types(bus, dict.fromkeys(changed, "hash"))
        return False


def _group_changes(history: FleetHistory) -> Iterator[list[_Change]]:
    """Yield the fields that changed, those that must be written together in one list.

    The hours of a service and its record belong together; an outage that begins in finished hours is added to
    them once, when its fact is new.
    """
    changes, groups = history.changes, dict[str, list[_Change]]()
    for subject, period in sorted(changes.hours):
        value = encode_hours(history.hours.get(subject, ()), period)
        groups.setdefault(subject, []).append((board_hours_key(period), subject, value))
    for svc in sorted(changes.services):
        record = history.services.get(svc)
        value = b"" if record is None else encode_service(record)
        groups.setdefault(svc, []).append((BOARD_SPANS, svc, value))
    yield from groups.values()
    for bus in sorted(changes.buses):
        yield [(BOARD_HISTORY, bus_subject(bus), encode_timeline(history.buses[bus]))]


def _expires_at(key: str) -> int:
    period = int(key.rpartition(":")[2])
    return (period * PERIOD_HOURS + KEPT_HOURS) * HOUR_SEC


def _require_time(history: FleetHistory, now: int) -> None:
    newest = max(history.final * HOUR_SEC, history.listening.until, history.healer.begin)
    if newest > now + HOUR_SEC or history.final < now // HOUR_SEC - KEPT_HOURS:
        raise UnreadableHistoryError("it is of another time")


async def _read_buses(bus: Bus, history: FleetHistory) -> None:
    prefix = bus_subject("")
    names = [name for name in await _read_names(bus, BOARD_HISTORY) if name.startswith(prefix)]
    async for name, timeline in _parse_fields(bus, BOARD_HISTORY, names, MAX_RECORD_BYTES, parse_timeline):
        history.buses[name.removeprefix(prefix)] = timeline


async def _read_services(bus: Bus, history: FleetHistory, names: Sequence[str], now: int) -> None:
    def parse(raw: bytes) -> ServiceHistory:
        record = parse_service(raw)
        if max(record.timeline.begin, record.moved_at) > now + HOUR_SEC:
            raise UnreadableHistoryError("it begins in the future")
        return record

    async for svc, record in _parse_fields(bus, BOARD_SPANS, names, MAX_RECORD_BYTES, parse):
        if record.is_quiet:
            record.timeline.advance(history.final * HOUR_SEC)
        history.services[svc] = record


async def _read_hours(bus: Bus, history: FleetHistory, subjects: Sequence[str]) -> None:
    last = (history.final - 1) // PERIOD_HOURS
    for period in range(last - KEPT_HOURS // PERIOD_HOURS - 1, last + 1):
        key = board_hours_key(period)
        held = set(await _read_names(bus, key))
        names = [subject for subject in subjects if subject in held]
        parse = partial(parse_hours, period=period)
        async for subject, runs in _parse_fields(bus, key, names, MAX_HOURS_BYTES, parse):
            history.hours[subject] = join_runs((*history.hours.get(subject, ()), *runs))


async def _parse_fields(
    bus: Bus, key: str, names: Sequence[str], longest: int, parse: Callable[[bytes], T]
) -> AsyncIterator[tuple[str, T]]:
    """Yield what `parse` makes of each field of a hash, by its name; what can't be used is reported."""
    for some in split_pages(names, NAMES_AT_ONCE):
        for name, raw in zip(some, await _read_fields(bus, key, some, longest), strict=True):
            if raw is not None:
                try:
                    found = parse(raw)
                except UnreadableHistoryError as error:
                    report_unusable(bus.name, key, f"{name}: {error}")
                else:
                    yield name, found


async def _read_names(bus: Bus, key: str) -> list[str]:
    if await bus.ask(bus.client.type(key)) != b"hash":
        return []
    try:
        found: list[bytes] = await bus.ask(bus.client.hkeys(key), READ_SEC, max_bytes=REPLY_BYTES)
    except ReplyTooLongError:
        report_unusable(bus.name, key, "too many fields")
        return []
    return [name.decode("utf-8", "replace") for name in found]


async def _read_fields(bus: Bus, key: str, names: Sequence[str], longest: int) -> list[bytes | None]:
    """Return fields of a hash; None for one that is missing, or has more than `longest` bytes."""
    if not names or await bus.ask(bus.client.type(key)) != b"hash":
        return [None] * len(names)
    pipe = bus.pipeline()
    for name in names:
        pipe.hstrlen(key, name)
    sizes: list[int] = await bus.ask(pipe.execute(), READ_SEC)
    fit = [name for name, size in zip(names, sizes, strict=True) if 0 < size <= longest]
    for name, size in zip(names, sizes, strict=True):
        if size > longest:
            report_unusable(bus.name, key, f"{name[:100]}: {size} bytes")
    if not fit:
        return [None] * len(names)
    reading: Any = bus.client.hmget(key, fit)
    values = dict(zip(fit, await bus.ask(reading, READ_SEC, max_bytes=8 * REPLY_BYTES), strict=True))
    return [values.get(name) for name in names]


def begin_history(now: int) -> StoredHistory:
    history = FleetHistory(now // HOUR_SEC)
    return StoredHistory(history, FIRST_ID, b"")


async def forget_unusable_history(bus: Bus) -> None:
    """Delete `board:history` on the bus, of whatever type it is, and log that. Raises BusError."""
    if await bus.ask(bus.client.type(BOARD_HISTORY)) != b"none":
        report_unusable(bus.name, BOARD_HISTORY, "deleted")
        await bus.ask(bus.client.delete(BOARD_HISTORY))
