"""What a terminal sends for a key is one key; what nobody knows is none."""

import pytest

from marketswarm.cli.keyboard import NamedKey, split_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("q", ["q"]),
        ("né", ["n", "é"]),
        ("\x1b[A\x1bOB", [NamedKey.UP, NamedKey.DOWN]),
        ("\x1b[5~\x1b[6~\x1b[H", [NamedKey.PAGE_UP, NamedKey.PAGE_DOWN, NamedKey.HOME]),
        ("\x1b", [NamedKey.ESCAPE]),
        ("\x1b\x1b[A", [NamedKey.ESCAPE, NamedKey.UP]),
        ("\r\x7f\x08\x04", [NamedKey.ENTER, NamedKey.BACKSPACE, NamedKey.BACKSPACE, NamedKey.END]),
        ("\x1b[1;5Cx", ["x"]),
        ("\x00\x9b\u202e", []),
        ("", []),
    ],
)
def test_bytes_of_a_terminal_are_keys(text, keys):
    assert split_keys(text) == keys
