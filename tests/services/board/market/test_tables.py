import csv
import io

import orjson
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from services.board.market.query import TableFormat
from services.board.market.tables import (
    AnswerTable,
    ColumnType,
    encode_table,
    format_time,
)

COLUMNS = {
    "start": ColumnType.TIME,
    "source": ColumnType.TEXT,
    "close": ColumnType.NUMBER,
    "trades": ColumnType.COUNT,
    "final": ColumnType.FLAG,
}
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)
ROWS = st.lists(
    st.tuples(
        st.integers(0, 4_000_000_000_000),
        st.none() | st.text("abc_", min_size=1, max_size=5),
        NUMBERS,
        st.none() | st.integers(0, 2**53),
        st.booleans(),
    ),
    max_size=8,
)


@given(ROWS)
def test_all_formats_say_the_same(rows):
    table = AnswerTable("bars", COLUMNS, rows, {"symbol": "SPY"})
    found = orjson.loads(encode_table(table, TableFormat.JSON)[0])
    assert found["symbol"] == "SPY"
    assert [tuple(row.values()) for row in found["bars"]] == rows
    frame = pl.read_ipc(encode_table(table, TableFormat.ARROW)[0])
    assert frame.with_columns(pl.col("start").dt.epoch("ms")).rows() == rows
    read = list(csv.reader(io.StringIO(encode_table(table, TableFormat.CSV)[0].decode())))
    assert read[0] == [*COLUMNS]
    wanted = [
        [
            format_time(start),
            source or "",
            *("" if each is None else str(each) for each in numbers),
            str(int(final)),
        ]
        for start, source, *numbers, final in rows
    ]
    assert read[1:] == wanted


def test_a_row_of_values_has_a_column_for_each_name():
    columns = {"start": ColumnType.TIME, "values": ColumnType.JSON}
    rows = [(0, {"sma_20": None, "rsi_14": 51.5}), (60_000, {"sma_20": 2.0})]
    table = AnswerTable("indicators", columns, rows, {}, ("sma_20", "rsi_14"))
    assert encode_table(table, TableFormat.CSV)[0].decode() == (
        "start,sma_20,rsi_14\n1970-01-01T00:00:00Z,,51.5\n1970-01-01T00:01:00Z,2.0,\n"
    )
    frame = pl.read_ipc(encode_table(table, TableFormat.ARROW)[0])
    assert frame["rsi_14"].to_list() == [51.5, None]


def test_a_text_is_no_formula_in_a_spreadsheet():
    table = AnswerTable("x", {"source": ColumnType.TEXT}, [("=cmd()",), ("@sum",), ("fine",)])
    assert encode_table(table, TableFormat.CSV)[0] == b"source\n'=cmd()\n'@sum\nfine\n"
