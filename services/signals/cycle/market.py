"""Hold the last closed bars of each symbol in columns, as they were known at an instant. Pure.

A bar counts from its end on, or from when its correction was known; until then it waits. So a window never
has what was known later. Of the entries of one bar the last one of its stream counts in the end, whatever the
clocks of its writer and of this process say.

A recording plays the past, some symbols in one stretch of time and some in another: its bars are held
against the clock of their stretch, and not against the wall clock. That clock is the newest `played_at` of
all symbols which are played less than a day apart.

Prices are taken as bars publishes them. A window begins with the last split: what was before it has another
scale, and would look like a move of the price.

Windows may begin with bars of the archive, of which the streams have less. A recording that is played takes
their place.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from hashlib import sha256
from math import isnan
from typing import Final

import numpy as np

from services.market.as_of import Numbers, Times
from services.market.entries import format_number, parse_action, parse_bar, parse_entry
from services.market.fields import EntryError, Fields, read_number, read_time
from services.market.records import DAY_MS, TIMEFRAME_SEC, ActionKind, Bar, Timeframe
from services.market.separate import join_source, read_separate
from services.signals.view import BarWindow

WINDOW: Final = 64
"""The bars of each symbol that are kept, and that voters see."""
AHEAD_MS: Final = 120_000
"""How long before its end a final bar may come: the clocks of two machines differ."""
AHEAD: Final = "end: ahead of the clock"
"""Why a bar is refused that comes earlier still, by this machine's clock and by that of the bus."""
TOO_MANY_AHEAD: Final = "end: too many bars are ahead of the clock"
"""Why of more than WINDOW bars that wait the one that is known last is refused."""
RANGE_BARS: Final = 20
"""The bars whose range says how volatile a symbol is."""
REEL_MS: Final = DAY_MS
"""Symbols whose newest times of a recording are nearer to each other than this go by one clock."""
_OTHER_LENGTH: Final = 2
"""A bar may be this many times as long as its timeframe: a month, or a day before a holiday."""
MAX_SPLITS: Final = 100
"""The most splits of a symbol that are kept, the latest ones."""


class BarOutcome(StrEnum):
    """What became of an entry of checked bars."""

    TAKEN = "taken"
    WAITING = "waiting"
    """It is taken once it is known."""
    SKIPPED = "skipped"
    """It is of another symbol or timeframe, is not final, or is older than all bars of its window."""
    REFUSED = "refused"
    """It is not a bar, or is from the future."""


@dataclass(frozen=True, slots=True)
class WindowSource:
    """Say where the last bar of a window came from, and whether it was played from a recording."""

    source: str = "unknown"
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class ArchivedBar:
    """Hold a final bar of the archive, and its source.

    `known_ms` is since when a correction of it is known, in epoch milliseconds; None if it is since its end.
    """

    bar: Bar
    source: str
    known_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _KnownBar:
    """A bar, and from when on it is known."""

    known_ms: int
    bar: Bar
    end_ms: int
    origin: WindowSource


