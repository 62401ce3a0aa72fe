"""Templates of lines: what is one kind, what is an error, and that nothing secret or harmful is left."""

import time

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from services.medic.rules.template import (
    MAX_SHOWN_CHARS,
    MAX_TEMPLATE_CHARS,
    OPEN_AFTER,
    TemplateMemory,
    make_template,
    show_template,
)
from support.examples import examples


@pytest.mark.parametrize(
    ("line", "template", "is_error"),
    [
        (
            b'{"ts":"x","level":"error","event":"feed.failed","agent":"a","url":"https://u:p@a/?k=1","n":5,"ok":true}',
            "feed.failed url=<url> n=<n> ok=True",
            True,
        ),
        (b'{"event":"a.b","level":"info","why":"no file /var/lib/a.db"}', "a.b why=no file <path>", False),
        (
            b'{"event":"a.b","level":"info","exception":"Traceback:\\n  at 5\\nOSError: disk 7 is gone\\n"}',
            "a.b OSError: disk <n> is gone",
            True,
        ),
        (
            b'{"event":"program.output","line":"KeyError: \\"A\\" of 550e8400-e29b-41d4-a716-446655440000"}',
            "KeyError: <text> of <id>",
            True,
        ),
        (b"2026-01-01 10:00:00,123 ERROR worker-7 of 0xdeadbeef", "<time> ERROR worker<n> of <id>", True),
        (b"no errors so far", "no errors so far", False),
        (b"Authorization: Bearer abc.def", "<secret>", False),
        (b'{"event":"a.b","api_key":"sk-live-abcdef"}', "a.b <secret>", False),
        (b"password=hunter2 of ann", "<secret> of ann", False),
        (b"[1, 2]", "[<n> <n>]", False),
        (b'{"event":{"a":1}}', "{<text>:{<text>:<n>}}", False),
        (b'{"event":"a.b","deep":{"a":[1]},"none":null}', "a.b deep=<dict> none=None", False),
        (b"", "", False),
    ],
)
def test_what_varies_in_a_line_is_masked(line, template, is_error):
    assert make_template(line) == (template, is_error)


@given(st.binary(max_size=3000) | st.text(max_size=1500).map(str.encode))
@settings(max_examples=examples(150))
def test_any_line_has_a_bounded_template_that_is_shown_without_control_characters(line):
    template, _ = make_template(line)
    assert len(template) <= 2 * MAX_TEMPLATE_CHARS
    shown = show_template(template)
    assert len(shown) <= MAX_SHOWN_CHARS + 1
    assert shown.isprintable()


def test_an_attack_on_the_terminal_or_the_writing_direction_is_shown_as_text():
    assert show_template(make_template("\x1b]0;x\x07 \u202eevil {0.__class__} %s".encode())[0]) == (
        r"\x1b]<n>;x\x07 \u202eevil {<n>__class__} %s"
    )


@pytest.mark.parametrize(
    "part", ["a", "/", "/a", "'", "'a", '"', "password ", "password=", "1", "f", "a://", "_", "0x"]
)
def test_no_line_takes_long(part):
    line = (part * 20_000).encode()[:20_000]
    began = time.process_time()
    for _ in range(10):
        make_template(line)
    assert time.process_time() - began < 0.2


def test_a_template_is_new_once_and_a_word_with_many_values_stands_for_anything():
    memory = TemplateMemory(100)
    assert [memory.add("a.b x=<n>") for _ in range(2)] == [True, False]
    symbols = [memory.add(f"no quote for {name}") for name in ("AAPL", "MSFT", "TSLA", "NVDA", "AMZN")]
    assert symbols == [True] * OPEN_AFTER + [False, False]
    assert memory.add("no bar for AAPL"), "another line"
    assert [memory.add(event) for event in ("a", "b", "c", "d", "e")] == [True] * 5, (
        "an event is no such word"
    )


def test_a_memory_that_is_full_says_so_and_has_nothing_new():
    memory = TemplateMemory(3)
    assert [memory.add(f"{word} is a line") for word in "abcd"] == [True, True, True, False]
    assert memory.is_full
    assert not memory.add("e is a line")
