"""Parse values that are read back from Redis: any client of the server may have written them.

Each parser takes a decoded value and returns it with its type, or None if it is unusable. `read_strings` and
`read_fields` limit the size: GET and HGETALL return a value whole, and one key of 300 MB would make each
reader that much larger and slower. GETRANGE copies no more bytes than requested, and a script checks the size
of a field before it reads the field. `report_unusable` logs and counts values that could not be used;
`delete_wrong_types` deletes a key of ours that holds a value of the wrong type, since no write to that key
would succeed any more, and `replace_unusable` also recreates a stream that has an entry with the last
possible id.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf, isfinite
from typing import Any, Final, TypeVar

import orjson

from marketswarm import log as logs
from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError
from marketswarm.bus.scripts import Script
from marketswarm.metrics import Family, MetricTable

MAX_EPOCH_SEC: Final = 253_402_300_799.0
"""The latest time that is accepted: the end of the year 9999, the last that every date library can show."""
MAX_DURATION_SEC: Final = 1e9
"""The longest duration, or reading of a listening clock, that is accepted: about 30 years."""
MAX_AHEAD_SEC: Final = 60.0
"""How far ahead of our clock the time of something past may be: the clocks of two machines differ."""
MAX_STRING_BYTES: Final = 16 * 1024
"""The longest string that is read. A beat has at most 4 KiB, a `health:` object less."""
MAX_COUNT: Final = 2**64 - 1
"""The greatest whole number that orjson can write."""
REPORT_EVERY_SEC: Final = 10.0
"""The shortest time between two log lines about one key."""

UNREAD_BYTES: Final = 4 * 1024 * 1024
"""The most bytes of unread entries that are kept of a stream that is created again."""

_BEGIN_ANEW: Final = Script.beside("marketswarm.bus", "begin_anew.lua")
_FIELDS: Final = Script.beside("marketswarm.bus", "fields.lua")
_WRONG_TYPE: Final = "WRONGTYPE"
_ENDED: Final = re.compile("exhausted the last possible ID|equal or smaller than the target stream top item")
"""What a server says of XADD after an entry with the last possible id."""
_DECIMAL: Final = re.compile(r"-?[0-9]{1,17}(\.[0-9]{1,17})?", re.ASCII)

T = TypeVar("T")
log = logs.get("state")
_HELP: Final = {
    "state_unusable_total{key}": "Stored values that could not be used, and were skipped or replaced.",
}
_METRICS: Final = MetricTable("marketswarm_", _HELP)


def parse_number(value: Any, least: float, most: float) -> float | None:
    """Return a number of a JSON document; None unless it is finite and from `least` to `most`."""
    if type(value) not in (int, float) or not isfinite(value) or not least <= value <= most:
        return None
    return float(value)


def parse_object(raw: bytes | None, longest: float = inf) -> dict[str, Any]:
    """Return the object in a JSON text of at most `longest` bytes; an empty one if `raw` is anything else."""
    try:
        found = orjson.loads(raw) if raw and len(raw) <= longest else None
    except orjson.JSONDecodeError:
        return {}
    return get_object(found)


def get_object(value: Any) -> dict[str, Any]:
    """Return an object inside a JSON document; an empty one in place of anything else."""
    return value if isinstance(value, dict) else {}


def get_list(value: Any) -> list[Any]:
    """Return a list inside a JSON document; an empty one in place of anything else."""
    return value if isinstance(value, list) else []


def parse_epoch(value: Any) -> float | None:
    """Return a time in epoch seconds; None unless it is from 0 to MAX_EPOCH_SEC."""
    return parse_number(value, 0.0, MAX_EPOCH_SEC)


def is_ahead(at: float, now: float) -> bool:
    """Return True if the time of something past lies so far in the future that it says nothing.

    Both are in epoch seconds, `now` by the reader's clock. The clock was set back since, or the writer has
    another one. A reader that believed such a time would wait until then, and so would its next instance. A
    limit that moves along with `now` mends nothing: treat the time as one that was never written.
    """
    return at > now + MAX_AHEAD_SEC


def parse_duration(value: Any) -> float | None:
    """Return a duration in seconds; None unless it is from 0 to MAX_DURATION_SEC."""
    return parse_number(value, 0.0, MAX_DURATION_SEC)


def parse_count(value: Any) -> int | None:
    """Return a whole number; None unless it is from 0 to MAX_COUNT."""
    return value if type(value) is int and 0 <= value <= MAX_COUNT else None


def parse_text(value: Any, longest: int) -> str | None:
    """Return a text of 1 to `longest` characters; None for anything else."""
    return value if type(value) is str and 0 < len(value) <= longest else None


def parse_values(
    value: Any, at_most: int, longest: int, parse: Callable[[Any], T | None], *, least: int = 1
) -> dict[str, T] | None:
    """Return an object of at most so many values, each as `parse` returns it.

    Each name has `least` to `longest` characters. Return None for anything else, or if a value is unusable.
    """
    if not isinstance(value, dict) or len(value) > at_most:
        return None
    parsed = {name: parse(each) for name, each in value.items() if least <= len(name) <= longest}
    found = {name: each for name, each in parsed.items() if each is not None}
    return found if len(found) == len(value) else None


def parse_decimal(raw: str, least: float, most: float) -> float | None:
    """Return a number written in plain digits; None for any other text, or if it is not in `least`..`most`.

    Exponents, hexadecimal digits, `inf` and `nan` are not accepted.
    """
    return parse_number(float(raw), least, most) if _DECIMAL.fullmatch(raw) else None


async def read_strings(
    bus: Bus, keys: Sequence[str], longest: int = MAX_STRING_BYTES, *, report: bool = False
) -> list[bytes | None]:
    """Return the value of each key.

    None stands for a key that does not exist, is empty or is not a string, and for a value of more than
    `longest` bytes; with `report` the latter two are reported as unusable state. Raises BusError.
    """
    if not keys:
        return []

    async def read() -> list[Any]:
        pipe = bus.pipeline()
        for key in keys:
            pipe.getrange(key, 0, longest)
        values: list[Any] = await pipe.execute(raise_on_error=False)
        for value in values:
            if isinstance(value, Exception) and _WRONG_TYPE not in str(value):
                raise value
        return values

    found = await bus.ask(read())
    if report:
        for key, value in zip(keys, found, strict=True):
            if not isinstance(value, bytes):
                report_unusable(bus.name, key, "no string")
            elif len(value) > longest:
                report_unusable(bus.name, key, f"more than {longest} bytes")
    return [value if isinstance(value, bytes) and 0 < len(value) <= longest else None for value in found]


async def read_parsed(
    bus: Bus, key: str, parse: Callable[[bytes], T | None], longest: int = MAX_STRING_BYTES
) -> T | None:
    """Return what `parse` makes of the string under a key; None if it is missing or unusable.

    The latter is reported: no string, more than `longest` bytes, or nothing that `parse` accepts. Raises
    BusError.
    """
    (raw,) = await read_strings(bus, [key], longest, report=True)
    found = None if raw is None else parse(raw)
    if raw is not None and found is None:
        report_unusable(bus.name, key)
    return found


async def read_time(bus: Bus) -> float:
    """Return the time by the clock of a bus, in epoch seconds. Raises BusError."""
    seconds, microseconds = await bus.ask(bus.client.time())
    return float(seconds) + float(microseconds) / 1e6


async def read_fields(
    bus: Bus, keys: Sequence[str], names: Sequence[str], longest: int = MAX_STRING_BYTES
) -> list[dict[bytes, bytes]]:
    """Return for each hash of `keys` those fields of `names` that it has, by name.

    A value of more than `longest` bytes is left out, a key that is not a hash has no fields, and both are
    reported as unusable state. Raises BusError.
    """
    if not keys:
        return []
    found: list[dict[bytes, bytes]] = []
    for key, values in zip(keys, await bus.script(_FIELDS, keys, [longest, *names]), strict=True):
        found.append({})
        if isinstance(values, bytes):
            report_unusable(bus.name, key, f"a {values.decode('ascii', 'replace')}")
            continue
        for name, value in zip(names, values, strict=True):
            if isinstance(value, bytes):
                found[-1][name.encode()] = value
            elif value is not None:
                report_unusable(bus.name, key, f"{name}: {value} bytes")
    return found


_unusable: Final = Counter[str]()  # by key
_reported: Final = dict[str, tuple[float, int]]()  # by key: the time of its last log line, and the count then


def report_unusable(bus: str, key: str, field: str = "") -> None:
    """Count a stored value that can't be used, and log it, at most once in ten seconds for each key.

    `field` is logged too: the name of a field, or what is wrong with the value.
    """
    _unusable[key] += 1
    now, (reported_at, count) = time.monotonic(), _reported.get(key, (float("-inf"), 0))
    if now - reported_at >= REPORT_EVERY_SEC:
        _reported[key] = now, _unusable[key]
        log.error("state.unusable", bus=bus, key=key, last_field=field[:100], count=_unusable[key] - count)


def count_unusable() -> int:
    """Return how many stored values could not be used since the process began."""
    return _unusable.total()


def collect_unusable() -> Iterator[Family]:
    return _METRICS.collect(state_unusable_total=_unusable)


def is_wrong_type(error: BusError) -> bool:
    return _WRONG_TYPE in error.detail


async def delete_wrong_types(bus: Bus, kinds: Mapping[str, str]) -> bool:
    """Delete each of our keys that holds a value of the wrong type; return True if there was one.

    `kinds` has the right type of each key, as Redis' TYPE names it. Raises BusError if a request failed.
    """
    found = False
    for key, kind in kinds.items():
        actual = await bus.ask(bus.client.type(key))
        if actual not in (kind.encode(), b"none"):
            await bus.ask(bus.client.delete(key))
            report_unusable(bus.name, key, f"a {actual.decode('ascii', 'replace')}")
            found = True
    return found


def has_ended(error: BusError) -> bool:
    """Return True if a stream takes no entry any more, since it has one with the last possible id."""
    said = str(error.__cause__ or error.detail)
    # a pipeline puts its command first
    return _ENDED.search(said.rpartition("caused error: ")[2]) is not None


async def replace_unusable(error: BusError, bus: Bus, kinds: Mapping[str, str]) -> bool:
    """Delete those of our keys that refuse every write, if that is the error; return True to have it retried.

    These are keys of another type than `kinds` names, and its streams that an entry with the last possible id
    has ended. Such a stream restarts with what a consumer group was not given yet, as far as this user may
    read it; a stream that another writer has recreated stays as it is. A failure of that is ignored.
    """
    try:
        if has_ended(error):
            for key in (key for key, kind in kinds.items() if kind == "stream"):
                if await bus.script(_BEGIN_ANEW, [key], [UNREAD_BYTES]):
                    report_unusable(bus.name, key, "a stream that was ended")
            return True
        return is_wrong_type(error) and await delete_wrong_types(bus, kinds)
    except BusError:
        return False
