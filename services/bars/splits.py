"""See the bars of one symbol on one basis, by its splits: as traded, or as of a day. Pure.

Bars are kept as their sources gave them, raw or adjusted for the splits up to the day of the answer. What
compares bars (a check, an indicator, a feature) sees them through this. Bars after the last split are the
same objects, which costs next to nothing: most shares were split at some time.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Final

from services.bars.bar_table import EARLIEST_MS, LATEST_MS, BarTable
from services.bars.quality import Candidate, HeldBar
from services.bars.state import Splits, SymbolState, list_final_days, restore_days
from services.market.actions import find_day_ms
from services.market.adjust import AS_TRADED, Adjuster, PriceBasis
from services.market.fields import Fields
from services.market.intervals import Grid, end_period
from services.market.records import DAY_MS, PERIODS, ActionKind, Adjustment, Bar, CorporateAction
from services.market.sessions import Session

MAX_SPLITS: Final = 100
"""The most splits of a symbol that are kept, the latest ones."""


class SplitView:
    """Put the bars of one symbol on a common basis."""

    def __init__(self, state: SymbolState, grid: Grid) -> None:
        self._state, self._grid = state, grid
        self._known: Splits = ()
        self._adjuster = Adjuster(())
        self._quiet_ms = EARLIEST_MS
        """From when on bars have no known split after them."""

    def take(self, action: CorporateAction) -> None:
        """Keep a split in the state, in place of one of the same day; without a ratio it is withdrawn."""
        if action.kind is not ActionKind.SPLIT:
            return
        splits = dict(self._state.splits)
        splits.pop(action.ex_day, None)
        if action.ratio is not None:
            splits[action.ex_day] = action.ratio
        self._state.splits = tuple(sorted(splits.items()))[-MAX_SPLITS:]

    def find_not_applied(self) -> Splits | None:
        """Return the splits within the kept days if they are not those that were applied; otherwise None."""
        splits, applied = self._state.splits, self._state.applied
        oldest_ms = self._state.tables["1d"].oldest_ms
        if not (splits or applied) or oldest_ms is None:
            return None
        oldest, newest = self.find_day(oldest_ms), self._find_newest_day()
        in_effect = tuple(each for each in splits if oldest < each[0] <= newest)
        # those of days that are forgotten by now stay applied
        return None if in_effect == tuple(each for each in applied if oldest < each[0]) else in_effect

    def is_quiet(self, start_ms: int) -> bool:
        """Return True if no split is known after bars that begin then or later: they are as traded."""
        if self._known != self._state.splits:
            self._known = self._state.splits
            symbol, kind = self._state.symbol, ActionKind.SPLIT
            self._adjuster = Adjuster(
                CorporateAction(symbol, kind, day, ratio=ratio) for day, ratio in self._known
            )
            last = max((find_day_ms(day) for day, _ in self._known), default=EARLIEST_MS)
            self._quiet_ms = last + 2 * DAY_MS  # whatever the zone
        return start_ms >= self._quiet_ms

    def list_bars(self, table: BarTable, since_ms: int = EARLIEST_MS) -> list[Bar]:
        """Return the shown bars of a table from a start on, in order, as of the newest day."""
        oldest_ms = table.oldest_ms
        if oldest_ms is None or self.is_quiet(max(since_ms, oldest_ms)):
            return table.list_since(since_ms)
        return self.adjust(table.list_shown(since_ms, LATEST_MS), self.find_current())

    def find_current(self) -> PriceBasis:
        """Return the basis of the newest day, on which indicators are computed."""
        return PriceBasis(Adjustment.SPLITS, self._find_newest_day()) if self._state.splits else AS_TRADED

    def adjust(self, helds: Sequence[HeldBar | Candidate], wanted: PriceBasis) -> list[Bar]:
        """Return the bars, in order of time, on a basis."""
        bars = [held.bar for held in helds]
        if not bars or self.is_quiet(bars[0].start_ms):
            return bars
        days = [self._find_basis_day(bar) for bar in bars]
        given = [self.find_basis(held.adjustment, held.seen_ms) for held in helds]
        return self._adjuster.adjust_bars(bars, days, given, wanted)

    def adjust_to_last(self, parts: Sequence[HeldBar]) -> tuple[list[Bar], Adjustment]:
        """Return bars, in order of time, with the prices of the last one's day; and how these are adjusted.

        They are as traded then, but for dividends: where all bars are adjusted for these they stay so, as of
        when the newest of them was asked for, because nothing here takes a dividend back.
        """
        if all(part.adjustment is Adjustment.ALL for part in parts):
            seen_ms = max(part.seen_ms for part in parts)
            return self.adjust(parts, self.find_basis(Adjustment.ALL, seen_ms)), Adjustment.ALL
        return self.adjust(parts, self.find_as_of(parts[-1].bar.start_ms)), Adjustment.RAW

    def find_as_of(self, start_ms: int) -> PriceBasis:
        """Return the basis of the day in which a bar begins: there its own prices are those as traded."""
        return PriceBasis(Adjustment.SPLITS, self.find_day(start_ms)) if self._state.splits else AS_TRADED

    def find_common(self, parts: Sequence[HeldBar]) -> Adjustment:
        """Return how a bar is adjusted that is built of parts: as they are, or raw if they differ.

        Parts that were given before and after a split have no common basis but that.
        """
        kinds = {part.adjustment for part in parts}
        is_one = len(kinds) == 1 and self.is_quiet(parts[0].bar.start_ms)
        return kinds.pop() if is_one else Adjustment.RAW

    def compare(self, candidate: Candidate) -> Candidate:
        """Return a candidate with the prices as traded, for the checks."""
        if candidate.adjustment is Adjustment.RAW or self.is_quiet(candidate.bar.start_ms):
            return candidate
        (bar,) = self.adjust([candidate], AS_TRADED)
        return replace(candidate, bar=bar)

    def find_basis(self, adjustment: Adjustment, seen_ms: int) -> PriceBasis:
        """Return the basis of a bar whose source was asked at a time: the date is that of its market."""
        if adjustment is Adjustment.RAW:
            return AS_TRADED
        return PriceBasis(adjustment, self._grid.session.find_local_date(seen_ms))

    def find_day(self, start_ms: int) -> date:
        """Return the date of the trading day in which a bar begins."""
        day = self._grid.find_day(start_ms)
        return self._grid.session.find_local_date(start_ms) if day is None else day.date

    def _find_basis_day(self, bar: Bar) -> date:
        """Return the day at which the prices of a raw bar are those as traded: of a period its last date."""
        day = self.find_day(bar.start_ms)
        return end_period(day, bar.timeframe) if bar.timeframe in PERIODS else day

    def _find_newest_day(self) -> date:
        starts = [table.newest_ms for table in self._state.tables.values() if table.newest_ms is not None]
        return self.find_day(max(starts)) if starts else date.min


def read_final_days(symbol: str, fields: Fields, session: Session) -> list[tuple[HeldBar, int]]:
    """Return the final days of a stored state in order, as of the newest one; none if it can't be read.

    With each comes when the source was asked for its last correction, in epoch milliseconds; 0 if none came.
    """
    state = restore_days(symbol, fields)
    days, splits = list_final_days(state), SplitView(state, Grid(session))
    adjusted = splits.adjust(days, splits.find_current())
    return [
        (replace(held, bar=bar), state.tables["1d"][bar.start_ms].corrected_ms)
        for held, bar in zip(days, adjusted, strict=True)
    ]
