"""Write results to stdout as lines or JSON; foreign text in them can't control a terminal.

Everything written here may hold foreign text (a beat's detail, an event on the log), so this is the last
place that escapes control characters. Code that knows which part of a line is foreign escapes that part
before. `tables.py` prints tables; it takes longer to load.
"""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from marketswarm.text import escape_json, escape_lines, escape_source

RED: Final = "31"
GREEN: Final = "32"
YELLOW: Final = "33"
DIM: Final = "2"
# replacements of our own characters in an ASCII locale; one for one, so that columns keep their width
_ASCII_LETTERS: Final = {
    "✗": "x", "✓": "+", "·": "-", "…": ".", "→": ">", "←": "<", "≥": ">",
    "│": "|", "┃": "|", "─": "-", "━": "-", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "•": "*",
}  # fmt: skip
_ERROR_HANDLER: Final = "marketswarm.ascii"


def print_line(text: str, style: str | None = None) -> None:
    """Print one line and flush it, since a reader of a pipe wants it at once.

    `style` is an SGR number, used on a terminal unless NO_COLOR is set.
    """
    text = escape_lines(text)
    if style and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[{style}m{text}\x1b[0m"
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_lines(lines: Iterable[str], style: str | None = None) -> None:
    for line in lines:
        print_line(line, style)


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Print things to type, each with what it does, in two columns."""
    print_lines(f"  {line}" for line in align(pairs))


def align(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a line for each row, its cells in columns; lines end where their text ends."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def print_error(message: str) -> None:
    """Print what went wrong, or a warning, to stderr as `marketswarm: …`, which every command does."""
    print_aside(f"marketswarm: {message}")


def print_aside(text: str) -> None:
    """Print a line to stderr: what a person should know beside the results.

    A stderr that does not take it, since its reader is gone or its disk full, changes nothing of what the
    command does, nor its exit code.
    """
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{escape_lines(text)}\n")
        sys.stderr.flush()


def print_json(value: Any) -> None:
    print_json_bytes(orjson.dumps(value))


def print_source(text: str) -> None:
    """Print source code or a patch with its tabs, so that a program can read it from a pipe.

    To a pipe or a file it is written in UTF-8, whatever the locale says. What could steer a terminal is
    escaped there, too, since a pipe often ends at one.
    """
    shown = f"{escape_source(text)}\n"
    if sys.stdout.isatty():
        sys.stdout.write(shown)
    else:
        sys.stdout.buffer.write(shown.encode("utf-8", "replace"))
    sys.stdout.flush()


def print_result(value: Any, lines: Iterable[str], *, as_json: bool) -> None:
    """Print a result as JSON, or as lines for people."""
    if as_json:
        print_json(value)
    else:
        print_lines(lines)


def pick(value: object, *names: str) -> dict[str, Any]:
    """Return some attributes of a value by their names, for JSON."""
    return {name: getattr(value, name) for name in names}


def print_json_bytes(raw: bytes, end: bytes = b"\n") -> None:
    """Print JSON unchanged, and `end`; on a terminal, control characters become escapes of JSON."""
    sys.stdout.buffer.write((escape_json(raw) if sys.stdout.isatty() else raw) + end)
    sys.stdout.buffer.flush()


def replace_unencodable() -> None:
    """Make stdout and stderr replace each character that their encoding lacks, instead of raising.

    In an ASCII locale ✗ becomes x and → becomes >; a character that has no replacement becomes ?.
    """
    codecs.register_error(_ERROR_HANDLER, _replace_with_ascii)
    for stream in (sys.stdout, sys.stderr):
        encodes_all = (stream.encoding or "").lower().startswith("utf")
        if not encodes_all and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERROR_HANDLER)


def _replace_with_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_ASCII_LETTERS.get(letter, "?") for letter in found), error.end
