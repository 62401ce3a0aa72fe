"""Patterns for lines of logs: which are refused, and that none takes long."""

import time

import pytest

from services.medic.rule import DATABASE_ERRORS, MAX_LINE_CHARS, compile_pattern


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "unclosed group"),
        ("(?=a)", "look-around"),
        (r"(a)\1", "backreferences"),
        ("(.{1,30}){30}", "no group"),
        ("a{101}", "100 times"),
        ("a{1,9999999999999999999999}", "100 times"),
        (r"(?:\w{100}\w{100}\w{100}\w{100}\w{100}\w{100}\w{100}\w{100}\w{100})", "size limit"),
    ],
)
def test_a_pattern_that_can_not_be_used_is_refused_with_the_reason(pattern, words):
    with pytest.raises(ValueError, match=words):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("(a+)+$", "a" * (MAX_LINE_CHARS - 1) + "!"),
        ("(a|a)*b", "a" * MAX_LINE_CHARS),
        ("(x+x+)+y", "x" * MAX_LINE_CHARS),
        (r"(.*)(.*)(.*)(.*)(.*)[^\s\S]", "z " * (MAX_LINE_CHARS // 2)),
        (r"[ab]*a[ab]{100}c", "ab" * (MAX_LINE_CHARS // 2)),
    ],
)
def test_what_is_a_catastrophe_for_other_engines_takes_a_moment(pattern, line):
    matches = compile_pattern(pattern)
    began = time.process_time()
    assert not matches(line)
    assert time.process_time() - began < 0.5


def test_a_pattern_is_looked_for_anywhere_in_a_line():
    matches = compile_pattern(r"(?i)connection (refused|reset)\b")
    assert matches("2026 ERROR Connection Reset by peer")
    assert not matches("connection resets")


@pytest.mark.parametrize(
    ("line", "is_error"),
    [
        ('{"ts":"2026","level":"warning","event":"database.away","bus":"b"}', True),
        ("asyncpg.exceptions.TooManyConnectionsError: sorry, too many clients already", True),
        ("ERROR: deadlock detected", True),
        ('{"event":"database.back"}', False),
        ("the operational errors of today", False),
    ],
)
def test_the_shipped_pattern_finds_errors_of_databases(line, is_error):
    assert compile_pattern(DATABASE_ERRORS)(line) is is_error
