"""Keep the bars of one symbol that may still change, and pack them for the bus. Pure.

Bars are kept in tables, one a timeframe, for as long as they can be revised. A table is stored in chunks of
8 intervals, each one field of a hash of the bus: a commit writes only the chunks that changed, and whoever
takes the symbol over reads the hash and goes on. What can't be unpacked is as if it was never there.
"""

import struct
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Any, Final

import orjson

from marketswarm.bus.stream import is_entry_id
from services.bars.quality import HeldBar, SuspectMinute
from services.market.intervals import LENGTH_MS
from services.market.records import DAY_MS, TIMEFRAMES, Bar, Provenance, Timeframe

CHUNK_BARS: Final = 8
UNPACKED_CHUNKS: Final = 4
"""The newest chunks of a table, which are not packed in memory: they change with each minute."""
KEPT_DAYS: Final = {"1m": 0, "5m": 0, "15m": 0, "1h": 30, "4h": 60, "1d": 800}
"""For how many days bars are kept, at the least; never shorter than what may be revised."""
AHEAD_MS: Final = 30 * DAY_MS
"""How far the bars that a source gives may be ahead of minutes that are still to come.

A first load may bring the hours of today before the minutes of last week.
"""
EARLIEST_MS: Final = -(2**53)
LATEST_MS: Final = 2**53
"""Times before and after all others, in epoch milliseconds."""
VERSION: Final = "version"
POSITION: Final = "position"
REST: Final = "rest"
DAILY: Final = "daily"
"""The fields of a stored symbol, beside its chunks and its series of indicators. `daily`
changes whenever a day is final or a final one changed."""

# start, open, high, low, close, volume, vwap, trades, seen, changes, revision of indicators, source, flags
_ROW: Final = struct.Struct("<q7dqIiHB")
_IS_COMPLETE: Final = 1
_IS_GIVEN: Final = 2
_IS_REPLAY: Final = 4
_IS_OTHER_HOURS: Final = 8
_RANK_BITS: Final = 4
"""The upper bits of the flags are the rank of the source, of 15 at most."""
_MAX_RANK: Final = 15
_MAX_SOURCES: Final = 255
_INTRADAY: Final = tuple(timeframe for timeframe in TIMEFRAMES if timeframe not in ("1m", "1d"))


