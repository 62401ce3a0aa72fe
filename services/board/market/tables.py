"""Write a table of the market as JSON, CSV or Arrow. Pure.

A table has typed columns, so that all three formats say the same; times are epoch milliseconds in JSON, ISO
8601 in CSV, and timestamps with the zone UTC in Arrow. An unknown cell is null, and empty in CSV.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final

import orjson

from services.board.market.query import TableFormat
from services.tables.rows import ColumnType, find_polars_type

JSON_TYPE: Final = "application/json"
CSV_TYPE: Final = "text/csv; charset=utf-8"
ARROW_TYPE: Final = "application/vnd.apache.arrow.file"
FORMATS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "content": {
            CSV_TYPE.partition(";")[0]: {"schema": {"type": "string"}},
            ARROW_TYPE: {"schema": {"type": "string", "format": "binary"}},
        }
    }
}
"""What the OpenAPI document says of an answer with a table, besides JSON."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """Rows, the oldest first, and what they belong to; `name` is the key of their list in JSON.

    `columns` are the types of the cells of a row, by name and in its order.
    `about` is what JSON says beside the rows, such as the symbol. `values` are the names within a column of
    the type JSON, each a column of its own in CSV and Arrow.
    """

    name: str
    columns: Mapping[str, ColumnType]
    rows: Sequence[Sequence[Any]]
    about: Mapping[str, Any] = field(default_factory=dict)
    values: Sequence[str] = ()


def encode_table(table: AnswerTable, form: TableFormat) -> tuple[bytes, str]:
    if form is TableFormat.CSV:
        return _encode_csv(table), CSV_TYPE
    if form is TableFormat.ARROW:
        return _encode_arrow(table), ARROW_TYPE
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return orjson.dumps({**table.about, table.name: rows}), JSON_TYPE


def _encode_csv(table: AnswerTable) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    cells = _flatten(table)
    writer.writerow(name for name, _, _ in cells)
    formats = [_CSV_CELLS.get(kind, lambda value: value) for _, kind, _ in cells]
    for row in table.rows:
        writer.writerow(
            ["" if (value := read(row)) is None else form(value)
             for (_, _, read), form in zip(cells, formats, strict=True)]
        )  # fmt: skip
    return text.getvalue().encode()


def _encode_arrow(table: AnswerTable) -> bytes:
    """Return a table as an Arrow file. The library is imported by the first request for one."""
    import polars as pl  # noqa: PLC0415 - 30 MB that most boards never need

    cells = _flatten(table)
    frame = pl.DataFrame(
        [
            pl.Series(
                name, [read(row) for row in table.rows], dtype=find_polars_type(pl, kind, "ms"), strict=False
            )
            for name, kind, read in cells
        ]
    )
    target = io.BytesIO()
    frame.write_ipc(target)
    return target.getvalue()


Cell = tuple[str, ColumnType, Callable[[Sequence[Any]], Any]]


def _flatten(table: AnswerTable) -> list[Cell]:
    """Return the cells of a table in which each value of a JSON column has its own column."""
    cells: list[Cell] = []
    for index, (column, kind) in enumerate(table.columns.items()):
        if kind is ColumnType.JSON:
            cells += ((name, ColumnType.NUMBER, _read_value(index, name)) for name in table.values)
        else:
            cells.append((column, kind, itemgetter(index)))
    return cells


def _read_value(index: int, name: str) -> Callable[[Sequence[Any]], Any]:
    return lambda row: row[index].get(name)


def format_time(ms: int) -> str:
    """Return epoch milliseconds by ISO 8601 in UTC: `2026-01-05T14:30:00Z`."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")


def _escape_formula(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


_CSV_CELLS: Final[Mapping[ColumnType, Callable[[Any], Any]]] = {
    ColumnType.TIME: format_time,
    ColumnType.FLAG: int,
    ColumnType.TEXT: _escape_formula,
}
