"""Decide how long the bars of a symbol are kept, and may be revised. Pure."""

from collections.abc import Mapping
from typing import Final

from services.bars.bar_table import EARLIEST_MS
from services.bars.state import SymbolState
from services.market.intervals import Grid
from services.market.records import DAY_MS, KEPT_DAYS, PERIODS, SOURCE_TIMEFRAMES, TIMEFRAMES, Timeframe

AHEAD_MS: Final = 30 * DAY_MS
"""How far the bars that a source gives may be ahead of minutes that are still to come.

A first load may bring the hours of today before the minutes of last week.
"""
_INTRADAY: Final = tuple(timeframe for timeframe in SOURCE_TIMEFRAMES if timeframe not in ("1m", "1d"))


class Retention:
    """Find the start of the oldest bar of each timeframe that is kept, and may still be revised.

    It is the open of a trading day: the minutes of every longer bar are kept whole, or none of them. It
    follows from the newest bars in the state and from nothing else, so that what is too late depends
    neither on batches nor on restarts.
    """

    def __init__(self, state: SymbolState, grid: Grid, revise_days: float) -> None:
        self._state, self._grid = state, grid
        self._kept_ms = {
            timeframe: round(max(revise_days, KEPT_DAYS[timeframe]) * DAY_MS) for timeframe in TIMEFRAMES
        }
        self._newest: tuple[int | None, int | None] | None = None
        self._oldest: dict[Timeframe, int] = {}
        self._taken: dict[Timeframe, int] = {}

    def find_oldest(self) -> Mapping[Timeframe, int]:
        newest = (self._find_newest("1m"), self._find_newest("1d"))
        if newest != self._newest:
            self._newest = newest
            self._oldest = {}
            for timeframe, kept_ms in self._kept_ms.items():
                newest_ms = newest[timeframe == "1d" or timeframe in PERIODS]
                self._oldest[timeframe] = (
                    EARLIEST_MS
                    if newest_ms is None
                    else self._grid.find_border(newest_ms - kept_ms, timeframe)
                )
        return self._oldest

    def take_moved(self) -> dict[Timeframe, int]:
        """Return those of the oldest starts that moved since the last call."""
        oldest = self.find_oldest()
        moved = {frame: start_ms for frame, start_ms in oldest.items() if self._taken.get(frame) != start_ms}
        self._taken |= moved
        return moved

    def _find_newest(self, timeframe: Timeframe) -> int | None:
        """Return the start from which the age of bars of this timeframe counts; None if there are no bars.

        That is the start of the newest minute. Where there are no minutes, or no more, it is the start of the
        newest bar that a source gave: of a day at once, of a shorter bar once it is AHEAD_MS ahead. It is the
        same for all timeframes that are built of each other, so that no bar is forgotten before a longer one
        that may be built of it again.
        """
        if timeframe == "1d":
            given_ms = self._state.tables["1d"].newest_ms
        else:
            tables = self._state.tables
            found = [start for each in _INTRADAY if (start := tables[each].newest_ms) is not None]
            given_ms = max(found) - AHEAD_MS if found else None
        if self._state.newest_ms is None or given_ms is None:
            return given_ms if self._state.newest_ms is None else self._state.newest_ms
        return max(self._state.newest_ms, given_ms)
