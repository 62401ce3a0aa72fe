"""Turn rows as PostgreSQL copies them (CSV) into the pieces of one Arrow stream. Pure.

A piece is one or more batches of records; the first piece begins with the schema. So the pieces together are
one stream, and only one of them is in memory at a time.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from services.tables.rows import ColumnType, find_polars_type

if TYPE_CHECKING:
    import polars as pl

STREAM_TYPE: Final = "application/vnd.apache.arrow.stream"
END: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The last bytes of a stream. A reader of one without them lacks rows, and some readers don't say so."""
_HEAD_BYTES: Final = (
    8  # of a message: four bytes that continue the stream, and the length of what describes it
)


class ArrowEncoder:
    """Encodes the rows of one stream, whose cells have these `columns`."""

    def __init__(self, columns: Mapping[str, ColumnType]) -> None:
        self._columns, self._has_schema = columns, False

    def parse(self, rows: bytes) -> "pl.DataFrame":
        """Return rows, which may be none, as a frame with times in epoch milliseconds.

        `rows` are whole lines of CSV without a header. It may run in a thread, as `encode` may.
        """
        import polars as pl  # noqa: PLC0415 - 30 MB that most boards never need

        read = {
            name: pl.Int64() if self._columns[name] is ColumnType.TIME else kind
            for name, kind in self._list_types().items()
        }
        return pl.read_csv(rows, has_header=False, schema=read) if rows else pl.DataFrame(schema=read)

    def encode(self, frame: "pl.DataFrame") -> bytes:
        """Return the piece with the rows of a frame as `parse` returns it."""
        import polars as pl  # noqa: PLC0415 - as above

        types = self._list_types()
        target = io.BytesIO()
        # the oldest level, because not every library knows the newer ways to hold texts
        frame.cast(pl.Schema(types)).write_ipc_stream(
            target, compression="zstd", compat_level=pl.CompatLevel.oldest()
        )
        whole = target.getvalue()
        length = int.from_bytes(whole[4:_HEAD_BYTES], "little")  # the schema has nothing but its description
        piece = whole[_HEAD_BYTES + length if self._has_schema else 0 : -len(END)]
        self._has_schema = True
        return piece

    def _list_types(self) -> dict[str, Any]:
        import polars as pl  # noqa: PLC0415 - as above

        return {name: find_polars_type(pl, kind, "ms") for name, kind in self._columns.items()}
