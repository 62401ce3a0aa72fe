"""Where results are written: stdout, in colours on a terminal, in letters that it can show."""

import asyncio
import os
import select
import sys
from typing import Any

from rich.console import Console, RenderableType

_LOOK_EVERY_SEC = 1.0
_PLAIN_LETTERS = str.maketrans({"✗": "x", "✓": "+", "·": "-", "…": ".", "→": ">"})


def console() -> Console:
    """For tables and marked text; rich minds NO_COLOR and what is not a terminal."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=False)


def line(text: str, style: str | None = None) -> None:
    """One line, at once: whoever reads a pipe wants it now."""
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
    """One line of JSON, as it is."""
    sys.stdout.buffer.write(data + b"\n")
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
