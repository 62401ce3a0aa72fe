"""Keep the bars of one timeframe of a symbol that may still change, and pack them for the bus. Pure.

A table is stored in chunks of 8 intervals, each one field of the symbol's hash on market-redis
(`bars:state:<symbol>`): a commit writes only the chunks that changed.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Final

from services.bars.quality import HeldBar
from services.market.intervals import LENGTH_MS
from services.market.records import Adjustment, Bar, Timeframe, VolumeKind

CHUNK_BARS: Final = 8
UNPACKED_CHUNKS: Final = 4
"""The newest chunks of a table, which are not packed in memory, because they change with each minute."""
LATEST_MS: Final = 2**53
EARLIEST_MS: Final = -LATEST_MS
"""Times before and after all others, in epoch milliseconds."""

# start, open, high, low, close, volume, vwap, trades, seen, changes, revision of indicators, source, flags,
# minutes
_ROW: Final = struct.Struct("<q7dqIiHBH")
_FORMER_ROW: Final = struct.Struct("<q7dqIiHB")
"""A row of the releases before: its minutes are unknown. A chunk has too few rows to be of both lengths."""
_IS_COMPLETE: Final = 1
_IS_GIVEN: Final = 2
_IS_REPLAY: Final = 4
_IS_OTHER_HOURS: Final = 8
_RANK_BITS: Final = 4
"""The upper bits of the flags are the rank of the source, of 15 at most."""
_MAX_RANK: Final = 15
_MAX_SOURCES: Final = 255
_ADJUSTMENTS: Final = tuple(Adjustment)
_ADJUSTMENT_BITS: Final = 8
"""Two bits above the source are how it had adjusted the bar: 0 is raw."""
_ADJUSTMENT_MASK: Final = 3
_VOLUME_KINDS: Final = (None, *VolumeKind)
_VOLUME_BITS: Final = 10
"""The bits above these are whose volume it is: 0 is unknown, as in the rows of the releases before."""
_IS_KNOWN_TIME: Final = 1 << 15
"""A row with this bit above its source is no bar: its `seen` is since when its slot's indicators are known.

Only the slots have one whose bar or indicators a correction changed. Its other numbers are those of the bar
in the row that follows, so that a release that does not know this bit takes that bar.
"""
_HAS_CORRECTED_TIME: Final = 1 << 14
"""In a row with this bit, too, the number of trades is when the correction of the bar itself was asked for.

The rows of the releases before have it not: the bar may have been corrected, but not after it was seen.
"""


@dataclass(slots=True)
class Slot:
    """Hold what is known of one interval.

    Attributes:
        built: the bar that was built of shorter ones; of `1m` the minute itself.
        given: the bar that a source gave for the whole interval.
        indicator_rev: the revision of its indicators that was published last, -1 for none.
        known_ms: since when its indicators are known, or without these itself, as a correction changed them;
            0 if none did.
        corrected_ms: when the source was asked for the last correction of the shown bar after it was final;
            0 if there was none.
        packed: its bytes, empty if it changed since it was packed last.
    """

    built: HeldBar | None = None
    given: HeldBar | None = None
    indicator_rev: int = -1
    known_ms: int = 0
    corrected_ms: int = 0
    packed: bytes = b""

    @property
    def shown(self) -> HeldBar | None:
        """Return the bar to publish: a complete given one before the built one before a given one.

        A day of other hours gives way to one that was built of nearly all of its minutes.
        """
        given, built = self.given, self.built
        if given is None or built is None:
            return given or built
        is_better = given.is_complete and not (given.is_other_hours and built.is_complete)
        return given if is_better else built

    @property
    def rev(self) -> int:
        """Return the revision: how often any part of this bar was changed."""
        changes = (self.built.changes if self.built else 0) + (self.given.changes if self.given else 0)
        return changes - 1


class SourceNames:
    """The names of the sources of a symbol's bars, each with a number."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = list(names)

    def find_number(self, name: str) -> int:
        """Return the number of a source, the next one for a new name; the 256th and later share one."""
        if name not in self.names and len(self.names) < _MAX_SOURCES:
            self.names.append(name)
        return self.names.index(name) if name in self.names else _MAX_SOURCES

    def find_name(self, number: int) -> str:
        return self.names[number] if number < len(self.names) else "unknown"


