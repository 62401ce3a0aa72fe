"""Text made to fit: nothing is ever longer than it may be, and as much is shown as there is room for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.channels.text import (
    MORE,
    fit_lines,
    format_remainder,
    paginate,
    printable_line,
    printable_lines,
    truncate,
    utf8_length,
    utf16_length,
)

TEXTS = st.text(max_size=60)
COSTS = st.sampled_from([len, utf16_length, utf8_length, lambda text: 3 * len(text)])


def test_characters_are_counted_as_the_services_count_them():
    assert [utf16_length(text) for text in ("", "abc", "ü", "\U0001f4a9")] == [0, 3, 1, 2]
    assert [utf8_length(text) for text in ("", "abc", "ü", "\U0001f4a9")] == [0, 3, 2, 4]


@pytest.mark.parametrize(
    "odd", ["\n", "\r", "\x00", "\x1b", "\u202e", "\u2066", "\u200b", "\ud800", "\u2028", "\x85"]
)
def test_what_can_not_be_printed_is_a_space(odd):
    assert printable_line(f"a{odd}b") == "a b"


def test_a_paragraph_keeps_its_lines_and_nothing_else_that_is_odd():
    assert printable_lines("a\x00\nb\u202e\n") == "a \nb "


def test_a_text_that_fits_is_left_alone_and_one_that_does_not_says_so():
    assert truncate("abcdef", 6) == "abcdef"
    assert truncate("abcdefg", 6) == "abcde" + MORE
    assert truncate("abc   defghi", 7) == "abc" + MORE
    assert truncate("abc", 0) == ""
    assert truncate("\U0001f4a9" * 3, 5, utf16_length) == "\U0001f4a9" * 2 + MORE


@given(TEXTS, st.integers(0, 70), COSTS)
def test_a_cut_text_costs_no_more_than_there_is_room_and_begins_as_it_did(text, room, cost):
    text = printable_line(text)
    found = truncate(text, room, cost)
    assert cost(found) <= room
    assert text.startswith(found.removesuffix(MORE))
    if cost(text) <= room:
        assert found == text


def test_lines_that_fit_are_all_shown():
    assert fit_lines(["a" * 10] * 5, 54) == ["a" * 10] * 5
    assert fit_lines([], 0) == []


def test_of_lines_that_do_not_fit_the_first_are_shown_and_the_others_counted():
    assert fit_lines(["a" * 10] * 5, 53) == ["a" * 10] * 3 + ["and 2 more"]
    assert fit_lines(["a" * 10] * 5, 11) == ["and 5 more"]
    assert fit_lines(["a" * 10] * 5, 9) == []
    assert fit_lines(["x"] * 5000, 100)[-1] == "and 4,957 more"


def test_one_long_line_does_not_take_the_room_of_all():
    assert fit_lines(["a" * 1000, "b"], 400) == ["a" * 299 + MORE, "b"]


@given(st.lists(TEXTS, max_size=30), st.integers(0, 400), COSTS, st.integers(0, 3))
def test_lines_never_take_more_room_than_there_is_and_none_is_forgotten(lines, room, cost, between):
    lines = [printable_line(line) for line in lines]
    found = fit_lines(lines, room, cost, between=between, longest=1000)
    assert sum(map(cost, found)) + between * max(0, len(found) - 1) <= room
    if found == lines:
        return
    if not found:
        assert cost(format_remainder(len(lines))) > room
        return
    shown = found[:-1]
    assert shown == lines[: len(shown)]
    assert found[-1] == format_remainder(len(lines) - len(shown))
    # and there was no room for one more
    longer = [*lines[: len(shown) + 1], format_remainder(len(lines) - len(shown) - 1)]
    if len(longer) <= len(lines):
        assert sum(map(cost, longer)) + between * (len(longer) - 1) > room - cost("0")


def test_five_thousand_long_lines_are_not_all_looked_at():
    looked = 0

    def cost(text: str) -> int:
        nonlocal looked
        looked += 1
        return len(text)

    fit_lines(["a" * 3000] * 5000, 4000, cost)
    assert looked < 1000


@given(st.lists(st.text("ab", max_size=20), max_size=30), st.integers(20, 60))
def test_pages_hold_every_line_in_order_and_none_is_too_long(lines, room):
    found = paginate(lines, room)
    assert all(len(page) <= room for page in found)
    assert [line for page in found for line in page.split("\n")] == lines
