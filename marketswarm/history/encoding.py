"""Encode a history for Redis in few bytes, and parse it. Pure.

Anyone who can write to the bus may have written what is parsed here; what is not exactly as it should be is
refused as a whole, and its reader starts from the beginning.

All numbers are whole, and written as variable-length integers of seven bits a byte, the lowest first. Times
are written as differences, so most take one to three bytes:

- the record of a service: 21 bytes, 4 to 8 for each fact of the last hours, 5 for each of its last outages
- hours of a subject, in one period of 32 days: 4 to 6 bytes for each run of equal hours
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final

import orjson
from pydantic import BaseModel, Field, ValidationError

from marketswarm.history.fleet_history import MAX_OUTAGES, PERIOD_HOURS, ServiceHistory
from marketswarm.history.listening import MAX_BOOTS, Heard, Listening
from marketswarm.history.rollup import HOUR_SEC, Run, cut_runs
from marketswarm.history.spans import MAX_EPOCH, Change, Fact, KnownState, Timeline

MAX_RECORD_BYTES: Final = 256 * 1024
"""More than a service can need that goes down and up again every two seconds."""
MAX_HOURS_BYTES: Final = 8 * 1024
"""More than the hours of a period need if each is another one than the hour before."""
MAX_PROGRESS_BYTES: Final = 4096
MAX_FACTS: Final = 30_000
_MAX_NUMBER_BYTES: Final = 9
_FORMAT: Final = 1
_SERVICE_FORMAT: Final = 2
_MAX_BUS: Final = 2**32
_STATES: Final = (KnownState.UNKNOWN, KnownState.UP, KnownState.DOWN)
_MAX_BOOT: Final = 64
_MAX_HOUR: Final = MAX_EPOCH // HOUR_SEC
_Epoch = Annotated[int, Field(ge=0, le=MAX_EPOCH)]


class _StoredProgress(BaseModel, strict=True):
    final: Annotated[int, Field(ge=0, le=_MAX_HOUR)]
    until: _Epoch
    heard: list[
        tuple[
            Annotated[str, Field(min_length=1, max_length=_MAX_BOOT)],
            Annotated[int, Field(ge=0, le=2**63)],
            _Epoch,
        ]
    ]


class UnreadableHistoryError(ValueError):
    """A stored value is not a history."""


def encode_service(record: ServiceHistory) -> bytes:
    numbers = [_SERVICE_FORMAT, record.first, 0 if record.gone_at is None else record.gone_at + 1]
    numbers += (0 if record.bus is None else record.bus + 1, record.moved_at)
    numbers.append(len(record.outages))
    before = 0
    for start, end in record.outages:
        numbers += (start - before, end - start)
        before = end
    return _encode_numbers([*numbers, *_timeline_numbers(record.timeline)])


def parse_service(raw: bytes) -> ServiceHistory:
    numbers = _read_numbers(raw, MAX_RECORD_BYTES)
    if _next(numbers, _SERVICE_FORMAT) != _SERVICE_FORMAT:
        raise UnreadableHistoryError("no such format")
    first, gone = _next(numbers, _MAX_HOUR), _next(numbers, MAX_EPOCH + 1)
    bus, moved_at = _next(numbers, _MAX_BUS), _next(numbers, MAX_EPOCH)
    outages, before = list[tuple[int, int]](), 0
    for _ in range(_next(numbers, MAX_OUTAGES)):
        start = before + _next(numbers, MAX_EPOCH)
        before = start + _next(numbers, MAX_EPOCH)
        outages.append((start, before))
    if before > MAX_EPOCH:
        raise UnreadableHistoryError("an outage is beyond the last time")
    timeline = _parse_timeline(numbers)
    if timeline.begin < first * HOUR_SEC:
        raise UnreadableHistoryError("it begins before its first hour")
    gone_at, bus_number = (each - 1 if each else None for each in (gone, bus))
    return ServiceHistory(first, timeline, outages, gone_at, bus_number, moved_at)


def encode_timeline(timeline: Timeline) -> bytes:
    return _encode_numbers([_FORMAT, *_timeline_numbers(timeline)])


def parse_timeline(raw: bytes) -> Timeline:
    """Parse the timeline of a bus, or of the healer. Raises UnreadableHistoryError."""
    numbers = _read_numbers(raw, MAX_RECORD_BYTES)
    if _next(numbers, _FORMAT) != _FORMAT:
        raise UnreadableHistoryError("no such format")
    return _parse_timeline(numbers)


def encode_hours(runs: Sequence[Run], period: int) -> bytes:
    """Return the hours of a subject in one period; empty if it has none there."""
    low = period * PERIOD_HOURS
    numbers: list[int] = []
    for run in cut_runs(runs, low, low + PERIOD_HOURS):
        numbers += (run.hour - low, run.hours, run.down, run.unknown)
        low = run.end
    return _encode_numbers(numbers)


def parse_hours(raw: bytes, period: int) -> list[Run]:
    at = period * PERIOD_HOURS
    end = at + PERIOD_HOURS
    numbers = _read_numbers(raw, MAX_HOURS_BYTES)
    runs: list[Run] = []
    for gap in numbers:
        count, down, unknown = (_next(numbers, PERIOD_HOURS), _next(numbers, 3600), _next(numbers, 3600))
        run = Run(at + gap, count, down, unknown)
        if not count or run.end > end or down + unknown > HOUR_SEC:
            raise UnreadableHistoryError("an hour is out of its bounds")
        runs.append(run)
        at = run.end
    return runs


def encode_progress(final: int, listening: Listening) -> bytes:
    heard = [list(one) for one in listening.heard]
    return orjson.dumps({"final": final, "until": listening.until, "heard": heard})


def parse_progress(raw: bytes) -> tuple[int, Listening]:
    """Parse up to which hour a history is finished, and what is known of the healer's presence."""
    if len(raw) > MAX_PROGRESS_BYTES:
        raise UnreadableHistoryError(f"more than {MAX_PROGRESS_BYTES} bytes")
    try:
        found = _StoredProgress.model_validate_json(raw)
    except ValidationError as error:
        raise UnreadableHistoryError("no progress") from error
    if found.until < found.final * HOUR_SEC:
        raise UnreadableHistoryError("no progress")
    return found.final, Listening(found.until, tuple(Heard(*each) for each in found.heard[:MAX_BOOTS]))


