"""`show`: rows as a table, as JSON, or the sentence that there are none."""

from typing import NamedTuple

import orjson
import pytest
from rich.text import Text

from marketswarm.cli.tables import show


class Row(NamedTuple):
    name: str
    size: int


ROWS = [Row("a\x1b[2J", 7), Row("longer", 1200)]
COLUMNS = {
    "name": lambda row: row.name,
    "size": lambda row: f"{row.size:,}",
    "": lambda row: Text("big", "red") if row.size > 1000 else "",
}


def test_each_row_is_a_line_below_the_titles_and_foreign_text_steers_no_terminal(capsys):
    show(ROWS, COLUMNS, right=("size",), hint="that is all")
    assert capsys.readouterr().out.splitlines() == [
        "name       size",
        "a\\x1b[2J      7",
        "longer    1,200  big",
        "that is all",
    ]


def test_in_json_each_row_is_as_it_is_encoded_and_no_hint_is_printed(capsys):
    show(ROWS, COLUMNS, as_json=True, encode=lambda row: {"size": row.size}, hint="x", empty="none")
    assert orjson.loads(capsys.readouterr().out) == [{"size": 7}, {"size": 1200}]


@pytest.mark.parametrize(
    ("options", "shown"),
    [({"empty": "there is none"}, "there is none\n"), ({"as_json": True, "empty": "x"}, "[]\n")],
)
def test_without_rows_there_is_a_sentence_or_an_empty_list(capsys, options, shown):
    show([], COLUMNS, hint="x", **options)
    assert capsys.readouterr().out == shown


def test_without_rows_and_without_a_sentence_the_titles_stand_alone(capsys):
    show([], COLUMNS)
    assert capsys.readouterr().out.split() == ["name", "size"]


def test_a_cell_that_does_not_fit_is_folded_and_one_of_a_whole_column_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "8")
    rows = [Row("abcdefghijkl", 1)]
    show(rows, {"x": lambda row: row.name})
    assert capsys.readouterr().out.splitlines() == ["x", "abcdefgh", "ijkl"]
    show(rows, {"x": lambda row: row.name}, whole=("x",))
    assert capsys.readouterr().out.splitlines() == ["x", "abcdefg…"]
