"""Where results are written: stdout, in colours on a terminal, in letters that it can show.

Whatever is written here quotes others, and nothing of theirs steers a terminal: this is the last guard. Code
that knows which part of a line is foreign escapes that part before.
"""

import asyncio
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from marketswarm.text import escape_json, escape_lines

_LOOK_EVERY_SEC = 1.0
_PLAIN_LETTERS = str.maketrans({"✗": "x", "✓": "+", "·": "-", "…": ".", "→": ">"})


class _Guarded(Console):
    """A console on which no text steers the terminal, whatever it is drawn as."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """See the library; escapes what is drawn."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(escape_lines(segment.text), segment.style)


def console() -> Console:
    """For tables and marked text; rich minds NO_COLOR and what is not a terminal."""
    return _Guarded(highlight=False, markup=False, emoji=False, soft_wrap=False)


def line(text: str, style: str | None = None) -> None:
    """One line, at once: whoever reads a pipe wants it now."""
    text = escape_lines(text)
    if not _shows("✗"):
        text = text.translate(_PLAIN_LETTERS)
    if style and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{style}m{text}\x1b[0m"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def drawing(what: RenderableType) -> None:
    """Tables and marked text; letters that stdout can't show are replaced."""
    to = console()
    if _shows("→✗…"):
        to.print(what)
        return
    with to.capture() as captured:
        to.print(what)
    plain = captured.get().translate(_PLAIN_LETTERS)
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(plain.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


def raw(data: bytes) -> None:
    """One line of JSON: as it is, but for what would steer a terminal."""
    sys.stdout.buffer.write((escape_json(data) if sys.stdout.isatty() else data) + b"\n")
    sys.stdout.buffer.flush()


async def reader_gone() -> None:
    """Returns when nobody reads stdout any more; for commands that may have nothing to write for hours."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)  # errors are always told of
    while not watch.poll(0):  # noqa: ASYNC110 - asyncio does not watch for errors alone
        await asyncio.sleep(_LOOK_EVERY_SEC)


def _shows(letter: Any) -> bool:
    try:
        letter.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
