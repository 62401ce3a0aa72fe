"""Entries have one form: that of RFC 8785, however they are written."""

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from services.signals.log.entries import (
    LogEntryError,
    TickPlaces,
    encode_entry,
    hash_symbols,
    join_places,
    make_tick,
)
from services.signals.log.merkle import hash_entry

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
WHOLE = st.integers(-(2**53) + 1, 2**53 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_the_quick_way_gives_the_bytes_of_the_standard(content):
    assert encode_entry(content) == rfc8785.dumps(content)


@pytest.mark.parametrize(
    "value", [1.5, [1.0], {"a": {"b": float("nan")}}, 2**53, "\ud800", {1: 2}, object(), b"x"]
)
def test_what_has_no_form_is_refused(value):
    with pytest.raises(LogEntryError):
        encode_entry({"value": value})


def test_known_hashes_are_taken_for_those_of_the_texts():
    places = join_places({"B": b"2", "A": b"1"})
    hashes = (hash_entry(b"1"), hash_entry(b"2"))
    known = TickPlaces(places.symbols, places.texts, hashes)
    about = {"code": "1", "truth": "2", "consensus": "6.0"}
    assert make_tick(0, 1, 2, places, **about) == make_tick(0, 1, 2, known, **about)
    assert known == places
    assert hash_symbols(("A", "B")) == hash_entry(b'{"symbols":["A","B"]}')