class BarTable:
    """The bars of one timeframe, by their start.

    The newest chunks are slots; older ones stay packed until a bar in them is asked for.
    """

    def __init__(self, symbol: str, timeframe: Timeframe, sources: SourceNames) -> None:
        self.symbol, self.timeframe = symbol, timeframe
        self.newest_ms: int | None = None
        """The start of the newest bar, None if there is none."""
        self._length_ms = LENGTH_MS[timeframe]
        self._chunk_ms = CHUNK_BARS * self._length_ms
        self._sources = sources
        self._chunks: dict[int, bytes | dict[int, Slot]] = {}
        """By the start of each chunk its bytes, or its slots by their starts."""
        self._unpacked: set[int] = set()
        self._changed: set[int] = set()

    @property
    def oldest_ms(self) -> int | None:
        """The start of the oldest chunk: no bar is older."""
        return min(self._chunks, default=None)

    def __getitem__(self, start_ms: int) -> Slot:
        slot = self.find(start_ms)
        if slot is None:
            raise KeyError(start_ms)
        return slot

    def find(self, start_ms: int) -> Slot | None:
        slots = self._chunks.get(start_ms - start_ms % self._chunk_ms)
        if not isinstance(slots, dict):  # packed, or missing
            slots = self._open_chunk(self.find_chunk(start_ms))
        return slots.get(start_ms)

    def open_slot(self, start_ms: int) -> Slot:
        """Return the slot of an interval, a new one if it is missing, to be stored with the next commit."""
        chunk = start_ms - start_ms % self._chunk_ms
        slots = self._chunks.get(chunk)
        if not isinstance(slots, dict):  # packed, or missing
            slots = self._open_chunk(chunk)
        slot = slots.get(start_ms)
        if slot is None:
            self._chunks[chunk] = slots
            self._unpacked.add(chunk)
            slot = slots[start_ms] = Slot()
            self.newest_ms = start_ms if self.newest_ms is None else max(self.newest_ms, start_ms)
        slot.packed = b""
        self._changed.add(chunk)
        return slot

    def mark_changed(self, start_ms: int) -> None:
        """Have the slot of an interval stored with the next commit."""
        chunk = self.find_chunk(start_ms)
        self._changed.add(chunk)
        self._open_chunk(chunk)[start_ms].packed = b""

    def has_chunk(self, start_ms: int) -> bool:
        return self.find_chunk(start_ms) in self._chunks

    def list_built(self, open_ms: int, close_ms: int) -> list[HeldBar]:
        """Return the built bars that begin in `[open_ms, close_ms)`, in order."""
        slots = self._list_slots(open_ms, close_ms)
        return [built for slot in slots if (built := slot.built) is not None]

    def list_shown(self, first_ms: int, end_ms: int) -> list[HeldBar]:
        """Return the shown bars that begin in `[first_ms, end_ms)`, in order."""
        slots = self._list_slots(first_ms, end_ms)
        return [held for slot in slots if (held := slot.shown) is not None]

    def list_before(self, start_ms: int, count: int) -> list[HeldBar]:
        """Return the last `count` shown bars before `start_ms`, in order."""
        found = self.list_shown(start_ms - count * self._length_ms, start_ms)
        if len(found) == count:
            return found
        found = []  # there are gaps
        for chunk in sorted(self._chunks, reverse=True):
            if chunk < start_ms and len(found) < count:
                found = self.list_shown(chunk, min(chunk + self._chunk_ms, start_ms)) + found
        return found[-count:]

    def list_since(self, first_ms: int) -> list[Bar]:
        """Return each shown bar that begins at `first_ms` or later, in order, as it was given."""
        return [held.bar for held in self.list_shown(first_ms, LATEST_MS)]

    def forget_before(self, oldest_ms: int) -> list[int]:
        """Delete whole chunks that end before `oldest_ms` from memory; return their starts."""
        border_ms = self.find_chunk(oldest_ms)
        old = sorted(chunk for chunk in self._chunks if chunk < border_ms)
        for chunk in old:
            del self._chunks[chunk]
        self._unpacked.difference_update(old)
        self._changed.difference_update(old)
        if not self._chunks:
            self.newest_ms = None
        return old

    def pack_changes(self) -> dict[int, bytes]:
        """Return the chunks that changed since the last call, as bytes, and pack all but the newest."""
        if not self._changed and len(self._unpacked) <= UNPACKED_CHUNKS:
            return {}
        changed = {chunk: self._pack(chunk) for chunk in self._changed}
        self._changed.clear()
        if len(self._unpacked) > UNPACKED_CHUNKS:
            for chunk in sorted(self._unpacked)[:-UNPACKED_CHUNKS]:
                self._chunks[chunk] = changed.get(chunk) or self._pack(chunk)
                self._unpacked.discard(chunk)
        return changed

    def restore(self, chunks: Mapping[int, bytes]) -> None:
        """Take in stored chunks. Raise ValueError if their length can't be right."""
        if any(len(raw) % _ROW.size and len(raw) % _FORMER_ROW.size for raw in chunks.values()):
            raise ValueError("a chunk of bars has a length that no chunk has")
        self._chunks.update(chunks)
        if chunks:
            self.newest_ms = max(self._open_chunk(max(chunks)), default=None)

    def find_chunk(self, start_ms: int) -> int:
        """Return the start of the chunk of an interval."""
        return start_ms - start_ms % self._chunk_ms

    def _list_slots(self, first_ms: int, end_ms: int) -> list[Slot]:
        """Return the slots that begin in `[first_ms, end_ms)`, in order; their chunks are unpacked."""
        first = self.find_chunk(first_ms)
        if (end_ms - first) // self._chunk_ms < len(self._chunks):
            chunks = [chunk for chunk in range(first, end_ms, self._chunk_ms) if chunk in self._chunks]
        else:
            chunks = sorted(chunk for chunk in self._chunks if first <= chunk < end_ms)
        return [
            slot
            for chunk in chunks
            for start, slot in sorted(self._open_chunk(chunk).items())
            if first_ms <= start < end_ms
        ]

    def _open_chunk(self, chunk: int) -> dict[int, Slot]:
        """Return the slots of a chunk, which is unpacked; an empty dict, which is not kept, if it is new."""
        found = self._chunks.get(chunk)
        if found is None:
            return {}
        if isinstance(found, bytes):
            found = self._chunks[chunk] = self._unpack(found)
            self._unpacked.add(chunk)
        return found

    def _pack(self, chunk: int) -> bytes:
        slots = sorted(self._open_chunk(chunk).items())
        return b"".join([slot.packed or self._pack_slot(start, slot) for start, slot in slots])

    def _pack_slot(self, start: int, slot: Slot) -> bytes:
        packed, rev, built, given = b"", slot.indicator_rev, slot.built, slot.given
        if built is not None:
            packed = _pack_row(start, built, 0, rev, self._sources)
        if given is not None:
            packed += _pack_row(start, given, _IS_GIVEN, rev, self._sources)
        if (slot.known_ms or slot.corrected_ms) and (held := built or given) is not None:
            bar = replace(held.bar, trades=slot.corrected_ms)
            flag, known = _IS_GIVEN if built is None else 0, replace(held, bar=bar, seen_ms=slot.known_ms)
            mark = _IS_KNOWN_TIME | _HAS_CORRECTED_TIME
            packed = _pack_row(start, known, flag, rev, self._sources, mark=mark) + packed
        slot.packed = packed
        return packed

    def _unpack(self, packed: bytes) -> dict[int, Slot]:
        slots: dict[int, Slot] = {}
        undated: list[Slot] = []
        former = len(packed) % _ROW.size
        rows = _FORMER_ROW.iter_unpack(packed) if former else _ROW.iter_unpack(packed)
        for start, *numbers, seen_ms, changes, rev, source, flags, minutes in (
            (*row, 0) if former else row for row in rows
        ):
            slot = slots.setdefault(start, Slot(indicator_rev=rev))
            if source & _IS_KNOWN_TIME:
                slot.known_ms = seen_ms
                if source & _HAS_CORRECTED_TIME:
                    slot.corrected_ms = 0 if isnan(numbers[-1]) else int(numbers[-1])
                else:
                    undated.append(slot)
                continue
            opened, high, low, close, *rest = numbers
            volume, vwap, trades = (None if isnan(number) else number for number in rest)
            count = None if trades is None else int(trades)
            bar = Bar(self.symbol, self.timeframe, start, opened, high, low, close, volume, vwap, count)
            name = self._sources.find_name(source & _MAX_SOURCES)
            code, kind = source >> _ADJUSTMENT_BITS & _ADJUSTMENT_MASK, source >> _VOLUME_BITS
            adjustment = _ADJUSTMENTS[code] if code < len(_ADJUSTMENTS) else Adjustment.RAW
            volume_kind = _VOLUME_KINDS[kind] if kind < len(_VOLUME_KINDS) else None
            is_complete, is_replay = bool(flags & _IS_COMPLETE), bool(flags & _IS_REPLAY)
            rank = flags >> _RANK_BITS
            is_other = bool(flags & _IS_OTHER_HOURS)
            # fmt: off
            held = HeldBar(
                bar, changes, name, seen_ms, is_complete, is_replay, rank, is_other, minutes, adjustment,
                volume_kind,
            )
            # fmt: on
            if flags & _IS_GIVEN:
                slot.given = held
            else:
                slot.built = held
        for slot in undated:
            if slot.rev > 0 and (shown := slot.shown) is not None:
                slot.corrected_ms = min(slot.known_ms, shown.seen_ms)
        return slots


def _pack_row(
    start: int, held: HeldBar, flag: int, indicator_rev: int, sources: SourceNames, *, mark: int = 0
) -> bytes:
    """Return one bar as bytes; a number that is None is NaN. `mark` is a bit above its source."""
    bar = held.bar
    return _ROW.pack(
        start,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        nan if bar.volume is None else bar.volume,
        nan if bar.vwap is None else bar.vwap,
        nan if bar.trades is None else bar.trades,
        held.seen_ms,
        held.changes,
        indicator_rev,
        sources.find_number(held.source)
        | mark
        | _ADJUSTMENTS.index(held.adjustment) << _ADJUSTMENT_BITS
        | _VOLUME_KINDS.index(held.volume_kind) << _VOLUME_BITS,
        flag
        | (_IS_COMPLETE if held.is_complete else 0)
        | (_IS_REPLAY if held.is_replay else 0)
        | (_IS_OTHER_HOURS if held.is_other_hours else 0)
        | min(held.rank, _MAX_RANK) << _RANK_BITS,
        held.minutes,
    )
