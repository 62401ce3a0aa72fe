"""See the past as it was known at an instant. Pure.

Every record has a `known_at`: when this station could have known it, in epoch milliseconds. The table in
docs/market.md says for each kind of record when that is. Whatever decides by the past (features, voters, the
engine) reads it here, so it can't see past its instant: a `View` has no way to what was known later.

A record may have several versions, each known since a time of its own: an economic value that was revised, a
bar that was corrected. A view has of each record the last version that was known by its instant.
"""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from services.market.records import DAY_MS, Bar, Observation

Times = np.ndarray[Any, np.dtype[np.int64]]
"""Times in epoch milliseconds, or positions in a column."""
Numbers = np.ndarray[Any, np.dtype[np.float64]]

TRADED_MS: Final = 7 * DAY_MS
"""A symbol whose last bar was known longer ago than this is not traded any more: no holidays last so long."""
_BAR_COLUMNS: Final = ("open", "high", "low", "close", "volume")
_read_bar: Final = attrgetter("start_ms", *_BAR_COLUMNS)


def find_last_known(known_at: Times, instants: Times) -> Times:
    """Return for each instant the position of the last record that was known by then, -1 if none was.

    `known_at` is ascending. What becomes known at the very instant is known.
    """
    found: Times = np.searchsorted(known_at, instants, side="right") - 1
    return found


class Versions:
    """Hold the records of one series as columns; each row is a version of a record.

    Rows are in the order of `start_ms`, and the versions of one record in the order of `known_at`. Raises
    ValueError if they are not.
    """

    __slots__ = ("_is_plain", "columns", "known_at", "start_ms")

    def __init__(self, start_ms: Times, known_at: Times, columns: Mapping[str, Numbers]) -> None:
        if any(len(column) != len(start_ms) for column in (known_at, *columns.values())):
            raise ValueError("columns of different lengths")
        steps, waits = np.diff(start_ms), np.diff(known_at)
        if (steps < 0).any() or ((steps == 0) & (waits <= 0)).any():
            raise ValueError("records that are not in order, or versions of one that were known at once")
        self.start_ms, self.known_at, self.columns = start_ms, known_at, columns
        # one version of each record, known in their order: then a view is the beginning of each column
        self._is_plain = bool((steps > 0).all() and (waits >= 0).all())

    def __len__(self) -> int:
        return len(self.start_ms)

    def see(self, at_ms: int) -> "Versions":
        """Return of each record the last version that was known at `at_ms`."""
        rows: slice | Times
        if self._is_plain:
            rows = slice(int(np.searchsorted(self.known_at, at_ms, side="right")))
        else:
            known = np.flatnonzero(self.known_at <= at_ms)
            starts = self.start_ms[known]
            rows = known[np.append(starts[1:] != starts[:-1], True)[: len(known)]]
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Versions(self.start_ms[rows], self.known_at[rows], columns)


def collect_bars(bars: Iterable[tuple[int, Bar]]) -> Versions:
    """Return bars as columns, each given with when it was known. A volume that is None is NaN."""
    rows = [(known_at, *_read_bar(bar)) for known_at, bar in bars]
    known, starts, *numbers = zip(*rows, strict=True) if rows else [()] * (2 + len(_BAR_COLUMNS))
    columns = {
        name: np.array(cells, dtype=np.float64) for name, cells in zip(_BAR_COLUMNS, numbers, strict=True)
    }
    return Versions(np.array(starts, dtype=np.int64), np.array(known, dtype=np.int64), columns)


def collect_observations(observations: Iterable[tuple[int, Observation]]) -> Versions:
    """Return the versions of observations as columns, each given with when it was known, in any order."""
    rows = sorted((each.start_ms, known_at, each.value) for known_at, each in observations)
    starts, known, values = zip(*rows, strict=True) if rows else ((), (), ())
    return Versions(
        np.array(starts, dtype=np.int64),
        np.array(known, dtype=np.int64),
        {"value": np.array(values, dtype=np.float64)},
    )


class View:
    """Show what was known at `at_ms` (epoch milliseconds) of a history, and nothing later.

    Args:
        bars: the bars of each symbol, all of one timeframe.
        observations: the versions of the values of each economic series.
    """

    __slots__ = ("_bars", "_observations", "at_ms")

    def __init__(
        self,
        at_ms: int,
        bars: Mapping[str, Versions] = MappingProxyType({}),
        observations: Mapping[str, Versions] = MappingProxyType({}),
    ) -> None:
        self.at_ms = at_ms
        self._bars, self._observations = bars, observations

    def see_bars(self, symbol: str) -> Versions:
        """Return the bars of a symbol that were known. Raises KeyError for a symbol of which none was."""
        return self._see(self._bars, symbol)

    def see_observations(self, series: str) -> Versions:
        """Return the values of a series as they were known. Raises KeyError if none was."""
        return self._see(self._observations, series)

    def list_universe(self) -> list[str]:
        """Return the symbols that were traded, by name: those with a bar of the TRADED_MS before.

        So a symbol that was delisted later is in it, and one that began later is not.
        """
        border_ms = self.at_ms - TRADED_MS
        seen = ((symbol, versions.see(self.at_ms)) for symbol, versions in sorted(self._bars.items()))
        return [symbol for symbol, bars in seen if len(bars) and bars.known_at[-1] > border_ms]

    def _see(self, history: Mapping[str, Versions], name: str) -> Versions:
        """Return what was known of a series. A series that is only known later is missing, as any other."""
        found = history[name].see(self.at_ms)
        if not len(found):
            raise KeyError(name)
        return found