@dataclass(slots=True)
class Slot:
    """Hold what is known of one interval.

    Attributes:
        built: the bar that was built of shorter ones; of `1m` the minute itself.
        given: the bar that a source gave for the whole interval.
        indicator_rev: the revision of its indicators that was published last, -1 for none.
    """

    built: HeldBar | None = None
    given: HeldBar | None = None
    indicator_rev: int = -1

    @property
    def shown(self) -> HeldBar | None:
        """Return the bar to publish: a given one that is complete, else the built one, else a given one.

        A day of other hours gives way to one that was built of all of its minutes.
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
        """Return the number of a source, which may be a new one."""
        if name not in self.names and len(self.names) < _MAX_SOURCES:
            self.names.append(name)
        return self.names.index(name) if name in self.names else _MAX_SOURCES

    def find_name(self, number: int) -> str:
        """Return the source with this number."""
        return self.names[number] if number < len(self.names) else "unknown"


class BarTable:
    """The bars of one timeframe, by their start.

    The newest chunks are slots; older ones stay packed until a bar in them is asked for.
    """

    def __init__(self, symbol: str, timeframe: Timeframe, sources: SourceNames) -> None:
        self.symbol, self.timeframe = symbol, timeframe
        self._length_ms = LENGTH_MS[timeframe]
        self._chunk_ms = CHUNK_BARS * self._length_ms
        self._sources = sources
        self._slots: dict[int, Slot] = {}
        self._starts: list[int] = []
        self._packed: dict[int, bytes] = {}
        self._unpacked: set[int] = set()
        self._changed: set[int] = set()
        self._rows: dict[int, bytes] = {}
        """The slots that did not change since they were packed last, as bytes."""

    @property
    def newest_ms(self) -> int | None:
        """Return the start of the newest bar, None if there is none."""
        return self._starts[-1] if self._starts else None

    @property
    def oldest_ms(self) -> int | None:
        """Return where the oldest chunk begins, None if there is none."""
        return min((*self._packed, *self._unpacked), default=None)

    def __getitem__(self, start_ms: int) -> Slot:
        """Return the slot of an interval. Raise KeyError if nothing is known of it."""
        slot = self.find(start_ms)
        if slot is None:
            raise KeyError(start_ms)
        return slot

    def find(self, start_ms: int) -> Slot | None:
        """Return the slot of an interval, None if nothing is known of it."""
        slot = self._slots.get(start_ms)
        if slot is None and self._packed:
            self._unpack_between(start_ms, start_ms + 1)
            slot = self._slots.get(start_ms)
        return slot

    def open_slot(self, start_ms: int) -> Slot:
        """Return the slot of an interval, which is made if there is none; it is to be stored."""
        slot = self.find(start_ms)
        if slot is None:
            slot = self._slots[start_ms] = Slot()
            insort(self._starts, start_ms)
            self._unpacked.add(self.find_chunk(start_ms))
        self.mark_changed(start_ms)
        return slot

    def mark_changed(self, start_ms: int) -> None:
        """Have the slot of an interval stored with the next commit."""
        self._changed.add(start_ms - start_ms % self._chunk_ms)
        self._rows.pop(start_ms, None)

    def has_chunk(self, start_ms: int) -> bool:
        """Return True if the chunk of an interval is not forgotten."""
        chunk = self.find_chunk(start_ms)
        return chunk in self._packed or chunk in self._unpacked

    def list_built(self, open_ms: int, close_ms: int) -> list[HeldBar]:
        """Return the built bars that begin in `[open_ms, close_ms)`, in order."""
        self._unpack_between(open_ms, close_ms)
        starts = self._starts[bisect_left(self._starts, open_ms) : bisect_left(self._starts, close_ms)]
        return [held for start in starts if (held := self._slots[start].built) is not None]

    def list_before(self, start_ms: int, count: int) -> list[Bar]:
        """Return the last `count` shown bars before `start_ms`, in order."""
        found = self.list_shown(start_ms - count * self._length_ms, start_ms)
        if len(found) == count:
            return [held.bar for held in found]
        found = []  # there are gaps
        for chunk in sorted({*self._packed, *self._unpacked}, reverse=True):
            if chunk < start_ms and len(found) < count:
                found = self.list_shown(chunk, min(chunk + self._chunk_ms, start_ms)) + found
        return [held.bar for held in found[-count:]]

    def iter_shown(self, first_ms: int) -> Iterator[Bar]:
        """Yield each shown bar that begins at `first_ms` or later, in order."""
        for held in self.list_shown(first_ms, LATEST_MS):
            yield held.bar

    def forget_before(self, oldest_ms: int) -> list[int]:
        """Forget whole chunks that end before `oldest_ms`; return their starts."""
        border_ms = self.find_chunk(oldest_ms)
        old = [chunk for chunk in (*self._packed, *self._unpacked) if chunk < border_ms]
        for chunk in old:
            self._packed.pop(chunk, None)
            self._unpacked.discard(chunk)
            self._changed.discard(chunk)
        end = bisect_left(self._starts, border_ms)
        self._drop_slots(0, end)
        return sorted(old)

    def pack_changes(self) -> dict[int, bytes]:
        """Return the chunks that changed since the last call, as bytes, and pack all but the newest."""
        changed = {chunk: self._pack(chunk) for chunk in self._changed}
        self._changed.clear()
        if len(self._unpacked) > UNPACKED_CHUNKS:
            for chunk in sorted(self._unpacked)[:-UNPACKED_CHUNKS]:
                self._packed[chunk] = changed.get(chunk) or self._pack(chunk)
                self._unpacked.discard(chunk)
                self._drop_slots(*self._find_range(chunk))
        return changed

    def restore(self, chunks: Mapping[int, bytes]) -> None:
        """Take in stored chunks. Raise ValueError if the bytes are none."""
        if any(len(raw) % _ROW.size for raw in chunks.values()):
            raise ValueError("a chunk of bars has a length that no chunk has")
        self._packed.update(chunks)
        if chunks:
            self._unpack(max(chunks))

    def list_shown(self, first_ms: int, end_ms: int) -> list[HeldBar]:
        """Return the shown bars that begin in `[first_ms, end_ms)`, in order."""
        self._unpack_between(first_ms, end_ms)
        starts = self._starts[bisect_left(self._starts, first_ms) : bisect_left(self._starts, end_ms)]
        return [held for start in starts if (held := self._slots[start].shown) is not None]

    def find_chunk(self, start_ms: int) -> int:
        """Return the start of the chunk of an interval."""
        return start_ms - start_ms % self._chunk_ms

    def _find_range(self, chunk: int) -> tuple[int, int]:
        """Return the positions of the first start in a chunk, and of the first one behind it."""
        return bisect_left(self._starts, chunk), bisect_left(self._starts, chunk + self._chunk_ms)

    def _drop_slots(self, first: int, end: int) -> None:
        """Drop the slots at these positions."""
        for start in self._starts[first:end]:
            del self._slots[start]
            self._rows.pop(start, None)
        del self._starts[first:end]

    def _pack(self, chunk: int) -> bytes:
        """Return the bars of an unpacked chunk as bytes."""
        first, end = self._find_range(chunk)
        return b"".join(
            [self._rows.get(start) or self._pack_slot(start) for start in self._starts[first:end]]
        )

    def _pack_slot(self, start: int) -> bytes:
        """Return the bars of a slot as bytes."""
        slot = self._slots[start]
        rows = [
            _pack_row(start, held, flag, slot.indicator_rev, self._sources)
            for held, flag in ((slot.built, 0), (slot.given, _IS_GIVEN))
            if held is not None
        ]
        packed = self._rows[start] = b"".join(rows)
        return packed

    def _unpack_between(self, first_ms: int, end_ms: int) -> None:
        """Unpack the chunks that have bars in `[first_ms, end_ms)`."""
        first = self.find_chunk(first_ms)
        if (end_ms - first) // self._chunk_ms < len(self._packed):
            chunks = [chunk for chunk in range(first, end_ms, self._chunk_ms) if chunk in self._packed]
        else:
            chunks = [chunk for chunk in self._packed if first <= chunk < end_ms]
        for chunk in chunks:
            self._unpack(chunk)

    def _unpack(self, chunk: int) -> None:
        """Make slots of the bars in a packed chunk."""
        self._unpacked.add(chunk)
        for start, *numbers, seen_ms, changes, rev, source, flags in _ROW.iter_unpack(
            self._packed.pop(chunk)
        ):
            opened, high, low, close, *rest = numbers
            volume, vwap, trades = (None if isnan(number) else number for number in rest)
            count = None if trades is None else int(trades)
            bar = Bar(self.symbol, self.timeframe, start, opened, high, low, close, volume, vwap, count)
            name = self._sources.find_name(source)
            is_complete, is_replay = bool(flags & _IS_COMPLETE), bool(flags & _IS_REPLAY)
            rank = flags >> _RANK_BITS
            is_other = bool(flags & _IS_OTHER_HOURS)
            held = HeldBar(bar, changes, name, seen_ms, is_complete, is_replay, rank, is_other)
            slot = self._slots.get(start)
            if slot is None:
                slot = self._slots[start] = Slot(indicator_rev=rev)
                insort(self._starts, start)
            if flags & _IS_GIVEN:
                slot.given = held
            else:
                slot.built = held


@dataclass(slots=True)
class OpenBar:
    """Hold from when on a bar is final that is not yet, and where its last change came from.

    `close_ms` is the end of its interval; LATEST_MS if something else must come before.
    """

    close_ms: int
    provenance: Provenance


@dataclass(slots=True)
class Covered:
    """Hold which intervals of a timeframe may have been published, by their starts in epoch milliseconds.

    That is all from `first_ms` on, without those between `gap_from_ms` and `gap_to_ms`: a history may begin
    before what is known already, and it comes in order of time.
    """

    first_ms: int
    gap_from_ms: int
    gap_to_ms: int

    def has(self, start_ms: int) -> bool:
        """Return True if a bar that begins then may have been published."""
        return start_ms >= self.first_ms and not self.gap_from_ms < start_ms < self.gap_to_ms

    def add(self, start_ms: int) -> None:
        """Note that a bar that begins then is published."""
        if start_ms < self.first_ms:
            self.first_ms, self.gap_from_ms, self.gap_to_ms = start_ms, start_ms, self.first_ms
        elif self.gap_from_ms < start_ms < self.gap_to_ms:
            self.gap_from_ms = start_ms


@dataclass(slots=True)
class TickTimes:
    """Hold the times of the first and the last tick that made a minute, in epoch milliseconds."""

    first_ms: int
    last_ms: int


@dataclass(slots=True)
class SymbolState:
    """Hold all that is known of one symbol.

    Attributes:
        symbol: the symbol.
        version: how often it was committed.
        epoch: a number that is higher each time that the state is read from the bus, also from one that has
            lost some of it: at least the time in milliseconds, by the clock of the bus.
        positions: the id of the last entry of each stream that is in it.
        first_ms: the start of the oldest minute that it ever had; None if it has none.
        newest_ms: the start of its newest minute; None if it has none.
        is_replay: whether its last record was of a replay.
        open_bars: the published bars that are not final, by timeframe and start.
        ticks: the newest minutes that were made of ticks, by their start.
        suspect: the minute that was rejected last for its jump; None once a later one passed.
        covered: by timeframe, which of its longer bars may have been published.
    """

    symbol: str
    version: int = 0
    epoch: int = 0
    positions: list[bytes] = field(default_factory=lambda: [b"0-0", b"0-0"])
    first_ms: int | None = None
    newest_ms: int | None = None
    is_replay: bool = False
    open_bars: dict[tuple[Timeframe, int], OpenBar] = field(default_factory=dict)
    ticks: dict[int, TickTimes] = field(default_factory=dict)
    suspect: SuspectMinute | None = None
    sources: SourceNames = field(default_factory=SourceNames)
    tables: dict[Timeframe, BarTable] = field(default_factory=dict)
    covered: dict[Timeframe, Covered] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Make the tables."""
        for timeframe in TIMEFRAMES:
            self.tables[timeframe] = BarTable(self.symbol, timeframe, self.sources)

    def find_newest(self, timeframe: Timeframe) -> int | None:
        """Return the start from which the age of bars of this timeframe counts; None if there are no bars.

        That is the start of the newest minute. Where there are no minutes, or no more, it is that of the
        newest bar that a source gave: of a day at once, of a shorter bar once it is AHEAD_MS ahead. It is the
        same for all timeframes that are built of each other, so that no bar is forgotten before a longer one
        that may be built of it again.
        """
        if timeframe == "1d":
            given_ms = self.tables["1d"].newest_ms
        else:
            starts = [self.tables[each].newest_ms for each in _INTRADAY]
            found = [start for start in starts if start is not None]
            given_ms = max(found) - AHEAD_MS if found else None
        if self.newest_ms is None or given_ms is None:
            return given_ms if self.newest_ms is None else self.newest_ms
        return max(self.newest_ms, given_ms)

    def cover(self, timeframe: Timeframe, start_ms: int) -> None:
        """Note that a bar of this timeframe is published that begins then."""
        covered = self.covered.get(timeframe)
        if covered is None:
            self.covered[timeframe] = Covered(start_ms, start_ms, start_ms)
        else:
            covered.add(start_ms)

    def forget_before(self, oldest: Mapping[Timeframe, int]) -> list[str]:
        """Forget whole chunks before the oldest bar to keep of each timeframe; return their fields."""
        fields = []
        for timeframe, oldest_ms in oldest.items():
            table = self.tables[timeframe]
            forgotten = table.forget_before(oldest_ms)
            if forgotten:
                fields += [chunk_field(timeframe, chunk) for chunk in forgotten]
                border_ms = table.find_chunk(oldest_ms)
                for key in [key for key in self.open_bars if key[0] == timeframe and key[1] < border_ms]:
                    del self.open_bars[key]
        return fields

    def pack_changes(self) -> dict[str, bytes]:
        """Return the fields to store of what changed since the last call."""
        fields: dict[str, bytes] = {}
        for timeframe, table in self.tables.items():
            for chunk, raw in table.pack_changes().items():
                fields[chunk_field(timeframe, chunk)] = raw
        fields[POSITION] = b" ".join(self.positions)
        fields[REST] = self._pack_rest()
        return fields

    def _pack_rest(self) -> bytes:
        """Return what is in no table as JSON."""
        return orjson.dumps(
            {
                "epoch": self.epoch,
                "first": self.first_ms,
                "newest": self.newest_ms,
                "replay": self.is_replay,
                "sources": self.sources.names,
                "open": [
                    [timeframe, start, each.close_ms, *_list_provenance(each.provenance)]
                    for (timeframe, start), each in self.open_bars.items()
                ],
                "ticks": [[start, tick.first_ms, tick.last_ms] for start, tick in self.ticks.items()],
                "suspect": None if self.suspect is None else _list_suspect(self.suspect),
                "covered": {
                    timeframe: [each.first_ms, each.gap_from_ms, each.gap_to_ms]
                    for timeframe, each in self.covered.items()
                },
            }
        )


