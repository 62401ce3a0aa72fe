"""Fields of a note about news, which any program may have written."""

import pytest

from services.market.notes import MAX_NAME, read_note_names, read_sentiment


@pytest.mark.parametrize(("raw", "found"), [(b"0.5", 0.5), (b"-1", -1.0), (b"1.0", 1.0), (b"-0.000", 0.0)])
def test_a_sentiment_is_a_number_from_minus_1_to_1(raw, found):
    assert read_sentiment(raw) == found


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"nan", b"inf", b"1e999", b"1.01", b"-7", b"0." + b"0" * 100, b"\xff"]
)
def test_anything_else_is_none(raw):
    assert read_sentiment(raw) is None


def test_names_are_cut_in_number_and_length():
    assert read_note_names(b'["AAPL", "MSFT", "TSLA"]', 2) == ("AAPL", "MSFT")
    assert read_note_names(b'["' + b"x" * 500 + b'"]', 5) == ("x" * MAX_NAME,)
    assert read_note_names(b'["A", 5, null, ["B"], "C"]', 5) == ("A", "C")


@pytest.mark.parametrize(
    "raw", [b"", b"AAPL", b'{"AAPL": 1}', b"5", b"[" * 4000, b"\xff", b'["A"]' + b" " * 99_999]
)
def test_what_is_no_list_has_no_names(raw):
    assert read_note_names(raw, 5) == ()
