import contextlib
import json
from math import inf, isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.market.documents import load_json, read_float
from support.examples import examples


@pytest.mark.parametrize(
    ("body", "document"),
    [
        (b'{"a": 1.5}', {"a": 1.5}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ("\ufeff[1]", [1]),
        (b'{"a": Infinity, "b": -Infinity}', {"a": inf, "b": -inf}),
        (b'{"a": "x\xff", "b": 2}', {"a": "x\ufffd", "b": 2}),
        (b'{"a": "line\n", "b": 2}', {"a": "line\n", "b": 2}),
    ],
)
def test_a_document_is_read_where_vendors_are_loose(body, document):
    assert load_json(body) == document


def test_nan_costs_itself_alone():
    found = load_json(b'[{"c": NaN, "d": 1}, {"c": 2}]')
    assert isnan(found[0]["c"])
    assert (found[0]["d"], found[1]) == (1, {"c": 2})


@pytest.mark.parametrize(
    "body", [b"", b"nan", b"{", b"<html>", b"[1,]", b"[" * 100_000, b"1" * 5_000, "[" * 100_000]
)
def test_what_is_no_document_is_an_error_of_its_value(body):
    with pytest.raises(ValueError, match=r"."):
        load_json(body)


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=9)
)
@settings(max_examples=examples(100))
def test_what_any_program_writes_is_read_as_it_is(value):
    assert load_json(json.dumps(value)) == value


@given(st.binary(max_size=80))
@settings(max_examples=examples(250))
def test_any_bytes_are_a_document_or_an_error_of_their_value(body):
    with contextlib.suppress(ValueError):
        load_json(body)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1.0),
        ("-1.5", -1.5),
        ("+.5", 0.5),
        ("1e3", 1000.0),
        ("1.", 1.0),
        ("1_000", None),
        (" 5 ", None),
        ("nan", None),
        ("inf", None),
        ("١٢", None),
        ("0x10", None),
        ("", None),
        ("1e999", inf),
    ],
)
def test_a_number_is_written_in_one_way(text, number):
    assert read_float(text) == number