def series_field(timeframe: str) -> str:
    """Return the name of the field of a series of indicators."""
    return f"{timeframe} indicators"


def past_field(timeframe: str) -> str:
    """Return the name of the field of a series of indicators of a history before what is kept."""
    return f"{timeframe} past indicators"


def chunk_field(timeframe: str, chunk: int) -> str:
    """Return the name of the field of a chunk."""
    return f"{timeframe}:{chunk}"


def restore_state(symbol: str, fields: Mapping[bytes, bytes]) -> SymbolState:
    """Return the state of a symbol from its stored fields, a new one if there are none.

    Raise ValueError if they are not what `pack_changes` makes.
    """
    state = SymbolState(symbol)
    if VERSION.encode() not in fields:
        return state
    try:
        state.version = int(fields[VERSION.encode()])
        state.positions = fields[POSITION.encode()].split(b" ")
        if len(state.positions) != 2 or not all(map(is_entry_id, state.positions)):
            raise ValueError("the state of a symbol has no positions")
        _restore_rest(state, orjson.loads(fields[REST.encode()]))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"the state of a symbol can't be read: {type(error).__name__}") from None
    _restore_tables(state, fields)
    return state


def _restore_tables(state: SymbolState, fields: Mapping[bytes, bytes]) -> None:
    """Take in the stored chunks. Raise ValueError if one is none."""
    chunks: dict[Timeframe, dict[int, bytes]] = {timeframe: {} for timeframe in TIMEFRAMES}
    for name, raw in fields.items():
        timeframe, _, chunk = name.decode("ascii", "replace").partition(":")
        if chunk and timeframe in chunks:
            chunks[timeframe][int(chunk)] = raw
    for timeframe, found in chunks.items():
        state.tables[timeframe].restore(found)
    state.open_bars = {
        (timeframe, start): opened
        for (timeframe, start), opened in state.open_bars.items()
        if state.tables[timeframe].find(start) is not None
    }
    for timeframe, table in state.tables.items():
        if timeframe not in state.covered and table.oldest_ms is not None:  # stored before it was noted
            first_ms = min(table.oldest_ms, table.oldest_ms if state.first_ms is None else state.first_ms)
            state.cover(timeframe, first_ms)


