"""Make the heat map of correlations: of the first symbols by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from services.board.market.archive_reader import ArchiveReader

MAX_SYMBOLS: Final = 60  # the most symbols of a heat map; more can't be read on a screen
HEAT_SEC: Final = 60.0  # how long a heat map is kept, because the archive computes correlations once a day


class HeatCell(NamedTuple):
    """Hold a cell: the other symbol, the value, its number of days, whether it is of a replay, its day."""

    symbol: str
    value: float | None = None
    days: int | None = None
    replay: bool = False
    day: str | None = None


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A row of the heat map: a symbol, and a cell for each column's symbol."""

    symbol: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The correlations of some symbols; `has_more` says whether there are others.

    `day` is the newest day of a pair, `oldest_day` the oldest; each pair has the newest day of its own.
    """

    rows: tuple[HeatRow, ...] = ()
    day: str | None = None
    has_more: bool = False
    is_replay: bool = False
    oldest_day: str | None = None

    @property
    def days(self) -> str:
        if self.day is None:
            return ""
        if self.oldest_day == self.day:
            return f"up to {self.day}"
        return f"each pair up to its newest day ({self.oldest_day} to {self.day})"


def make_heat_map(symbols: Sequence[str], pairs: Sequence[Sequence[Any]], *, has_more: bool) -> HeatMap:
    """Return the heat map of symbols, by pairs as `ArchiveReader.read_correlations` returns them."""
    known: dict[tuple[str, str], HeatCell] = {}
    for day, one, other, value, days, replay, *_ in pairs:
        known[one, other] = HeatCell(other, value, days, replay, str(day))
        known[other, one] = HeatCell(one, value, days, replay, str(day))
    known |= {(name, name): HeatCell(name, 1.0) for name in symbols}
    rows = tuple(
        HeatRow(name, tuple(known.get((name, one), HeatCell(one)) for one in symbols)) for name in symbols
    )
    known_days = [str(row[0]) for row in pairs]
    newest, oldest = max(known_days, default=None), min(known_days, default=None)
    return HeatMap(rows, newest, has_more, any(row[5] for row in pairs), oldest)


async def read_heat_map(archive: ArchiveReader, as_of_ms: int | None = None) -> HeatMap:
    """Return the heat map of now, or of what was known at an instant. Raises DatabaseAwayError."""
    async with archive.limit_answer():
        names = await archive.read_correlated_symbols(MAX_SYMBOLS + 1, as_of_ms)
        shown = names[:MAX_SYMBOLS]
        most = MAX_SYMBOLS * MAX_SYMBOLS
        pairs = await archive.read_correlations(None, shown, most, as_of_ms=as_of_ms)
    return make_heat_map(shown, pairs, has_more=len(names) > len(shown))
