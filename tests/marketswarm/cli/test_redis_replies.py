"""Replies as `redis-cli` shows them: none controls a terminal, and a pipe gets what was stored."""

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from marketswarm.bus.raw_command import Reply
from marketswarm.cli.redis_cli import encode_reply, format_reply, quote_bytes


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"text", '"text"'),
        (b"", '""'),
        (3, "(integer) 3"),
        (None, "(nil)"),
        ([], "(empty array)"),
        (ResponseError("syntax error", status_code="ERR"), "(error) ERR syntax error"),
        (NoPermissionError("no\x1b[2J", status_code="NOPERM"), "(error) NOPERM no\\x1b[2J"),
        ([b"a", 1, None], '1) "a"\n2) (integer) 1\n3) (nil)'),
        ({b"proto": 3, b"role": b"master"}, '1) "proto"\n2) (integer) 3\n3) "role"\n4) "master"'),
        ([b"a", [b"b", [b"c"]]], '1) "a"\n2) 1) "b"\n   2) 1) "c"'),
        ([1] * 9 + [[2, 3]], "\n".join([f" {n}) (integer) 1" for n in range(1, 10)] + ["10) 1) (integer) 2"])
         + "\n    2) (integer) 3"),
    ],
)  # fmt: skip
def test_each_kind_of_value_looks_as_redis_cli_shows_it(value, shown):
    assert format_reply(Reply(value)) == shown


def test_a_status_has_no_quotes():
    assert format_reply(Reply(b"OK", is_status=True)) == "OK"
    assert format_reply(Reply(b"OK\x1b[2J", is_status=True)) == "OK\\x1b[2J"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'a"b\\', '"a\\"b\\\\"'),
        (b"\n\r\t\x07\x08\x1b[2J\x00", '"\\n\\r\\t\\a\\b\\x1b[2J\\x00"'),
        (b"\xff\xfe", '"\\xff\\xfe"'),
        ("ü".encode(), '"ü"'),
        ("\u202e\x85".encode(), '"\\xe2\\x80\\xae\\xc2\\x85"'),
    ],
)
def test_what_cannot_be_printed_is_escaped(raw, shown):
    assert quote_bytes(raw) == shown
    assert shown.isprintable()


def test_in_a_pipe_values_are_as_they_were_stored():
    assert encode_reply({b"proto": 3, b"modules": [b"a"]}) == b"proto\n3\nmodules\na"
    assert encode_reply([b"\x1b[2J\xff", 3, None, [b"a", b"b"]]) == b"\x1b[2J\xff\n3\n\na\nb"
