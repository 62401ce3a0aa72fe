"""Make the heat map of correlations: of the first symbols by name, read at most once a minute."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from services.board.market.archive_reader import ArchiveReader
from services.board.market.flight import SingleFlight

MAX_SYMBOLS: Final = 60
"""The most symbols of a heat map: more can't be read on a screen."""
KEPT_SEC: Final = 60.0
"""How long a heat map is kept: the archive computes correlations once a day."""


class HeatCell(NamedTuple):
    """Hold a cell: the other symbol, the value, its number of days, and whether it is of a replay."""

    symbol: str
    value: float | None = None
    days: int | None = None
    replay: bool = False


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A row of the heat map: a symbol, and a cell for each column's symbol."""

    symbol: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The correlations of some symbols, up to `day`; `has_more` says whether there are others."""

    rows: tuple[HeatRow, ...] = ()
    day: str | None = None
    has_more: bool = False
    is_replay: bool = False


def make_heat_map(symbols: Sequence[str], pairs: Sequence[Sequence[Any]], *, has_more: bool) -> HeatMap:
    """Return the heat map of symbols, by pairs as `ArchiveReader.read_correlations` returns them."""
    known: dict[tuple[str, str], HeatCell] = {}
    for _, one, other, value, days, replay in pairs:
        known[one, other] = HeatCell(other, value, days, replay)
        known[other, one] = HeatCell(one, value, days, replay)
    rows = tuple(HeatRow(name, _make_cells(known, name, symbols)) for name in symbols)
    day = max((str(row[0]) for row in pairs), default=None)
    return HeatMap(rows, day, has_more, is_replay=any(row[5] for row in pairs))


def _make_cells(
    known: Mapping[tuple[str, str], HeatCell], name: str, symbols: Sequence[str]
) -> tuple[HeatCell, ...]:
    """Return the cells of a symbol's row; a symbol goes along with itself."""
    own = HeatCell(name, 1.0)
    return tuple(own if one == name else known.get((name, one), HeatCell(one)) for one in symbols)


class HeatMapStore:
    """Reads the heat map when somebody asks, at most once in KEPT_SEC.

    Args:
        archive: reads the database.
    """

    def __init__(self, archive: ArchiveReader) -> None:
        self._archive = archive
        self._flight: SingleFlight[HeatMap] = SingleFlight()
        self._kept: tuple[float, HeatMap] | None = None

    async def find(self) -> HeatMap:
        """Return the heat map. Raises DatabaseAwayError."""
        if self._kept is not None and time.monotonic() - self._kept[0] < KEPT_SEC:
            return self._kept[1]
        return await self._flight.ask("", self._read)

    async def _read(self) -> HeatMap:
        """Read the heat map and keep it. Raises DatabaseAwayError."""
        async with self._archive.limit_answer():
            names = await self._archive.read_correlated_symbols(MAX_SYMBOLS + 1)
            shown = names[:MAX_SYMBOLS]
            pairs = await self._archive.read_correlations(None, shown, MAX_SYMBOLS * MAX_SYMBOLS)
        found = make_heat_map(shown, pairs, has_more=len(names) > len(shown))
        self._kept = time.monotonic(), found
        return found
