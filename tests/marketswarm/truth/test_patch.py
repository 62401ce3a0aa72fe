"""A patch makes the next document of the last one, and a message that has no usable patch has none."""

import hashlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.truth.patch import MAX_MESSAGE_BYTES, MAX_TEXT_BYTES, Patch, make_patch, parse_patch

SHA = "ab" * 32


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_a_patch_of_two_documents_makes_the_second_of_the_first(begin, one, two, end):
    before, after = begin + one + end, begin + two + end
    patch = make_patch(before, SHA, after)
    assert patch.apply(before) == after
    assert len(patch.text) <= max(len(one), len(two))
    assert parse_patch(orjson.dumps({"patch": patch})) == patch


def test_a_change_of_one_section_is_small_in_a_large_document():
    services = {f"svc{n}": {"heartbeat": {"interval_sec": 10}} for n in range(5000)}
    before = orjson.dumps({"services": services})
    services["svc2500"] = {"heartbeat": {"interval_sec": 20}}
    after = orjson.dumps({"services": services})
    patch = make_patch(before, hashlib.sha256(before).hexdigest(), after)
    assert patch.text == "2"
    assert patch.apply(before) == after


def test_a_change_that_is_too_large_has_no_patch():
    assert make_patch(b"", SHA, b"x" * MAX_TEXT_BYTES) is not None
    assert make_patch(b"", SHA, b"x" * (MAX_TEXT_BYTES + 1)) is None


def test_the_largest_patch_fits_into_a_message():
    patch = make_patch(b"", SHA, b"\0" * MAX_TEXT_BYTES)
    assert parse_patch(orjson.dumps({"revision": 1 << 53, "sha256": SHA, "patch": patch})) == patch


def test_a_patch_for_a_longer_document_is_not_applied():
    assert Patch(SHA, 3, 2, "x").apply(b"abcde") == b"abcxde"
    assert Patch(SHA, 3, 3, "x").apply(b"abcde") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"of": None}, {"of": SHA.upper()}, {"of": "ab"}, {"begin": -1}, {"begin": True}, {"begin": 1.0},
        {"end": -1}, {"end": "1"}, {"text": None}, {"text": "\u0100"}, {"text": "x" * (MAX_TEXT_BYTES + 1)},
    ],
)  # fmt: skip
def test_a_patch_with_a_wrong_part_is_none(wrong):
    whole = {"of": SHA, "begin": 1, "end": 1, "text": "\xff"}
    assert parse_patch(orjson.dumps({"patch": whole})) == Patch(SHA, 1, 1, "\xff")
    assert parse_patch(orjson.dumps({"patch": whole | wrong})) is None


@pytest.mark.parametrize(
    "message",
    [b"", b"no json", b"[]", b"{}", b'{"patch":5}', b'{"patch":{}}', b" " * (MAX_MESSAGE_BYTES + 1)],
)
def test_a_message_without_a_patch_has_none(message):
    assert parse_patch(message) is None
