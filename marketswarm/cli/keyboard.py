"""Read single keys of a terminal, while its input is neither echoed nor collected into lines."""

import asyncio
import codecs
import contextlib
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

_TYPED: Final = re.compile(r"\x1b[\[O]([0-9;]*[ -/]*[@-~])|(.)", re.DOTALL)
_READ_BYTES: Final = 1024


class NamedKey(StrEnum):
    """Name the keys that are not characters; `END` is the end of the input, `REDRAW` a resized screen."""

    ENTER = "enter"
    ESCAPE = "escape"
    BACKSPACE = "backspace"
    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    END = "end"
    REDRAW = "redraw"


_KEYS: Final = {
    "\r": NamedKey.ENTER,
    "\n": NamedKey.ENTER,
    "\x7f": NamedKey.BACKSPACE,
    "\x08": NamedKey.BACKSPACE,
    "\x04": NamedKey.END,
    "\x1b": NamedKey.ESCAPE,
    "\x1bA": NamedKey.UP,
    "\x1bB": NamedKey.DOWN,
    "\x1b5~": NamedKey.PAGE_UP,
    "\x1b6~": NamedKey.PAGE_DOWN,
    "\x1bH": NamedKey.HOME,
    "\x1b1~": NamedKey.HOME,
}
"""By what a terminal sends, of a sequence without the `[` or `O` after its escape."""


def split_keys(text: str) -> list[str]:
    """Return the keys in what a terminal sent: characters, and names of `Key`; unknown ones are left out."""
    sent = (f"\x1b{sequence}" if sequence else char for sequence, char in _TYPED.findall(text))
    return [_KEYS.get(key, key) for key in sent if key in _KEYS or key.isprintable()]


@contextlib.contextmanager
def open_keyboard(pressed: asyncio.Queue[Any]) -> Iterator[None]:
    """Put the keys that are pressed in the block into a queue, and restore the terminal at its end.

    SIGTERM and SIGHUP count as the end of the input, so that they leave a usable terminal, too. Ctrl-C stays
    a signal. Must be called in a running event loop, with a terminal on stdin.
    """
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read_keys() -> None:
        try:
            raw = os.read(terminal, _READ_BYTES)
        except OSError:  # the terminal is gone
            raw = b""
        if not raw:
            loop.remove_reader(terminal)
            pressed.put_nowait(NamedKey.END)
        for key in split_keys(decoder.decode(raw)):
            pressed.put_nowait(key)

    signals = {signal.SIGTERM: NamedKey.END, signal.SIGHUP: NamedKey.END, signal.SIGWINCH: NamedKey.REDRAW}
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSANOW)
        mode = termios.tcgetattr(terminal)
        mode[6][termios.VSUSP] = b"\0"  # Ctrl-Z would leave the terminal as it is now
        termios.tcsetattr(terminal, termios.TCSANOW, mode)
        loop.add_reader(terminal, read_keys)
        for number, key in signals.items():
            loop.add_signal_handler(number, pressed.put_nowait, key)
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
        loop.remove_reader(terminal)
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
