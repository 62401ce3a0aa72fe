"""Write tables as Parquet files, one for each month, by polars."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.archive.partitions import next_month
from services.archive.reader import iterate_rows

if TYPE_CHECKING:
    import polars as pl

_ROWS_IN_MEMORY: Final = 2_000_000
_TYPES: Final = {
    "open": "Float64",
    "high": "Float64",
    "low": "Float64",
    "close": "Float64",
    "volume": "Float64",
    "vwap": "Float64",
    "price": "Float64",
    "bid": "Float64",
    "ask": "Float64",
    "open_interest": "Float64",
    "implied_volatility": "Float64",
    "value": "Float64",
    "trades": "Int64",
    "rev": "Int32",
    "epoch": "Int64",
    "stream_position": "Int64",
    "final": "Boolean",
    "replay": "Boolean",
}
_TIMES: Final = frozenset({"start", "at", "asked_at"})


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """Name a file that was written, and say how many rows it has."""

    path: Path
    rows: int


async def export_table(
    connection: Any,
    table: str,
    folder: Path,
    span: tuple[datetime, datetime],
    symbols: Sequence[str] = (),
) -> AsyncIterator[ExportedFile]:
    """Write the rows of a table whose times are in `span`, without its end; yield each file when it is whole.

    A month's file is `<table>-2026-11.parquet`; a month of more than two million rows has several, with a
    number. A file of that name is replaced in one step.
    """
    at, until = span
    while at < until:
        ends = min(next_month(at), until)
        pages: list[list[Any]] = []
        number = 0
        async for rows in iterate_rows(connection, table, at, ends, symbols):
            pages.append(rows)
            if sum(map(len, pages)) >= _ROWS_IN_MEMORY:
                yield _write(folder, table, at, number, pages)
                pages, number = [], number + 1
        if pages:
            yield _write(folder, table, at, number, pages)
        at = ends


def _write(
    folder: Path, table: str, at: datetime, number: int, pages: Sequence[Sequence[Any]]
) -> ExportedFile:
    """Write one file."""
    frame = make_frame([row for page in pages for row in page])
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f"-{number}" if number else ""
    path = folder / f"{table}-{at:%Y-%m}{suffix}.parquet"
    draft = path.with_suffix(".part")
    frame.write_parquet(draft, compression="zstd")
    draft.replace(path)
    return ExportedFile(path, frame.height)


def make_frame(rows: Sequence[Any]) -> "pl.DataFrame":
    """Return rows of one table, as asyncpg returns them, as a table of polars. There must be one at least."""
    import polars as pl  # noqa: PLC0415 - takes a second to import, and only this command needs it

    schema = {
        name: pl.Datetime("us", "UTC") if name in _TIMES else getattr(pl, _TYPES.get(name, "String"))
        for name in rows[0].keys()  # noqa: SIM118 - a Record iterates over its values
    }
    return pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")
