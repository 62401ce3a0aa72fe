"""Keep all that is known of one symbol, and pack it for the bus. Pure.

Bars are kept in tables, one a timeframe, for as long as they can be revised. The state is a hash on
market-redis (`bars:state:<symbol>`): the next instance that takes the symbol reads it and continues. A state
that can't be unpacked counts as missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import zip_longest
from typing import Final

import orjson
from pydantic import TypeAdapter, ValidationError

from marketswarm.bus.stream import is_entry_id
from services.bars.bar_table import EARLIEST_MS, LATEST_MS, BarTable, SourceNames
from services.bars.quality import HeldBar, SuspectBar
from services.market.fields import Fields
from services.market.records import TIMEFRAMES, Adjustment, Bar, Provenance, Timeframe, VolumeKind

STREAMS: Final = 3
"""The streams whose positions a state has: of bars, of quotes and of actions."""
VERSION: Final = "version"
POSITION: Final = "position"
REST: Final = "rest"
DAILY: Final = "daily"
PAST_DAYS: Final = "past days"
"""The fields of a stored symbol, beside its chunks and its series of indicators. `daily` changes whenever a
day is final or a final one changed; `past days` are those of a history that are too old to be kept, of the
week and the month that it has reached."""


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


Splits = tuple[tuple[date, float], ...]
"""Splits in order: their ex-days, and the shares that one share became."""


@dataclass(frozen=True, slots=True)
class Restated:
    """Hold by which ratio a source changed the prices of bars that it gave anew last, for a split."""

    source: str
    ratio: float


# fmt: off
StoredSuspect = tuple[
    int, int, float, float, float, float, float | None, float | None, int | None,
    str, float, str, bool, float,
]
# fmt: on


@dataclass(slots=True)
class StoredRest:
    """Hold the field REST of a stored symbol, which is this as JSON.

    Attributes:
        open: the open bars: timeframe, start and close; then, as at each end, five values of a `Provenance`.
        ticks: the start, and the times of the first and the last tick.
        suspect: of the minute, the start, when it was seen, the numbers of a `Bar`, and of a `Provenance`.
        covered: by timeframe, the three times of a `Covered`.
        suspects: the same as `suspect`, by longer timeframes.
        adjusted: how the bars of suspects are adjusted that are not raw, by timeframe.
        splits: the ex-days and ratios of all splits that are known; `applied`: of those in `SymbolState`.
        volume_kinds: whose volume the bars of suspects have where it is known, by timeframe.
        restated: as in `SymbolState`.
    """

    epoch: int
    first: int | None
    newest: int | None
    replay: bool
    sources: list[str]
    open: list[tuple[str, int, int, str, float, str, bool, float]]
    ticks: list[tuple[int, int, int]]
    suspect: StoredSuspect | None
    covered: dict[str, tuple[int, int, int]]
    suspects: dict[Timeframe, StoredSuspect] = field(default_factory=dict)
    adjusted: dict[Timeframe, Adjustment] = field(default_factory=dict)
    splits: tuple[tuple[date, float], ...] = ()
    applied: tuple[tuple[date, float], ...] = ()
    volume_kinds: dict[Timeframe, VolumeKind] = field(default_factory=dict)
    restated: Restated | None = None


_REST: Final = TypeAdapter(StoredRest)


@dataclass(slots=True)
class SymbolState:
    """Hold all that is known of one symbol.

    Attributes:
        version: how often it was committed.
        epoch: a number that is higher each time that the state is read from the bus, also from one that has
            lost some of it: at least the time in milliseconds, by the clock of the bus.
        positions: the id of the last entry of each stream that is in it.
        first_ms: the start of the oldest minute that it ever had; None if it has none.
        newest_ms: the start of its newest minute; None if it has none.
        is_replay: whether its last record was of a replay.
        ticks: the newest minutes that were made of ticks, by their start.
        suspects: by timeframe, the bar that was rejected last for its jump, until a later one passed.
        covered: by timeframe, which of its longer bars may have been published.
        past_days: the last days of a history that are too old to be kept, in order: all since `past_from_ms`.
        has_new_past: whether they changed since they were stored.
        splits: all splits that are known, also those that are still to come.
        applied: the splits for which the bars are adjusted of which the series of indicators were computed.
        restated: the ratio of the bars that were restated last; None if none ever were.
    """

    symbol: str
    version: int = 0
    epoch: int = 0
    positions: list[bytes] = field(default_factory=lambda: [b"0-0"] * STREAMS)
    first_ms: int | None = None
    newest_ms: int | None = None
    is_replay: bool = False
    open_bars: dict[tuple[Timeframe, int], OpenBar] = field(default_factory=dict)
    ticks: dict[int, TickTimes] = field(default_factory=dict)
    suspects: dict[Timeframe, SuspectBar] = field(default_factory=dict)
    sources: SourceNames = field(default_factory=SourceNames)
    tables: dict[Timeframe, BarTable] = field(default_factory=dict)
    covered: dict[Timeframe, Covered] = field(default_factory=dict)
    past_days: list[HeldBar] = field(default_factory=list)
    past_from_ms: int = LATEST_MS
    has_new_past: bool = False
    splits: Splits = ()
    applied: Splits = ()
    restated: Restated | None = None

    def __post_init__(self) -> None:
        for timeframe in TIMEFRAMES:
            self.tables[timeframe] = BarTable(self.symbol, timeframe, self.sources)

    def cover(self, timeframe: Timeframe, start_ms: int) -> None:
        """Note that a bar of this timeframe is published that begins then."""
        covered = self.covered.get(timeframe)
        if covered is None:
            self.covered[timeframe] = Covered(start_ms, start_ms, start_ms)
        else:
            covered.add(start_ms)

    @property
    def newest_past_ms(self) -> int | None:
        """The start of the newest day that was too old to be kept; None if there is none."""
        return self.past_days[-1].bar.start_ms if self.past_days else None

    def reaches_table(self, timeframe: Timeframe) -> bool:
        """Return True if the table still has the bar up to which the last history of old bars can come."""
        covered, oldest_ms = self.covered.get(timeframe), self.tables[timeframe].oldest_ms
        return covered is None or oldest_ms is None or covered.gap_to_ms >= oldest_ms

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
        if self.has_new_past:
            fields[PAST_DAYS] = _pack_past(self.past_from_ms, self.past_days)
            self.has_new_past = False
        fields[POSITION] = b" ".join(self.positions)
        fields[REST] = self._pack_rest()
        return fields

    def _pack_rest(self) -> bytes:
        suspects = {timeframe: _list_suspect(each) for timeframe, each in self.suspects.items()}
        kinds = {timeframe: each.provenance.adjustment for timeframe, each in self.suspects.items()}
        volumes = {timeframe: each.provenance.volume_kind for timeframe, each in self.suspects.items()}
        return orjson.dumps(
            StoredRest(
                self.epoch,
                self.first_ms,
                self.newest_ms,
                self.is_replay,
                self.sources.names,
                [
                    (*key, each.close_ms, *_list_origin(each.provenance))
                    for key, each in self.open_bars.items()
                ],
                [(start, tick.first_ms, tick.last_ms) for start, tick in self.ticks.items()],
                suspects.pop("1m", None),
                {
                    timeframe: (each.first_ms, each.gap_from_ms, each.gap_to_ms)
                    for timeframe, each in self.covered.items()
                },
                suspects,
                {timeframe: kind for timeframe, kind in kinds.items() if kind is not Adjustment.RAW},
                self.splits,
                self.applied,
                {timeframe: kind for timeframe, kind in volumes.items() if kind is not None},
                self.restated,
            )
        )


def _list_origin(origin: Provenance) -> tuple[str, float, str, bool, float]:
    return origin.source, origin.asked_at, origin.digest, origin.is_replay, origin.played_at


def _list_suspect(suspect: SuspectBar) -> StoredSuspect:
    bar = suspect.bar
    numbers = bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades
    return bar.start_ms, suspect.seen_ms, *numbers, *_list_origin(suspect.provenance)


def series_field(timeframe: str) -> str:
    return f"{timeframe} indicators"


def past_field(timeframe: str) -> str:
    """Return the name of the field of a series of indicators of a history before what is kept."""
    return f"{timeframe} past indicators"


def chunk_field(timeframe: str, chunk: int) -> str:
    return f"{timeframe}:{chunk}"


def restore_state(symbol: str, fields: Fields) -> SymbolState:
    """Return the state of a symbol from its stored fields, a new one if there are none.

    Raise ValueError if they are not what `pack_changes` makes.
    """
    state = SymbolState(symbol)
    if VERSION.encode() not in fields:
        return state
    try:
        state.version = int(fields[VERSION.encode()])
        state.positions = fields[POSITION.encode()].split(b" ")
        state.positions += [b"0-0"] * (STREAMS - len(state.positions))  # before there were actions
        if len(state.positions) != STREAMS or not all(map(is_entry_id, state.positions)):
            raise ValueError("the state of a symbol has no positions")
        _restore_rest(state, fields[REST.encode()])
    except (KeyError, ValidationError) as error:
        raise ValueError(f"the state of a symbol can't be read: {type(error).__name__}") from None
    _restore_tables(state, fields)
    _restore_past(state, fields.get(PAST_DAYS.encode(), b""))
    return state


@dataclass(slots=True)
class StoredPast:
    """Hold the field PAST_DAYS: of each day its numbers, source, when it was seen, if it was played.

    Last comes how it is adjusted. `volume_kinds` has whose volume each day has, and `other_hours` which of
    them are of other hours than the session's; the days of the releases before have none there.
    """

    since: int
    # fmt: off
    days: list[tuple[
        int, float, float, float, float, float | None, float | None, int | None, str, int, bool, Adjustment,
    ]]
    # fmt: on
    volume_kinds: list[VolumeKind | None] = field(default_factory=list)
    other_hours: list[bool] = field(default_factory=list)


_PAST: Final = TypeAdapter(StoredPast)


def _pack_past(from_ms: int, days: Sequence[HeldBar]) -> bytes:
    rows = [
        (
            *(bar.start_ms, bar.open, bar.high, bar.low, bar.close, bar.volume, bar.vwap, bar.trades),
            *(held.source, held.seen_ms, held.is_replay, held.adjustment),
        )
        for held in days
        for bar in (held.bar,)
    ]
    kinds = [held.volume_kind for held in days]
    return orjson.dumps(StoredPast(from_ms, rows, kinds, [held.is_other_hours for held in days]))


def _restore_past(state: SymbolState, raw: bytes) -> None:
    """Take in the field PAST_DAYS, if there is one. Raise ValueError if it can't be read."""
    if not raw:
        return
    stored = _PAST.validate_json(raw)
    state.past_from_ms = stored.since
    count = len(stored.days)
    more = stored.volume_kinds[:count], stored.other_hours[:count]
    for row, volume_kind, is_other_hours in zip_longest(stored.days, *more):
        bar, (source, seen_ms, is_replay, adjustment) = Bar(state.symbol, "1d", *row[:8]), row[8:]
        state.past_days.append(
            HeldBar(
                bar,
                1,
                source,
                seen_ms,
                is_complete=True,
                is_replay=is_replay,
                is_other_hours=bool(is_other_hours),
                adjustment=adjustment,
                volume_kind=volume_kind,
            )
        )


