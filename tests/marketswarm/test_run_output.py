"""The end of an output is kept within its limit, without secrets, and harms no terminal."""

import random
import tracemalloc

import pytest

from marketswarm.pings import MAX_BODY_BYTES
from marketswarm.redactor import LEFT_OUT, Redactor
from marketswarm.run_output import TOO_LONG, clean_output
from marketswarm.secret_rules import REMOVED
from marketswarm.tail_buffer import TAIL_BYTES, TailBuffer

PLAIN = Redactor()
CANARY = "hunter2-4b1d"


def clean(raw: bytes, redactor: Redactor = PLAIN) -> str:
    tail = TailBuffer()
    for at in range(0, len(raw), 7001):
        tail.add(raw[at : at + 7001])
    assert tail.size == len(raw)
    found = clean_output(tail.read(), tail.size, redactor)
    assert len(found) <= MAX_BODY_BYTES
    return found.decode()


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"", ""),
        (b"done", "done"),
        (b"a\n\n  b\n", "a\n\n  b"),
        (b"one\r\ntwo\r\n", "one\ntwo"),
        (b"10 %\r50 %\r100 %\nend\n", "100 %\nend"),
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07\x00end", "red \ufffdend"),
        (b"a\tb", "a       b"),
        ("naïve ☃".encode(), "naïve ☃"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_what_an_output_looks_like_when_it_is_kept(raw, kept):
    assert clean(raw) == kept


def test_of_a_long_output_the_last_whole_lines_are_kept():
    kept = clean(b"".join(b"line %d \xe2\x98\x83\n" % n for n in range(100_000)))
    lines = kept.split("\n")
    assert lines[-1] == "line 99999 ☃"
    assert all(line.startswith("line ") and line.endswith("☃") for line in lines)
    assert len(kept.encode()) > MAX_BODY_BYTES - 50


def test_memory_does_not_grow_with_the_output():
    tail = TailBuffer()
    tracemalloc.start()
    try:
        for _ in range(300):
            tail.add(b"x" * 65_536)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 65_536 + 6 * TAIL_BYTES
    assert len(tail.read()) == TAIL_BYTES


def test_a_long_line_is_folded_and_a_word_without_an_end_is_left_out():
    kept = clean(b'{"rows":[' + b'{"a":1},' * 5000 + b"]}")
    assert kept.endswith(('{"a":1},\n]}', '{"a":1},]}'))
    assert len(kept) > MAX_BODY_BYTES - 2000
    assert clean(b"x" * 200_000) == TOO_LONG


@pytest.mark.parametrize(
    "text",
    [
        f"password={CANARY}",
        f"redis://operator:{CANARY}@127.0.0.1:6379/0",
        f"Authorization: Bearer {CANARY}-abcdefgh",
        f"\x1b[1mpass\x1b[0mword: {CANARY}",
        f"known {CANARY} known",
    ],
)
def test_secrets_are_removed_wherever_the_limit_cuts(text):
    redactor = Redactor([CANARY])
    for after in (0, *range(10_000 - len(text), 10_010, 13), *range(16_000 - len(text), 16_010, 13)):
        raw = b"-" * 16_000 + b"\n" + text.encode() + b"\n" + b" " * after
        assert "hunter2" not in clean(raw, redactor), after
    assert REMOVED in clean(text.encode(), redactor)


def test_any_bytes_are_text_that_is_safe_to_show():
    chance = random.Random(7)
    for raw in (rb"\u001b[2J \x1b[2J \r", *(chance.randbytes(chance.randrange(1, 20_000)) for _ in range(5))):
        kept = clean(raw)
        assert all(char.isprintable() or char == "\n" for char in kept)


def test_what_there_was_no_time_for_is_left_out():
    assert clean_output(b"password=x\n" * 100, 1100, PLAIN, lambda: True).decode() == LEFT_OUT