def read_final_days(symbol: str, fields: Mapping[bytes, bytes]) -> list[HeldBar]:
    """Return the days that are final, in order, from the stored fields of a symbol.

    Fields that can't be read are as if they were not there.
    """
    state = SymbolState(symbol)
    try:
        _restore_rest(state, orjson.loads(fields.get(REST.encode(), b"")))
        _restore_tables(state, fields)
    except (KeyError, TypeError, IndexError, ValueError):
        return []
    days = state.tables["1d"].list_shown(EARLIEST_MS, LATEST_MS)
    return [held for held in days if ("1d", held.bar.start_ms) not in state.open_bars]


def _restore_rest(state: SymbolState, rest: dict[str, list[list[str]]]) -> None:
    """Take in what is in no table. Raise KeyError, TypeError, IndexError or ValueError if it is none."""
    values: dict[str, object] = dict(rest)
    state.epoch = int(str(values["epoch"]))
    first, newest = values["first"], values["newest"]
    state.first_ms = None if first is None else int(str(first))
    state.newest_ms = None if newest is None else int(str(newest))
    state.is_replay = values["replay"] is True
    state.sources.names = [str(name) for name in rest["sources"]]
    for timeframe, start, close_ms, *provenance in rest["open"]:
        if timeframe in state.tables:
            opened = OpenBar(int(close_ms), _read_provenance(provenance))
            state.open_bars[timeframe, int(start)] = opened
    state.ticks = {int(start): TickTimes(int(first), int(last)) for start, first, last in rest["ticks"]}
    if rest["suspect"] is not None:
        state.suspect = _read_suspect(state.symbol, list(rest["suspect"]))
    for timeframe, times in dict(rest.get("covered", {})).items():
        if timeframe in state.tables:
            state.covered[timeframe] = Covered(*map(int, times))