def _restore_tables(state: SymbolState, fields: Fields) -> None:
    """Take in the stored chunks. Raise ValueError if one can't be read."""
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


def restore_days(symbol: str, fields: Fields) -> SymbolState:
    """Return a state with what its fields of days and of REST say; an empty one if they can't be read."""
    state = SymbolState(symbol)
    try:
        _restore_rest(state, fields.get(REST.encode(), b""))
        _restore_tables(state, fields)
    except ValueError:
        return SymbolState(symbol)
    return state


def list_final_days(state: SymbolState) -> list[HeldBar]:
    """Return the final days in order."""
    days = state.tables["1d"].list_shown(EARLIEST_MS, LATEST_MS)
    return [held for held in days if ("1d", held.bar.start_ms) not in state.open_bars]


def _restore_rest(state: SymbolState, raw: bytes) -> None:
    """Take in the field REST. Raise ValueError if it can't be read."""
    rest = _REST.validate_json(raw)
    state.epoch, state.first_ms, state.newest_ms = rest.epoch, rest.first, rest.newest
    state.is_replay, state.sources.names = rest.replay, rest.sources
    state.splits, state.applied, state.restated = rest.splits, rest.applied, rest.restated
    for opened in rest.open:
        if (timeframe := opened[0]) in state.tables:
            state.open_bars[timeframe, opened[1]] = OpenBar(opened[2], Provenance(*opened[3:]))
    state.ticks = {start: TickTimes(first, last) for start, first, last in rest.ticks}
    minute: dict[Timeframe, StoredSuspect] = {} if rest.suspect is None else {"1m": rest.suspect}
    for timeframe, stored in (minute | rest.suspects).items():
        bar = Bar(state.symbol, timeframe, stored[0], *stored[2:9])
        origin = replace(
            Provenance(*stored[9:]),
            adjustment=rest.adjusted.get(timeframe, Adjustment.RAW),
            volume_kind=rest.volume_kinds.get(timeframe),
        )
        state.suspects[timeframe] = SuspectBar(bar, stored[1], origin)
    for timeframe, times in rest.covered.items():
        if timeframe in state.tables:
            state.covered[timeframe] = Covered(*times)
