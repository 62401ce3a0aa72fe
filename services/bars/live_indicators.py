"""Keep the indicators of one timeframe of a symbol in step with its bars, and store how far they are. Pure.

The bars themselves are stored in their table. So a series is stored only now and then, and whenever a bar was
corrected that the stored series has seen; the instance that reads it adds the later bars of the table.

A history may come after bars of the table: its bars are older, and not kept. They get a series of their own,
and once the history has reached the table, this series continues with the table's bars, in place of theirs.
One that ends before bars that the table has forgotten never reaches it.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final
from zlib import crc32

from services.bars.bar_columns import CheckpointError
from services.bars.bar_table import EARLIEST_MS, BarTable
from services.bars.indicators import IndicatorSeries, TooOldError, Values
from services.bars.splits import SplitView
from services.market.records import Bar

STORE_EVERY: Final = 64
"""The number of bars after which a series is stored again."""


class LiveIndicators:
    """Compute the indicators of the bars in a table, as `splits` shows them.

    Args:
        stored: the stored series; empty if there is none.
        stored_past: the stored series of a history that has not reached the table; empty if there is none.
    """

    def __init__(
        self,
        table: BarTable,
        splits: SplitView,
        make_series: Callable[[], IndicatorSeries],
        stored: bytes,
        stored_past: bytes,
    ) -> None:
        self._table, self._make_series, self._series = table, make_series, make_series()
        self._splits = splits
        self._past = self._read_series(stored_past)
        self._is_past_over = self._is_past_changed = False
        self._stored: bytes | None = stored  # None once the series has it
        self._stored_ms: int | None = None
        self._unstored = 0
        # each at another minute: symbols that began together would be stored together, half a second in all
        self._head_start = crc32(f"{table.symbol} {table.timeframe}".encode()) % STORE_EVERY

    @property
    def is_outdated(self) -> bool:
        """True if the next update computes all bars of the table again."""
        return self._is_past_over and self._past is not None

    def restart(self) -> None:
        """Have the next update compute all bars of the table anew, since other splits are in effect.

        The stored series, and a history before the table that has not reached it, are dropped.
        """
        self._past, self._is_past_over, self._is_past_changed = self._make_series(), True, True

    def update(self, changed: Sequence[int]) -> dict[int, Values]:
        """Return the values of each bar that may have others than were computed before, by start.

        `changed` are the starts of the bars that are new or were changed, in order. A bar that is too old to
        be computed again, also of the table, has no values here, and those of later ones stay as they are.
        """
        if self.is_outdated and self._past is not None:
            return self._join(self._past)
        series = self._open_series(changed)
        found: dict[int, Values] = {}
        for start_ms in changed:
            bar = self._find_shown(start_ms)
            if bar is None:
                continue
            last_ms = series.last_ms
            try:
                if last_ms is None or start_ms > last_ms:
                    found[start_ms] = series.append(bar)
                    self._unstored += 1
                else:
                    found.update(series.revise(bar))
            except TooOldError:
                if (recomputed := self._recompute(start_ms)) is not None:
                    return found | recomputed  # with all later changes
                continue
            if self._stored_ms is not None and start_ms < self._stored_ms:
                self._unstored = STORE_EVERY  # the last bar of the stored series is given to it again anyway
        return found

    def append_past(self, bar: Bar) -> Values | None:
        """Return the values of a bar that is older than the table, and is not kept; as of the newest day.

        None if it is no newer than the one before it: such a history is not in order.
        """
        if self._past is None:
            self._past = self._make_series()
        if self._past.last_ms is not None and bar.start_ms <= self._past.last_ms:
            return None
        self._is_past_changed = True
        return self._past.append(bar)

    def end_past(self, *, reaches_table: bool) -> None:
        """Have the next update continue from the history before the table, if there is one.

        Forget that history if it does not reach the table, because bars between them were forgotten.
        """
        if not reaches_table and self._past is not None:
            self._past, self._is_past_changed = None, True
        self._is_past_over = self._past is not None

    def recall(self, start_ms: int) -> Values | None:
        """Return the values of a bar that did not change, or None if it is too old to be computed again."""
        bar = self._find_shown(start_ms)
        if bar is None:
            return None
        try:
            return dict(self._open_series().revise(bar)).get(start_ms)
        except ValueError:
            return None

    def pack(self) -> bytes | None:
        """Return the series if it is time to store it; otherwise None.

        It is time at the latest when the table has forgotten the bar with which the stored series ends: over
        a long weekend few bars come, and those that followed it are stored nowhere else.
        """
        is_due = self._stored_ms is None or not self._table.has_chunk(self._stored_ms)
        if self._unstored < STORE_EVERY and not (is_due and self._unstored):
            return None
        self._unstored = self._head_start if self._stored_ms is None else 0
        self._stored_ms = self._series.last_ms
        return self._series.checkpoint()

    def pack_past(self) -> bytes | None:
        """Return the series of a history to store, empty once it has ended; None if nothing changed."""
        if not self._is_past_changed:
            return None
        self._is_past_changed = False
        return b"" if self._past is None else self._past.checkpoint()

    def _join(self, past: IndicatorSeries) -> dict[int, Values]:
        """Compute all bars of the table again, after the history before them, and return their values."""
        self._series, self._past, self._stored = past, None, None
        self._is_past_over, self._is_past_changed = False, True
        self._unstored = STORE_EVERY
        since_ms = EARLIEST_MS if past.last_ms is None else past.last_ms + 1
        return {bar.start_ms: past.append(bar) for bar in self._list_bars(since_ms)}

    def _recompute(self, start_ms: int) -> dict[int, Values] | None:
        """Return the values of all bars since a start, computed again of the table; None if it is too old."""
        try:
            changes = self._series.recompute(start_ms, self._list_bars)
        except ValueError:
            return None
        self._unstored = STORE_EVERY
        return dict(changes)

    def _list_known(self, since_ms: int, changed: Collection[int]) -> list[Bar]:
        """Return the bars since `since_ms`, without later ones in `changed`, which are added next.

        A series can correct only its newest bars. More may have changed, so none may count as past already.
        """
        shown = self._list_bars(since_ms)
        return [bar for bar in shown if bar.start_ms == since_ms or bar.start_ms not in changed]

    def _list_bars(self, since_ms: int) -> list[Bar]:
        return self._splits.list_bars(self._table, since_ms)

    def _find_shown(self, start_ms: int) -> Bar | None:
        slot = self._table.find(start_ms)
        held = None if slot is None else slot.shown
        if held is None or self._splits.is_quiet(start_ms):
            return None if held is None else held.bar
        return self._splits.adjust([held], self._splits.find_current())[0]

    def _open_series(self, changed: Collection[int] = ()) -> IndicatorSeries:
        """Return the series after the last bar that it was given, here or where it was stored.

        `changed` are the bars that it is to be given next.
        """
        if self._stored is not None:
            self._restore(self._stored, frozenset(changed))
            self._stored = None
        return self._series

    def _restore(self, stored: bytes, changed: Collection[int]) -> None:
        """Begin again with the oldest bar of the table if nothing is stored that can be used."""
        if not self._restore_series(stored):
            known = self._list_known(EARLIEST_MS, changed)
            self._series.extend(known)
            self._unstored = STORE_EVERY if known else 0
            return
        self._stored_ms = self._series.last_ms
        if self._stored_ms is None:
            return
        later = self._list_known(self._stored_ms, changed)
        if later and later[0].start_ms == self._stored_ms:  # it may have been forming when it was stored
            self._series.put(later.pop(0))
        self._series.extend(later)
        self._unstored = len(later)

    def _restore_series(self, stored: bytes) -> bool:
        """Use the stored series from now on; return False, and leave the series empty, if it can't be used.

        While a timeframe is published, its series is stored before the table forgets the last bar in it. If
        that bar is gone, the timeframe was not published for a while, and bars between are missing.
        """
        series = self._read_series(stored)
        if series is None:
            return False
        last_ms, newest_ms = series.last_ms, self._table.newest_ms
        if last_ms is None or newest_ms is None or last_ms >= newest_ms or self._table.find(last_ms):
            self._series = series
            return True
        return False

    def _read_series(self, stored: bytes) -> IndicatorSeries | None:
        """Return a stored series; None if nothing is stored that can be used."""
        if not stored:
            return None
        series = self._make_series()
        try:
            series.restore(stored)
        except CheckpointError:
            return None
        return series