def _pack_row(start: int, held: HeldBar, flag: int, indicator_rev: int, sources: SourceNames) -> bytes:
    """Return one bar as bytes; a number that is None is NaN."""
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
        sources.find_number(held.source),
        flag
        | (_IS_COMPLETE if held.is_complete else 0)
        | (_IS_REPLAY if held.is_replay else 0)
        | (_IS_OTHER_HOURS if held.is_other_hours else 0)
        | min(held.rank, _MAX_RANK) << _RANK_BITS,
    )


def _list_suspect(suspect: SuspectMinute) -> list[object]:
    """Return a suspect as a list of fields, for JSON."""
    bar = suspect.bar
    prices = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades)
    return [bar.start_ms, suspect.seen_ms, *prices, *_list_provenance(suspect.provenance)]


def _read_suspect(symbol: str, fields: Sequence[Any]) -> SuspectMinute:
    """Return a suspect of its fields; raise TypeError, IndexError or ValueError if they are none."""
    start_ms, seen_ms, *numbers = fields[:9]
    opened, high, low, close = map(float, numbers[:4])
    volume, vwap = (None if number is None else float(number) for number in numbers[4:6])
    trades = None if numbers[6] is None else int(numbers[6])
    bar = Bar(symbol, "1m", int(start_ms), opened, high, low, close, volume, vwap, trades)
    return SuspectMinute(bar, int(seen_ms), _read_provenance(fields[9:]))


def _list_provenance(provenance: Provenance) -> list[object]:
    """Return the fields of a provenance, for JSON."""
    return [
        provenance.source,
        provenance.asked_at,
        provenance.digest,
        provenance.is_replay,
        provenance.played_at,
    ]


def _read_provenance(fields: Sequence[object]) -> Provenance:
    """Return the provenance of its fields; raise IndexError or ValueError if they are none."""
    return Provenance(
        str(fields[0]),
        float(str(fields[1])),
        str(fields[2]),
        is_replay=fields[3] is True,
        played_at=float(str(fields[4])),
    )
