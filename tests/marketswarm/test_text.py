import time
from zoneinfo import ZoneInfo

import orjson
import pytest

from marketswarm.text import (
    escape_json,
    escape_lines,
    escape_source,
    escape_text,
    extract_last_line,
    extract_line,
    format_duration,
    format_moment,
    format_names,
    format_time,
    parse_digits,
    redact_url,
)

AT_NOON = 1_762_433_427.1
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


def test_source_code_keeps_its_tabs_and_spaces_and_steers_nothing():
    code = "-\tsize = 1\n+\tsize\u3000=\u00a0größer → ✗\n"
    assert escape_source(code) == code
    for text, shown in STEERING.items():
        assert escape_source(text) == shown.replace(r"\n", "\n").replace(r"\t", "\t")


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
        (600, "10 min"),
        (3600, "1 h"),
        (3601, "60 min 1 s"),
        (5400, "90 min"),
        (7200, "2 h"),
        (7500, "2 h 5 min"),
        (172_800, "2 d"),
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


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("disk full on /backup\nmore", "disk full on /backup"),
        ("\n \r\n\tsecond\x00 line ", "second line"),
        ("\x1b[1;31mred\x1b[0m \x1b]0;title\x07disk", "red disk"),
        ("\u202eevil\u2028next", "evil"),
        ("größer 價格 🙂", "größer 價格 🙂"),
        ("x" * 100_000, "x" * 200),
        ("\ud800", None),
        ("\x1b[2J\x1b[H", None),
        ("", None),
        ("GET https://me:pw@api.example/v1?token=abc: 500", "GET https://api.example/v1: 500"),
        ("no answer of redis://:S3/cr?et@h:6379/0.", "no answer of ?."),
        ("redis://h:6379: refused", "redis://h:6379: refused"),
        ("(see http://[)", "(see ?)"),
    ],
)
def test_the_first_line_of_foreign_text_is_short_printable_and_without_credentials(text, line):
    assert extract_line(text) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("begun\ndisk full on /backup\n\n \r\n", "disk full on /backup"),
        ("more\n\x1b[1;31mred\x1b[0m \x1b]0;title\x07disk\x00\n\x1b[2J", "red disk"),
        ("first\u2028\u202eevil", "evil"),
        ("a\n" * 100_000 + "x" * 1_000, "x" * 200),
        ("last\n" + "\n" * 100_000, None),
        ("\ud800", None),
        ("", None),
        ("a\nGET https://me:pw@api.example/v1?token=abc: 500", "GET https://api.example/v1: 500"),
    ],
)
def test_the_last_line_of_foreign_text_is_as_safe_as_the_first(text, line):
    assert extract_last_line(text) == line


@pytest.mark.parametrize(
    "piece", ["\x1b[", "\x1b]", "\x1b", "a", "a://", "://", "a.", "\n", "@", "\x1b]a", "x\x1b[1"]
)
def test_a_line_of_foreign_text_takes_no_long_time(piece):
    begun = time.process_time()
    extract_line(piece * (1_000_000 // len(piece)))
    extract_last_line(piece * (1_000_000 // len(piece)))
    assert time.process_time() - begun < 0.5


def test_a_url_in_a_log_shows_no_secret():
    assert redact_url("https://me:pw@a:8443/feed?token=5#x") == "https://a:8443/feed"
    assert redact_url("http://[") == redact_url("redis://:pa/ss@h") == "?"


def test_the_clocks_of_a_zone_stand_before_utc_and_its_date_too_where_it_is_another():
    zurich, kolkata = ZoneInfo("Europe/Zurich"), ZoneInfo("Asia/Kolkata")
    assert format_moment(AT_NOON) == "2025-11-06 12:50:27 UTC"
    assert format_moment(AT_NOON, zurich) == "2025-11-06 13:50:27 CET (12:50:27 UTC)"
    assert format_time(AT_NOON, zurich) == "13:50:27 CET (12:50:27 UTC)"
    assert format_moment(AT_NOON + 39_600, zurich) == "2025-11-07 00:50:27 CET (2025-11-06 23:50:27 UTC)"
    assert format_moment(AT_NOON + 15_552_000, zurich) == "2026-05-05 14:50:27 CEST (12:50:27 UTC)"
    assert format_time(AT_NOON, kolkata) == "18:20:27 IST (12:50:27 UTC)"
    assert format_moment(1e18, kolkata) == "9999-12-31 23:59:59 UTC", "a zone knows no year 10000"
    assert format_time(1e18, kolkata) == "23:59:59 UTC"
