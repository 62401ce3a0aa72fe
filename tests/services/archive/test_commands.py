import orjson
import pytest

from marketswarm.bus.stream import StreamEntry
from services.archive.commands import parse_dead_letter

LETTER = {
    b"stream": b"s",
    b"entry": b"1-0",
    b"reason": b"sym: no symbol",
    b"ts": b"5",
    b"fields": b'{"sym":"<"}',
}


def parse(**changes):
    fields = LETTER | {name.encode(): value for name, value in changes.items()}
    return parse_dead_letter(StreamEntry(b"7-0", 100, fields))


def test_a_dead_letter_shows_the_fields_that_were_refused():
    found = parse()
    assert (found.stream, found.entry, found.refused_at, found.fields) == ("s", "1-0", 5.0, {"sym": "<"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"fields": b'{"x":' + b"[" * 1000 + b"]" * 1000 + b"}"},
        {"fields": orjson.dumps({"x": 5})},
        {"fields": b"[]"},
        {"ts": b"nan"},
        {"ts": b"x"},
    ],
)
def test_what_is_no_dead_letter_is_skipped(wrong):
    assert parse(**wrong) is None
