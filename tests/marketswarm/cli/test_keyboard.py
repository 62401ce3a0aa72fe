"""What a terminal sends for a key is one key; what nobody knows is none."""

import pytest

from marketswarm.cli.keyboard import Key, split_keys


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("q", ["q"]),
        ("né", ["n", "é"]),
        ("\x1b[A\x1bOB", [Key.UP, Key.DOWN]),
        ("\x1b[5~\x1b[6~\x1b[H", [Key.PAGE_UP, Key.PAGE_DOWN, Key.HOME]),
        ("\x1b", [Key.ESCAPE]),
        ("\x1b\x1b[A", [Key.ESCAPE, Key.UP]),
        ("\r\x7f\x08\x04", [Key.ENTER, Key.BACKSPACE, Key.BACKSPACE, Key.END]),
        ("\x1b[1;5Cx", ["x"]),
        ("\x00\x9b\u202e", []),
        ("", []),
    ],
)
def test_bytes_of_a_terminal_are_keys(text, keys):
    assert split_keys(text) == keys
