"""Text made to fit: one line that can be printed, a text cut to a limit, as many lines as there is room for.

Pure. Receivers count in different ways, and what is escaped grows; so each function is told what a text will
cost there. Not here: how anything is escaped.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

MORE: Final = "…"
"""Stands for what was cut off."""

Cost = Callable[[str], int]


def utf16_length(text: str) -> int:
    """UTF-16 code units: never fewer than characters, whichever of the two a receiver means."""
    return len(text) + sum(char > "\uffff" for char in text)


def utf8_length(text: str) -> int:
    """Bytes in UTF-8."""
    return len(text.encode())


def printable_line(text: str) -> str:
    """One line of what can be printed: no line ends, nothing that turns the direction, no half characters."""
    return text if text.isprintable() else "".join(char if char.isprintable() else " " for char in text)


def truncate(text: str, room: int, cost: Cost = utf16_length) -> str:
    """The text, or as much from its start as costs no more than `room` with the sign that there was more."""
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
    """The lines, or the first of them and one that counts the others, in no more than `room`.

    `between` is what joining two of them costs. None of them costs more than `longest`, so that one can't
    take the room of all.
    """
    shown: list[str] = []
    aside = room - cost(remainder_line(len(lines)))
    kept, spent = 0, -between
    for line in lines:
        shown.append(truncate(line, longest, cost))
        spent += cost(shown[-1]) + between
        if spent > room:
            return [*shown[:kept], remainder_line(len(lines) - kept)] if aside >= 0 else []
        if spent + between <= aside:
            kept = len(shown)
    return shown


def remainder_line(count: int) -> str:
    """What stands for the lines that are not shown."""
    return f"and {count:,} more"


def paginate(lines: Sequence[str], room: int, cost: Cost = utf16_length) -> list[str]:
    """The lines, none longer than `room`, joined by line ends into texts of which none is longer either."""
    found: list[str] = []
    left = -1
    for line in lines:
        left -= cost(line) + 1
        if left < 0:
            found.append(line)
            left = room - cost(line)
        else:
            found[-1] += f"\n{line}"
    return found


def printable_lines(text: str) -> str:
    """A text of several lines, each as `plain` has it."""
    return "\n".join(map(printable_line, text.splitlines()))


LAST_TIME: Final = 253402300799.0
"""The end of the year 9999, after which there is no date to write; a stranger's event may say anything."""


def format_utc(at: float) -> str:
    """Epoch seconds as JSON's readers like them: UTC, to the millisecond."""
    return utc_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_datetime(at: float) -> datetime:
    """Epoch seconds as a date in UTC; no calendar goes on for ever."""
    return datetime.fromtimestamp(min(max(0.0, at), LAST_TIME), UTC)


def replace_surrogates(text: str) -> str:
    """Text that can be written as UTF-8: half a character of a stranger's is a question mark."""
    return text.encode("utf-8", "replace").decode()
