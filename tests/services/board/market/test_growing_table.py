import gzip

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.board.market.growing_table import BLOCK_STEPS, encode_growing
from services.board.market.query import TableFormat
from services.board.market.tables import AnswerTable, ColumnType, encode_table

COLUMNS = {"start": ColumnType.TIME, "source": ColumnType.TEXT, "close": ColumnType.NUMBER}
STEP_MS = 10
BLOCK_MS = BLOCK_STEPS * STEP_MS
CELLS = st.tuples(st.none() | st.text("abc_,", max_size=5), st.floats(0, 100))
ROWS = st.dictionaries(st.integers(-5 * BLOCK_MS, 5 * BLOCK_MS), CELLS, max_size=12).map(
    lambda found: [(start, *found[start]) for start in sorted(found)]
)


def make_table(rows, about="SPY"):
    return AnswerTable("bars", COLUMNS, rows, {"symbol": about, "gaps": []})


def make_rows(first, last):
    return [(n * STEP_MS, "yahoo", float(n)) for n in range(first, last)]


def lay_over(rows, newer):
    both = {row[0]: row for row in rows} | {row[0]: row for row in newer}
    return [both[start] for start in sorted(both)]


@given(ROWS, ROWS, st.integers(0, 12))
def test_a_table_that_grew_is_encoded_as_if_it_were_new(rows, newer, dropped):
    last = None
    steps = (rows, rows, lay_over(rows, newer), lay_over(rows, newer)[dropped:], newer, rows)
    for about, now in enumerate(steps):
        table = make_table(now, str(about // 2))
        last = encode_growing(table, STEP_MS, last)
        text = encode_table(table, TableFormat.JSON)[0]
        assert b"".join(last.texts) == text
        assert gzip.decompress(last.packed) == text
        assert last.digests == encode_growing(table, STEP_MS, None).digests, "it says nothing of the past"


def test_another_text_has_other_digests():
    rows = make_rows(0, 300)
    tables = [make_table(rows), make_table(rows, "QQQ"), make_table(rows[1:]), make_table(rows[:-1])]
    tables += [make_table([*rows[:n], (n * STEP_MS, "yahoo", -1.0), *rows[n + 1 :]]) for n in (0, 150, 299)]
    assert len({encode_growing(table, STEP_MS, None).digests for table in tables}) == len(tables)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_rows_that_stay_are_neither_encoded_nor_packed_again(shift, monkeypatch):
    rows = make_rows(0, 300)
    before = encode_growing(make_table(rows), STEP_MS, None)
    # what is adjusted or filled is made anew for each answer, with equal cells
    now = [(*row[:2], row[2]) for row in rows[shift:-1]]
    now += [(2990, "finnhub", 1.0), *make_rows(300, 300 + shift)]
    wanted, encoded, dumps = encode_table(make_table(now), TableFormat.JSON)[0], [], orjson.dumps
    monkeypatch.setattr(orjson, "dumps", lambda value: encoded.append(value) or dumps(value))
    grown = encode_growing(make_table(now), STEP_MS, before)
    assert b"".join(grown.texts) == wanted
    assert [row["start"] for row in encoded if "start" in row] == [row[0] for row in now[299 - shift :]]
    parts = [one for one in grown.parts if any(one is other for other in before.parts)]
    assert len(parts) == (2 if shift else 3), "the head, and each block but the last and one that lost rows"


def test_a_packed_table_is_about_as_small_as_one_that_is_packed_as_a_whole():
    table = make_table(make_rows(0, 500))
    grown = encode_growing(table, STEP_MS, None)
    assert len(grown.packed) < 1.1 * len(gzip.compress(b"".join(grown.texts), 1))
