"""Values become columns of numbers in a Parquet file."""

from datetime import UTC, datetime

import polars as pl

from services.archive.export import make_frame
from services.market.computed import FEATURE_NAMES

START = datetime(2026, 11, 2, tzinfo=UTC)


def make_row(values: str) -> dict[str, object]:
    return {"symbol": "SPY", "start": START, "rev": 1, "values": values, "replay": False}


class Row(dict):
    """A row as asyncpg returns it: it iterates over its values."""

    def __iter__(self):
        return iter(self.values())


def test_each_feature_is_a_column_of_numbers_whichever_the_rows_have():
    frame = make_frame("features", [Row(make_row('{"weekday": 3, "ret_1": null}')), Row(make_row("{}"))])
    assert frame.columns == ["symbol", "start", "rev", "replay", *FEATURE_NAMES, "other_values"]
    assert {frame.schema[name] for name in FEATURE_NAMES} == {pl.Float64()}
    assert frame.row(0, named=True)["weekday"] == 3.0
    assert frame["ret_1"].to_list() == frame["other_values"].to_list() == [None, None]


def test_a_value_that_no_column_is_for_is_kept_also_if_it_has_the_name_of_another_column():
    frame = make_frame("features", [Row(make_row('{"start": 1, "mine": 2.5, "ret_1": 0.5}'))])
    row = frame.row(0, named=True)
    assert (row["start"], row["ret_1"], row["other_values"]) == (START, 0.5, '{"start":1,"mine":2.5}')