class MarketBars:
    """Hold the last WINDOW bars of some symbols, and of those also by source where a voter is held to one.

    Args:
        symbols: of which bars are taken; entries of others are skipped.
        sources: whose bars are held apart, too.
        separate: the symbols and sources whose bars are loaded for themselves: what is held of such a source
            comes by `take_separate` alone.

    Attributes:
        outcomes: how many entries had which outcome.
        refusals: by the field or the reason, how many entries were refused.
    """

    def __init__(
        self,
        timeframe: Timeframe,
        symbols: Collection[str],
        sources: Collection[str] = (),
        separate: Collection[tuple[str, str]] = (),
    ) -> None:
        self.timeframe = timeframe
        self.symbols = tuple(sorted(symbols))
        self._word = timeframe.encode()
        self._length_ms = 1000 * TIMEFRAME_SEC[timeframe]
        self._rows = {symbol: row for row, symbol in enumerate(self.symbols)}
        self._by_word = {symbol.encode(): row for symbol, row in self._rows.items()}
        count = len(self.symbols)
        self._held = {source: count * number for number, source in enumerate(sorted(sources), 1)}
        self._separate = {
            join_source(symbol, source).encode(): self._held[source] + self._rows[symbol]
            for symbol, source in separate
            if symbol in self._rows and source in self._held
        }
        self._separate_rows = frozenset(self._separate.values())
        self._moved: dict[str, None] = {}
        total = count * (1 + len(self._held))
        self._starts = np.zeros((total, WINDOW), dtype=np.int64)
        self._numbers = np.full((total, 5, WINDOW), np.nan)
        self._counts = [0] * total
        self._ends: Times = np.zeros(total, dtype=np.int64)
        self._origins = [WindowSource()] * total
        # the newest time of a recording, and whether the last bar is of it, or any entry if there is no bar
        self._played: Times = np.zeros(count, dtype=np.int64)
        self._is_played = np.zeros(count, dtype=np.bool_)
        self._texts: list[list[bytes]] = [[] for _ in range(total)]
        # by row, up to WINDOW bars that are not known yet
        self._waiting: dict[int, list[_KnownBar]] = {}
        self._splits: dict[str, frozenset[date]] = {}
        # the rows of symbols of which all bars are stored ones: no entry came yet
        self._stored = set[int]()
        self.outcomes: Counter[BarOutcome] = Counter()
        self.refusals: Counter[str] = Counter()

    def take(self, fields: Fields, now_ms: int, added_ms: int = 0) -> BarOutcome:
        """Take an entry of checked bars that came at `now_ms` (wall clock, epoch milliseconds).

        `added_ms` is when the bus added it. If that is later, the wall clock may be behind: a bar waits that
        is ahead of it, and not of the bus. The writer of an entry chooses its id, so a later time than in a
        day counts as that.
        """
        try:
            outcome = self._take(fields, now_ms, added_ms)
        except EntryError as error:
            self.refusals[str(error)] += 1
            outcome = BarOutcome.REFUSED
        self.outcomes[outcome] += 1
        return outcome

    def take_separate(self, fields: Fields, now_ms: int, added_ms: int = 0) -> BarOutcome:
        """Take an entry of bars of one source, whose `sym` is that of `separate`; others are skipped."""
        try:
            outcome = self._take_separate(fields, now_ms, added_ms)
        except EntryError as error:
            self.refusals[str(error)] += 1
            outcome = BarOutcome.REFUSED
        self.outcomes[outcome] += 1
        return outcome

    def take_action(self, fields: Fields) -> BarOutcome:
        """Take an entry of corporate actions: a split, or that it is withdrawn; others are skipped."""
        try:
            outcome = self._take_split(fields)
        except EntryError as error:
            self.refusals[str(error)] += 1
            outcome = BarOutcome.REFUSED
        self.outcomes[outcome] += 1
        return outcome

    def begin_with(
        self, archived: ArchivedBar, end_ms: int, now_ms: int, *, is_separate: bool = False
    ) -> BarOutcome:
        """Take a bar of the archive at `now_ms`, before any entry; `is_separate` as by `take_separate`.

        Its end is in epoch milliseconds. One of another symbol is left out. One that is not known yet waits,
        or is refused if that is later than in a day.
        """
        bar, source = archived.bar, archived.source
        known_ms = max(end_ms, archived.known_ms or end_ms)
        row = self._rows.get(bar.symbol)
        if row is None:
            return BarOutcome.SKIPPED
        if known_ms > _find_reach(now_ms, known_ms):
            return BarOutcome.REFUSED
        separate = self._held.get(source, 0) + row if is_separate else None
        came = _KnownBar(known_ms, bar, end_ms, WindowSource(source))
        self._stored.add(row)
        rows = self._list_rows(row, source, separate)
        if known_ms > now_ms:
            is_kept = [self._let_wait(each, came) for each in rows]
            return BarOutcome.WAITING if all(is_kept) else BarOutcome.REFUSED
        is_taken = [self._put(each, came) for each in rows]
        return BarOutcome.TAKEN if any(is_taken) else BarOutcome.SKIPPED

    def begin_with_split(self, symbol: str, ex_day: date) -> None:
        """Take a split of the archive, before any entry."""
        if symbol in self._rows:
            self._add_split(symbol, ex_day)

    @property
    def sources(self) -> Collection[str]:
        """The sources whose bars are held apart."""
        return self._held.keys()

    @property
    def splits(self) -> Mapping[str, frozenset[date]]:
        """By symbol, the first trading days on the new scale; they may be still to come."""
        return self._splits

    @property
    def moved(self) -> Collection[str]:
        """The symbols whose windows changed since they were settled, whatever their price says.

        Bars came or were corrected of one source, or bars from before a split were forgotten.
        """
        return tuple(self._moved)

    def settle(self, symbols: Iterable[str]) -> None:
        """Note that these symbols were decided with all that is known of them."""
        for symbol in symbols:
            self._moved.pop(symbol, None)

    def is_separate(self, symbol: str, source: str) -> bool:
        return self._held.get(source, 0) + self._rows[symbol] in self._separate_rows

    def begin_at(self, symbol: str, start_ms: int, source: str | None = None) -> None:
        """Forget the bars of `see` that began before. If there were any, the symbol has moved."""
        row = self._find_row(symbol, source)
        kept = int(np.count_nonzero(self._starts[row, WINDOW - self._counts[row] :] >= start_ms))
        if kept < self._counts[row]:
            self._keep_last(row, kept)
            self._moved[symbol] = None

    def advance(self, now_ms: int) -> None:
        """Take the bars that are known at `now_ms`, those of a recording if they are by its clock."""
        if not self._waiting:
            return
        played = np.where(self._is_played, self.list_as_of(now_ms), self._played).tolist()
        for row in tuple(self._waiting):
            self._put_known(row, now_ms, played[row % len(self.symbols)] or now_ms)

    def list_as_of(self, now_ms: int) -> Times:
        """Return as of when each of `symbols` is decided at `now_ms`: by its recording's clock, or now."""
        as_of: Times = np.full(len(self.symbols), now_ms, dtype=np.int64)
        played = np.flatnonzero(self._is_played)
        if len(played):
            order = played[np.argsort(self._played[played], kind="stable")]
            times = self._played[order]
            last = np.append(np.flatnonzero(np.diff(times) >= REEL_MS), len(times) - 1)
            as_of[order] = times[last][np.searchsorted(last, np.arange(len(times)))]
        return as_of

    def see(self, symbol: str, source: str | None = None) -> BarWindow:
        """Return the bars of a symbol, of one source alone if it is named. The columns are no copies."""
        row = self._find_row(symbol, source)
        first = WINDOW - self._counts[row]
        return BarWindow(self._starts[row, first:], *self._numbers[row, :, first:])

    def see_starts(self, symbol: str, source: str | None = None) -> Times:
        """Return when the bars of `see` begin, without their numbers. It is no copy."""
        row = self._find_row(symbol, source)
        return self._starts[row, WINDOW - self._counts[row] :]

    def find_origin(self, symbol: str, source: str | None = None) -> WindowSource:
        return self._origins[self._find_row(symbol, source)]

    def find_last(self, symbol: str, source: str | None = None) -> tuple[int, int, float]:
        """Return the start and the end of the last bar, and its close; 0, 0 and NaN if there is none."""
        row = self._find_row(symbol, source)
        close: float = self._numbers[row, 3, -1].item()
        return self._starts[row, -1].item(), self._ends[row].item(), close

    def list_closes(self) -> Numbers:
        """Return the last close of each of `symbols`, NaN where there is none."""
        return self._numbers[: len(self.symbols), 3, -1]

    def list_starts(self) -> Times:
        """Return the start of the last bar of each of `symbols`, 0 where there is none."""
        return self._starts[: len(self.symbols), -1]

    def list_ends(self) -> Times:
        """Return the end of the last bar of each of `symbols` (columns), 0 where there is none.

        The first row is that of the bars of all sources; a row for each source that is held apart follows.
        """
        return self._ends.reshape(1 + len(self._held), len(self.symbols))

    def hash_bars(self, symbol: str, source: str | None = None) -> str:
        """Return the SHA-256 of the bars of a symbol, in the form of `encode_bars`, as hexadecimal digits."""
        return sha256(b"[%s]" % b",".join(self._texts[self._find_row(symbol, source)])).hexdigest()

    def find_ranges(self, symbols: Sequence[str]) -> dict[str, float]:
        """Return how far the last RANGE_BARS bars of each symbol reach, as a share of the close, or 0."""
        if not symbols:
            return {}
        numbers = self._numbers[[self._rows[symbol] for symbol in symbols], :, -RANGE_BARS:]
        with np.errstate(all="ignore"):
            tops, bottoms = np.fmax.reduce(numbers[:, 1], axis=1), np.fmin.reduce(numbers[:, 2], axis=1)
            shares = (tops - bottoms) / np.abs(numbers[:, 3, -1])
        found = np.where(np.isfinite(shares), shares, 0.0).tolist()
        return dict(zip(symbols, found, strict=True))

    def _take(self, fields: Fields, now_ms: int, added_ms: int) -> BarOutcome:
        row = self._by_word.get(fields.get(b"sym", b""))
        if row is None:
            return BarOutcome.SKIPPED
        self._end_stored(row, fields)
        if b"played_at" in fields:
            self._note_played(row, fields, now_ms)
        if not self._is_wanted(fields):
            return BarOutcome.SKIPPED
        return self._place(fields, now_ms, added_ms, row)

    def _take_separate(self, fields: Fields, now_ms: int, added_ms: int) -> BarOutcome:
        row = self._separate.get(fields.get(b"sym", b""))
        if row is None:
            return BarOutcome.SKIPPED
        self._end_stored(row % len(self.symbols), fields)
        if b"played_at" in fields:  # both streams are read by pages: this one may be hours ahead
            self._note_played(row % len(self.symbols), fields, now_ms)
        if not self._is_wanted(fields):
            return BarOutcome.SKIPPED
        plain, symbol, _ = read_separate(fields)
        return self._place(plain, now_ms, added_ms, self._rows[symbol], row)

    def _is_wanted(self, fields: Fields) -> bool:
        return fields.get(b"timeframe", b"1m") == self._word and fields.get(b"final") == b"1"

    def _place(
        self, fields: Fields, now_ms: int, added_ms: int, row: int, separate: int | None = None
    ) -> BarOutcome:
        """Put a bar of a symbol's row in its place if it is known by the symbol's clock; else it waits.

        What waits of the same bar and would be known no earlier is dropped. One that is loaded for itself
        belongs to the row `separate` alone.
        """
        bar, _, provenance = parse_entry(parse_bar, fields)
        end_ms = read_time(fields, b"end") if b"end" in fields else bar.start_ms + self._length_ms
        if not 0 < end_ms - bar.start_ms <= _OTHER_LENGTH * self._length_ms:
            raise EntryError("end: not that of its timeframe")
        known_ms = max(end_ms, read_time(fields, b"known_at") if b"known_at" in fields else end_ms)
        played_ms = int(self._played[row]) or now_ms
        clock_ms = played_ms if provenance.is_replay else now_ms
        if known_ms > _find_reach(clock_ms, 0 if provenance.is_replay else added_ms):
            raise EntryError(AHEAD)
        rows = self._list_rows(row, provenance.source, separate)
        came = _KnownBar(known_ms, bar, end_ms, WindowSource(provenance.source, provenance.is_replay))
        for each in rows:
            self._put_known(each, now_ms, played_ms)
            self._drop_later(each, came)
        if known_ms > clock_ms:
            is_kept = [self._let_wait(each, came) for each in rows]
            return BarOutcome.WAITING if all(is_kept) else BarOutcome.REFUSED
        is_taken = [self._put(each, came) for each in rows]
        return BarOutcome.TAKEN if any(is_taken) else BarOutcome.SKIPPED

    def _list_rows(self, row: int, source: str, separate: int | None) -> tuple[int, ...]:
        """Return the rows that a bar of a symbol's row belongs to, or of a `separate` one that alone."""
        held = self._held.get(source)
        if separate is not None:
            return (separate,)
        return (row,) if held is None or held + row in self._separate_rows else (row, held + row)

    def _let_wait(self, row: int, came: _KnownBar) -> bool:
        """Let a bar wait in a row; of more than WINDOW the one that is known last is refused.

        Return False if that is this one.
        """
        waiting = self._waiting.setdefault(row, [])
        waiting.append(came)
        if len(waiting) <= WINDOW:
            return True
        refused = waiting.pop(max(range(len(waiting)), key=lambda place: waiting[place].known_ms))
        self.refusals[TOO_MANY_AHEAD] += 1
        return refused is not came

    def _end_stored(self, row: int, fields: Fields) -> None:
        """Note that an entry of a symbol came. One of a recording takes the place of all stored bars."""
        if row in self._stored:
            self._stored.discard(row)
            if b"played_at" in fields:
                for first in (0, *self._held.values()):
                    self._keep_last(first + row, 0)
                    self._waiting.pop(first + row, None)

    def _keep_last(self, row: int, kept: int) -> None:
        """Forget the bars of a row before its last `kept` ones."""
        self._counts[row] = kept
        self._starts[row, : WINDOW - kept] = 0
        self._numbers[row, :, : WINDOW - kept] = np.nan
        del self._texts[row][: len(self._texts[row]) - kept]
        if not kept:
            self._ends[row], self._origins[row] = 0, WindowSource()

    def _put_known(self, row: int, now_ms: int, played_ms: int) -> None:
        """Put the bars that waited for a row and are known by now in their places; keep the others.

        Those of a recording are known by its clock, `played_ms`.
        """
        if row not in self._waiting:
            return
        left = []
        for each in self._waiting.pop(row):
            if each.known_ms > (played_ms if each.origin.is_replay else now_ms):
                left.append(each)
            else:
                self._put(row, each)
        if left:
            self._waiting[row] = left

    def _drop_later(self, row: int, came: _KnownBar) -> None:
        """Drop what waits of a bar and would be known no earlier than its entry that came now."""
        if row in self._waiting:
            start_ms, known_ms = came.bar.start_ms, came.known_ms
            self._waiting[row] = [
                each
                for each in self._waiting[row]
                if each.bar.start_ms != start_ms or each.known_ms < known_ms
            ]

    def _take_split(self, fields: Fields) -> BarOutcome:
        if fields.get(b"sym", b"") not in self._by_word:
            return BarOutcome.SKIPPED
        action, _, _ = parse_entry(parse_action, fields)
        if action.kind is not ActionKind.SPLIT:
            return BarOutcome.SKIPPED
        if action.ratio is None:
            self._splits[action.symbol] = self._splits.get(action.symbol, frozenset()) - {action.ex_day}
        else:
            self._add_split(action.symbol, action.ex_day)
        return BarOutcome.TAKEN

    def _add_split(self, symbol: str, ex_day: date) -> None:
        days = self._splits.get(symbol, frozenset()) | {ex_day}
        self._splits[symbol] = frozenset(sorted(days)[-MAX_SPLITS:])

    def _note_played(self, row: int, fields: Fields, now_ms: int) -> None:
        """Note the time of a recording at which an entry of a symbol was played, of whatever timeframe."""
        played_ms = round(1000 * (read_number(fields, b"played_at") or 0.0))
        if not 0 < played_ms <= now_ms + AHEAD_MS:
            raise EntryError("played_at: no time, or ahead of the clock")
        self._played[row] = max(int(self._played[row]), played_ms)
        self._is_played[row] |= not self._counts[row]

    def _find_row(self, symbol: str, source: str | None) -> int:
        return self._rows[symbol] + (0 if source is None else self._held[source])

    def _put(self, row: int, known: _KnownBar) -> bool:
        """Put a bar in its place, or in that of the one that it corrects; return False if it is too old."""
        bar, origin = known.bar, known.origin
        starts, numbers, count = self._starts[row], self._numbers[row], self._counts[row]
        if not count or bar.start_ms > starts[-1]:
            place, is_new = WINDOW - 1, True
        else:
            first = WINDOW - count
            place = first + int(np.searchsorted(starts[first:], bar.start_ms))
            is_new = bool(starts[place] != bar.start_ms)
            if is_new and place == 0:
                return False
            place -= is_new
        if is_new:  # what is before it moves to the left, and the oldest one falls out of a full window
            starts[:place] = starts[1 : place + 1]
            numbers[:, :place] = numbers[:, 1 : place + 1]
            self._counts[row] = min(WINDOW, count + 1)
            self._texts[row].insert(place - WINDOW + 1 + count, b"")
            del self._texts[row][:-WINDOW]
        if place == WINDOW - 1:
            self._ends[row], self._origins[row] = known.end_ms, origin
            if row < len(self.symbols):
                self._is_played[row] = origin.is_replay and bool(self._played[row])
        starts[place] = bar.start_ms
        volume = np.nan if bar.volume is None else bar.volume
        numbers[:, place] = values = bar.open, bar.high, bar.low, bar.close, volume
        text = encode_bar(bar.start_ms, values)
        if row in self._separate_rows and self._texts[row][place - WINDOW] != text:
            self._moved[self.symbols[row % len(self.symbols)]] = None
        self._texts[row][place - WINDOW] = text
        return True


def _find_reach(now_ms: int, added_ms: int) -> int:
    """Return up to when a bar may be known that came at `now_ms` by our clock, at `added_ms` by the bus's."""
    return max(now_ms, min(added_ms, now_ms + DAY_MS)) + AHEAD_MS


def copy_window(window: BarWindow) -> BarWindow:
    """Return a window that does not change with the market."""
    return BarWindow(window.start_ms.copy(), *(column.copy() for column in window[1:]))


def encode_bars(window: BarWindow) -> bytes:
    """Return bars in the one form of which their digest is made, as canonical JSON, the oldest first.

    Each is a list: the start in epoch milliseconds, open, high, low, close and volume as their shortest
    decimal text; a volume that is unknown is null.
    """
    rows = zip(
        window.start_ms.tolist(), zip(*(column.tolist() for column in window[1:]), strict=True), strict=True
    )
    return b"[%s]" % b",".join(encode_bar(*row) for row in rows)


def encode_bar(start_ms: int, numbers: Iterable[float]) -> bytes:
    texts = ("null" if isnan(number) else f'"{format_number(number)}"' for number in numbers)
    return f"[{start_ms},{','.join(texts)}]".encode()
