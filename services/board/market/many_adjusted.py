"""Put the bars of many symbols on one basis: those of a page, or piece by piece those of an Arrow stream.

The splits and dividends of a symbol are read when its bars come, so that no more of them are in memory than
the symbols of one piece have.
"""

import asyncio
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from services.board.market.market import Market
from services.market.adjust import Adjuster, PriceBasis
from services.market.records import Adjustment
from services.tables.adjusted_bars import Adjust, adjust_rows, find_row_day
from services.tables.rows import Cells
from services.tables.tables import BAR_TABLE

if TYPE_CHECKING:
    import polars as pl

AT_ONCE: Final = 50
"""Of how many symbols one statement reads the actions: it has a limit of time."""
_ROWS: Final = 5000  # of a piece that are cells of Python at once, at about a kilobyte each
COLUMNS: Final = ("symbol", *BAR_TABLE.answered)


class _Basis(NamedTuple):
    """Hold what adjusts the bars of a symbol, and to what."""

    adjuster: Adjuster
    wanted: PriceBasis


class ManyAdjuster:
    """Puts bars of one timeframe on the basis `adjust`, as of the day in each market at `at_ms`.

    With `is_past` only the closes count that were known then.
    """

    def __init__(self, market: Market, adjust: Adjust, timeframe: str, at_ms: int, *, is_past: bool) -> None:
        self._market, self._adjust, self._timeframe = market, adjust, timeframe
        self._at_ms, self._is_past = at_ms, is_past

    async def adjust_page(self, rows: Sequence[Cells]) -> tuple[list[Cells], dict[str, list[str]]]:
        """Return rows of COLUMNS, by symbol, on the basis; and by symbol the ex-days that can't be applied.

        Raises DatabaseAwayError.
        """
        by_symbol: dict[str, list[Cells]] = {}
        for row in rows:
            by_symbol.setdefault(row[0], []).append(row)
        bases = await self._find_bases(tuple(by_symbol), min((row[1] for row in rows), default=0))
        adjusted: list[Cells] = []
        left_out: dict[str, list[str]] = {}
        for symbol, some in by_symbol.items():
            adjuster, wanted = bases[symbol]
            adjusted += adjust_rows(some, COLUMNS, adjuster, wanted, self._timeframe)
            first, last = find_row_day(some[0][1], None), await self._find_day(symbol)
            days = [each.ex_day.isoformat() for each in adjuster.left_out if first < each.ex_day <= last]
            left_out |= {symbol: days} if days else {}
        return adjusted, left_out

    async def adjust_frame(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """Return the same of a frame with the columns COLUMNS, whose times are epoch milliseconds."""
        if frame.is_empty():
            return frame
        first: Any = frame["start"].min()
        bases = await self._find_bases(frame["symbol"].unique(maintain_order=True).to_list(), first)
        return await asyncio.to_thread(_adjust_parts, frame, bases, self._timeframe)

    async def _find_bases(self, symbols: Sequence[str], first_ms: int) -> dict[str, _Basis]:
        """Return the basis of each symbol, of whose bars the first one begins at `first_ms`."""
        found: dict[str, _Basis] = {}
        as_of_ms = self._at_ms if self._is_past else None
        for place in range(0, len(symbols), AT_ONCE):
            some = symbols[place : place + AT_ONCE]
            adjusters = await self._market.archive.read_adjusters(
                some, find_row_day(first_ms, None), as_of_ms
            )
            for symbol, adjuster in adjusters.items():
                found[symbol] = _Basis(adjuster, self._adjust.make_basis(await self._find_day(symbol)))
        return found

    async def _find_day(self, symbol: str) -> date:
        return await self._market.find_symbol_day(symbol, self._at_ms)


def _adjust_parts(frame: "pl.DataFrame", bases: dict[str, _Basis], timeframe: str) -> "pl.DataFrame":
    import polars as pl  # noqa: PLC0415 - 30 MB that most boards never need

    parts: list[pl.DataFrame] = []
    schema = pl.Schema({**frame.schema, "adjusted_to": pl.String()})
    for part in frame.partition_by("symbol", maintain_order=True):
        adjuster, wanted = bases[part["symbol"][0]]
        if adjuster.is_empty:
            upto = None if wanted.adjustment is Adjustment.RAW else wanted.day
            basis = pl.lit(str(wanted.adjustment)), pl.lit(upto, dtype=pl.Date())
            parts.append(part.with_columns(adjustment=basis[0], adjusted_to=basis[1]))
            continue
        for some in part.iter_slices(_ROWS):
            rows = adjust_rows(some.rows(), COLUMNS, adjuster, wanted, timeframe)
            adjusted = pl.DataFrame(rows, schema=schema, orient="row")
            parts.append(adjusted.with_columns(pl.col("adjusted_to").str.to_date("%Y-%m-%d")))
    return pl.concat(parts)