def _timeline_numbers(timeline: Timeline) -> Iterator[int]:
    yield timeline.begin
    yield _STATES.index(timeline.state) << 1 | timeline.refused
    facts = timeline.facts[-MAX_FACTS:]
    yield len(facts)
    before = timeline.begin
    for fact in facts:
        yield (fact.at - before) << 3 | fact.change
        yield fact.at - fact.end
        yield fact.end - fact.start
        before = fact.at


def _parse_timeline(numbers: Iterator[int]) -> Timeline:
    """Parse the timeline that ends a value."""
    begin, flags = _next(numbers, MAX_EPOCH), _next(numbers, 2 * len(_STATES) - 1)
    facts, at = list[Fact](), begin
    for _ in range(_next(numbers, MAX_FACTS)):
        number = _next(numbers, MAX_EPOCH << 3 | 7)
        at += number >> 3
        end = at - _next(numbers, MAX_EPOCH)
        start = end - _next(numbers, MAX_EPOCH)
        if start < 0 or at > MAX_EPOCH or not number & 7:
            raise UnreadableHistoryError("a fact is out of its bounds")
        facts.append(Fact(at, Change(number & 7), start, end))
    if next(numbers, None) is not None:
        raise UnreadableHistoryError("there is more than there should be")
    return Timeline(begin, _STATES[flags >> 1], facts, refused=bool(flags & 1))


def _encode_numbers(numbers: Iterable[int]) -> bytes:
    found = bytearray()
    for number in numbers:
        left = number
        while left > 0x7F:
            found.append(left & 0x7F | 0x80)
            left >>= 7
        found.append(left)
    return bytes(found)


def _read_numbers(raw: bytes, longest: int) -> Iterator[int]:
    if len(raw) > longest:
        raise UnreadableHistoryError(f"more than {longest} bytes")
    number = size = 0
    for byte in raw:
        number |= (byte & 0x7F) << 7 * size
        size += 1
        if size > _MAX_NUMBER_BYTES:
            raise UnreadableHistoryError("a number is too long")
        if not byte & 0x80:
            yield number
            number = size = 0
    if size:
        raise UnreadableHistoryError("the last number is cut off")


def _next(numbers: Iterator[int], most: int) -> int:
    number = next(numbers, -1)
    if not 0 <= number <= most:
        raise UnreadableHistoryError("a number is missing, or too large")
    return number
