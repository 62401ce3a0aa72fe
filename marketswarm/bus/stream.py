"""Read entries of a stream safely, however large they are.

Any client that may write a stream decides how large its entries are. A reader here accepts replies up to
`REPLY_BYTES`. When a reply is longer, the reader calls a script that returns each entry's size and omits the
fields of an entry above `ENTRY_BYTES`. The caller gets such an entry without fields, counts it, logs it and
skips it.
"""

import math
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus.bus import Bus
from marketswarm.bus.errors import BusError, ReplyTooLongError
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import is_wrong_type, report_unusable

ENTRY_BYTES: Final = 64 * 1024
"""The largest entry whose fields are returned. An alert event has at most 16 KiB."""
REPLY_BYTES: Final = 16 * 1024 * 1024
"""The most bytes of one reply."""
FIRST_ID: Final = b"0-0"
"""An id before that of every entry."""
TYPES_EVERY_SEC: Final = 2.0
"""How often it is asked whether a key that is not a stream has become one."""

_ENTRIES: Final = Script.beside("marketswarm.bus", "stream.lua")
_ID: Final = re.compile(rb"\d{1,20}-\d{1,20}", re.ASCII)
_LAST_NUMBER: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """One entry. `size` is the sum of its names' and values' bytes; above `ENTRY_BYTES`, `fields` is None."""

    id: bytes
    size: int
    fields: dict[bytes, bytes] | None


async def read_streams_after(
    bus: Bus, positions: Mapping[str, bytes], *, count: int, block_sec: float | None = None
) -> dict[str, list[StreamEntry]]:
    """Return up to `count` entries of each stream after its id in `positions`, oldest first.

    A stream without any may be missing. If no stream has any yet, wait up to `block_sec` seconds for the
    first entry; None: don't wait. Raises BusError.
    """
    block_msec = None if block_sec is None else round(1000 * block_sec)
    after: dict[Any, Any] = {**positions}  # redis-py takes a dict of exactly its own union
    reading = bus.client.xread(after, count=count, block=block_msec)
    try:
        reply: Any = await bus.ask(reading, (block_sec or 0) + bus.within_sec, max_bytes=REPLY_BYTES)
    except ReplyTooLongError:
        return {
            stream: await _run_stream_script(bus, stream, "XRANGE", ["(" + last.decode(), "+", count])
            for stream, last in positions.items()
        }
    return {
        stream.decode(): [make_stream_entry(ident, fields) for ident, fields in entries]
        for stream, entries in reply or ()
    }


async def read_entries_between(
    bus: Bus, stream: str, first: str, last: str, *, count: int
) -> list[StreamEntry]:
    """Return entries from `first` to `last`, both included; only an empty result ends it. Raises BusError."""
    return await _run_stream_script(bus, stream, "XRANGE", [first, last, count])


async def read_entries_before(bus: Bus, stream: str, before: bytes, *, count: int) -> list[StreamEntry]:
    """Return up to `count` entries, the newest first, from the end (`+`) or before an id (`(<id>`).

    As in `read_entries_between`, only an empty result means the end. Raises BusError.
    """
    return await _run_stream_script(bus, stream, "XREVRANGE", [before, "-", count])


async def read_entries_by_id(bus: Bus, stream: str, idents: Sequence[bytes]) -> list[StreamEntry]:
    """Return the entries with these ids, in their order, without those that were deleted. Raises BusError."""
    found: list[StreamEntry] = []
    missing_ids = list(idents)
    while missing_ids:
        page = await _run_stream_script(bus, stream, "IDS", missing_ids)
        found += page
        if not page:
            break
        missing_ids = missing_ids[missing_ids.index(page[-1].id) + 1 :]
    return found


async def read_newest_id(bus: Bus, stream: str) -> bytes:
    """Return the id of the newest entry, `0-0` for a stream without any. Raises BusError."""
    reply = await bus.script(_ENTRIES, [stream], ["XREVRANGE", 0, REPLY_BYTES, "+", "-", 1])
    return bytes(reply[0][0]) if reply else FIRST_ID


async def has_begun_anew(bus: Bus, stream: str, position: bytes) -> bool:
    """Return True if the newest entry of a stream is older than `position`. Raises BusError.

    Then the stream was deleted since, or the bus has lost what it had last. A reader by position asks this
    while there is nothing to read: otherwise one entry with the last possible id would end its reading for
    good, also after the stream was deleted.
    """
    return entry_sort_key(await read_newest_id(bus, stream)) < entry_sort_key(position)


def is_entry_id(text: bytes) -> bool:
    """Return True for an id such as `1793000000000-0`, unless no server can read after it."""
    return bool(_ID.fullmatch(text)) and max(entry_sort_key(text)) <= _LAST_NUMBER


def find_entry_time(ident: bytes) -> float:
    """Return when an entry was added, in epoch seconds by the clock of its bus."""
    return int(ident.partition(b"-")[0]) / 1000


def entry_sort_key(ident: bytes) -> tuple[int, int]:
    """An older entry has a smaller key."""
    ms, _, seq = ident.partition(b"-")
    return int(ms), int(seq or 0)


def make_stream_entry(ident: bytes, fields: dict[bytes, bytes] | None) -> StreamEntry:
    """Leave the fields out if they exceed `ENTRY_BYTES`."""
    size = sum(len(name) + len(value) for name, value in (fields or {}).items())
    return StreamEntry(ident, size, (fields or {}) if size <= ENTRY_BYTES else None)


async def _run_stream_script(
    bus: Bus, stream: str, command: str, args: Sequence[str | bytes | float]
) -> list[StreamEntry]:
    reply = await bus.script(
        _ENTRIES, [stream], [command, ENTRY_BYTES, REPLY_BYTES, *args], 2 * bus.within_sec
    )
    pairs = ((ident, size, zip(flat[::2], flat[1::2], strict=True)) for ident, size, flat in reply)
    return [
        StreamEntry(ident, size, dict(each) if size <= ENTRY_BYTES else None) for ident, size, each in pairs
    ]


class StreamTypes:
    """The types of the keys that a service reads as streams of one bus.

    Those that hold values of another type are left out, until they are streams again. The types are read
    after an error that one is wrong, and every TYPES_EVERY_SEC while one is.
    """

    def __init__(self) -> None:
        self._wrong: dict[str, str] = {}  # the type of each key that is not a stream
        self._due_at = math.inf  # when the types are to be read (monotonic)
        self._bus = ""

    @property
    def problem(self) -> str | None:
        """Return each key that is not a stream, separated by `; `; None if there are none."""
        wrong = [f"{self._bus} {key} is a {kind} and not a stream" for key, kind in self._wrong.items()]
        return "; ".join(wrong) or None

    def record(self, error: BusError) -> None:
        """Have the types read next if the error is that one of them is wrong."""
        if is_wrong_type(error):
            self._due_at = time.monotonic()

    async def find_streams(self, bus: Bus, keys: Collection[str]) -> list[str]:
        """Return the keys that are streams, or missing; count and log each new one of the others.

        Raises BusError.
        """
        if time.monotonic() >= self._due_at:
            found = dict[str, str]()
            for key in keys:
                kind = (await bus.ask(bus.client.type(key))).decode("ascii", "replace")
                if kind not in ("stream", "none"):
                    found[key] = kind
            for key in found.keys() - self._wrong.keys():
                report_unusable(bus.name, key, f"a {found[key]}")
            self._wrong, self._bus = found, bus.name
            self._due_at = time.monotonic() + TYPES_EVERY_SEC if found else math.inf
        return [key for key in keys if key not in self._wrong]
