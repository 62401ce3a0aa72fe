"""Fit text into a limit: one printable line, a truncated text, as many lines as there is room for. Pure.

Receivers count length in different ways, and escaped text grows, so each function takes a `cost`
function. Not here: escaping, which each channel does for itself.
"""

from collections.abc import Callable, Sequence
from typing import Final

from marketswarm.pages import split_pages

MORE: Final = "…"

Cost = Callable[[str], int]
"""A function that returns the length of a text as a receiver counts it."""


def utf16_length(text: str) -> int:
    """Return the number of UTF-16 code units: never less than the number of characters."""
    return len(text) + sum(char > "\uffff" for char in text)


def utf8_length(text: str) -> int:
    return len(text.encode())


def printable_line(text: str) -> str:
    """Return one line of printable text: line ends, bidi marks and lone surrogates become spaces."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def truncate(text: str, room: int, cost: Cost = utf16_length) -> str:
    """Return the text if it costs `room` at most, otherwise its longest start that fits with `…` after it."""
    if len(text) <= room and cost(text) <= room:
        return text
    if cost(MORE) > room:
        return ""
    # a character costs one at least; halving finds the longest start that fits
    least, most = 0, min(len(text), room)
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if cost(text[:middle] + MORE) <= room else (least, middle - 1)
    return text[:least].rstrip() + MORE


def fit_lines(
    lines: Sequence[str], room: int, cost: Cost = utf16_length, *, between: int = 1, longest: int = 300
) -> list[str]:
    """Return the lines within `room`, printable: all, or the first ones and a line that counts the others.

    `between` is the cost of joining two lines. Each line is truncated to a cost of `longest`, so that one
    can't use all the room. The result is empty if not even the number fits.
    """
    shown: list[str] = []
    aside = room - cost(format_remainder(len(lines)))
    kept, spent = 0, -between
    for line in lines:
        shown.append(truncate(printable_line(line), longest, cost))
        spent += cost(shown[-1]) + between
        if spent > room:
            return [*shown[:kept], format_remainder(len(lines) - kept)] if aside >= 0 else []
        if spent + between <= aside:
            kept = len(shown)
    return shown


def format_remainder(count: int) -> str:
    return f"and {count:,} more"


def paginate(lines: Sequence[str], room: int, cost: Cost = utf16_length) -> list[str]:
    """Join lines to pages that cost `room` at most each; no line may cost more than `room`."""
    pages = split_pages(lines, len(lines), room + 1, lambda line: cost(line) + 1)
    return ["\n".join(page) for page in pages]


def printable_lines(text: str) -> str:
    """Return a text of several lines, each as `printable_line` returns it."""
    return "\n".join(map(printable_line, text.splitlines()))


def replace_surrogates(text: str) -> str:
    """Replace each lone surrogate by a question mark, so that the text can be encoded as UTF-8."""
    return text.encode("utf-8", "replace").decode()
