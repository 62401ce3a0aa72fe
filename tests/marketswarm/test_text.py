import orjson
import pytest

from marketswarm.text import (
    escape_json,
    escape_lines,
    escape_text,
    format_duration,
    format_names,
    parse_digits,
)

STEERING = {
    "\x1b[2J": r"\x1b[2J",
    "\x9b31m": r"\x9b31m",
    "a\nb\r\tc": r"a\nb\r\tc",
    "\u202egnp": r"\u202egnp",
    "\u2066x\u2069": r"\u2066x\u2069",
    "\x00\x07\x7f": r"\x00\x07\x7f",
    "\u2028": r"\u2028",
    "\ud800": r"\ud800",
    "\U000e0041": r"\U000e0041",
}


@pytest.mark.parametrize(("text", "shown"), STEERING.items())
def test_what_could_steer_a_terminal_is_shown_as_an_escape(text, shown):
    assert escape_text(text) == shown
    assert shown.isprintable()


@pytest.mark.parametrize("text", ["", "rss_agg is down", "größer 價格 ✗ →", "🙂", r"C:\new"])
def test_what_can_be_printed_stays_as_it_is(text):
    assert escape_text(text) == escape_lines(text) == text


def test_a_text_of_ours_keeps_its_lines():
    assert escape_lines("one\ntwo \x1b[31m\u202e\n") == "one\ntwo \\x1b[31m\\u202e\n"


@pytest.mark.parametrize("text", [text for text in STEERING if text != "\ud800"] + ["plain ✗"])
def test_escaped_json_means_the_same_and_steers_nothing(text):
    raw = orjson.dumps({text: [text]}, option=orjson.OPT_INDENT_2)
    shown = escape_json(raw)
    assert orjson.loads(shown) == {text: [text]}
    assert all(line.isprintable() for line in shown.decode().split("\n"))


@pytest.mark.parametrize(
    ("sec", "said"),
    [
        (0, "0 s"),
        (31.24, "31.2 s"),
        (119.9, "119.9 s"),
        (250, "4 min 10 s"),
        (7500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_read_well(sec, said):
    assert format_duration(sec) == said


def test_names_in_a_sentence_are_few():
    assert format_names(["a"]) == "a"
    assert format_names("abcdefg") == "a, b, c, d, e and 2 more"
    assert format_names("abc", 2) == "a, b and 1 more"


@pytest.mark.parametrize(
    "text", [None, "", b"", "-1", "+1", " 1", "1.0", "1_0", "²", "٣", "1" * 16, b"1" * 16]
)
def test_what_is_not_a_few_digits_is_not_a_number(text):
    assert parse_digits(text) is None


def test_digits_are_a_number_up_to_a_length():
    assert parse_digits("007") == 7
    assert parse_digits(b"9" * 15) == 10**15 - 1
    assert parse_digits("100", 2) is None
