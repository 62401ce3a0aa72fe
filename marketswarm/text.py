"""Format text for people: durations, times, and text from others that is made safe for a terminal. Pure.

Beats, truths, feeds and servers' answers are written by others. Their text reaches a terminal only through
the `escape_…` functions: control characters could change the terminal's state or reverse the writing.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

LAST_TIME: Final = 253402300799.0
"""The last second of the year 9999 in epoch seconds, the limit for times in foreign events."""


def format_duration(sec: float) -> str:
    """Return a duration in seconds as text: `31.2 s`, `4 min 10 s`, `2 h 5 min` or `3 d 4 h`."""
    if sec < 120:
        return f"{sec:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(sec), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def format_utc(at: float) -> str:
    """Return epoch seconds as an ISO date in UTC, to the millisecond."""
    return utc_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_moment(at: float) -> str:
    """Return epoch seconds as a date and time for people, with the zone: `2025-11-06 12:50:58 UTC`."""
    return f"{utc_datetime(at):%Y-%m-%d %H:%M:%S} UTC"


def format_time(at: float) -> str:
    """Return the time of day of epoch seconds, with the zone: `12:50:58 UTC`."""
    return f"{utc_datetime(at):%H:%M:%S} UTC"


def utc_datetime(at: float) -> datetime:
    """Return epoch seconds as a datetime in UTC, limited to the years 1970 to 9999."""
    return datetime.fromtimestamp(min(max(0.0, at), LAST_TIME), UTC)


def format_names(names: Iterable[str], most: int = 5) -> str:
    """Format names for a sentence: `a, b`, or the first five and a count: `a, b, c, d, e and 3 more`."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def parse_digits(text: str | bytes | None, most: int = 15) -> int | None:
    """Return a whole number of at most `most` digits; None for any other text."""
    if text is None or len(text) > most or not (text.isascii() and text.isdigit()):
        return None
    return int(text)


def map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with each text in it changed, at any depth; keys stay as they are."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_texts(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [map_texts(each, change) for each in value]
    return value


def decode_text(raw: bytes | None) -> str:
    """Return UTF-8 as text, with a replacement character for each wrong byte; empty for None."""
    return raw.decode("utf-8", "replace") if raw is not None else ""


def escape_text(text: str) -> str:
    r"""Return a text on one line, with characters that can't be printed as `\n`, `\x1b` or `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_lines(text: str) -> str:
    """Return a text of ours that quotes others, each of its lines escaped as by `escape_text`."""
    return text if text.isprintable() else "\n".join(map(escape_text, text.split("\n")))


def escape_json(raw: bytes) -> bytes:
    r"""Return JSON that means the same, with each character that can't be printed as `\u202e`.

    A JSON writer escapes only the first 32 characters of Unicode. Line ends and tabs between values stay.
    Bytes that are not UTF-8 are replaced.
    """
    text = raw.decode("utf-8", "replace")
    if text.isprintable():
        return raw
    return "".join(c if c.isprintable() or c in "\n\r\t" else _escape_char(c) for c in text).encode()


def _escape_char(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
