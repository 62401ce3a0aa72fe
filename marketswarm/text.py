"""Format text for people: durations, times, and text from others that is made safe for a terminal. Pure.

Beats, truths, feeds and servers' answers are written by others. Their text reaches a terminal only through
the `escape_…` functions: control characters could change the terminal's state or reverse the writing.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from unicodedata import category
from urllib.parse import urlsplit

LAST_TIME: Final = 253402300799.0
"""The last second of the year 9999 in epoch seconds, the limit for times in foreign events."""
MAX_LINE_CHARS: Final = 200
"""The longest line that `extract_line` and `extract_last_line` return."""
_MAX_READ_CHARS: Final = 16_384

# each repetition is bounded, so hostile text takes linear time
_TERMINAL_SEQUENCE: Final = re.compile(
    r"\x1b(?:\[[0-9;:<=>?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)?|[ -/]{0,4}[0-Z\\^-~])"
)
_URL_IN_TEXT: Final = re.compile(r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s\"'<>]+")


def format_duration(sec: float) -> str:
    """Return a duration in seconds as text: `31.2 s`, `4 min 10 s`, `2 h 5 min` or `3 d 4 h`.

    A part that is zero is left out: `10 min`, `1 h`. From two hours on seconds are, too.
    """
    if sec < 120:
        return f"{sec:.1f}".removesuffix(".0") + " s"
    minutes, seconds = divmod(round(sec), 60)
    hours, rest = divmod(minutes, 60)
    if minutes < 120 and (seconds or rest):
        parts = (minutes, "min"), (seconds, "s")
    elif hours < 48:
        parts = (hours, "h"), (rest, "min")
    else:
        parts = (hours // 24, "d"), (hours % 24, "h")
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def format_utc(at: float) -> str:
    """Return epoch seconds as an ISO date in UTC, to the millisecond."""
    return utc_datetime(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_moment(at: float, zone: tzinfo | None = None) -> str:
    """Return epoch seconds as a date and time for people, with the zone: `2025-11-06 12:50:58 UTC`.

    With a `zone`, its clocks come first: `2025-11-06 13:50:58 CET (12:50:58 UTC)`. If the date in UTC is
    another one, it is shown, too.
    """
    utc = utc_datetime(at)
    local = _find_local(utc, zone)
    if local is None:
        return f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    same_day = local.date() == utc.date()
    return f"{local:%Y-%m-%d %H:%M:%S %Z} ({utc:{'%H:%M:%S' if same_day else '%Y-%m-%d %H:%M:%S'}} UTC)"


def format_time(at: float, zone: tzinfo | None = None) -> str:
    """Return the time of day of epoch seconds: `12:50:58 UTC`; with a zone `13:50:58 CET (12:50:58 UTC)`."""
    utc = utc_datetime(at)
    local, shown = _find_local(utc, zone), f"{utc:%H:%M:%S} UTC"
    return shown if local is None else f"{local:%H:%M:%S %Z} ({shown})"


def _find_local(utc: datetime, zone: tzinfo | None) -> datetime | None:
    try:
        return None if zone is None else utc.astimezone(zone)
    except OverflowError:  # of the year 10000, east of Greenwich
        return None


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


def extract_line(text: str) -> str | None:
    """Return the first line of foreign text that says something, MAX_LINE_CHARS at most; None without one.

    Sequences for terminals and characters that can't be printed are removed, and so are credentials, query
    and fragment of a URL. Other secrets in the text stay: nothing tells them from words.
    """
    return _find_words(text[:_MAX_READ_CHARS].splitlines())


def extract_last_line(text: str) -> str | None:
    """Return the last line of foreign text that says something, as safe as the one of `extract_line`.

    Only the end of a long text is read.
    """
    return _find_words(reversed(text[-_MAX_READ_CHARS:].splitlines()))


def _find_words(lines: Iterable[str]) -> str | None:
    for line in lines:
        plain = "".join(char if char.isprintable() else " " for char in _TERMINAL_SEQUENCE.sub("", line))
        words = " ".join(_URL_IN_TEXT.sub(_redact_found, plain).split())
        if words:
            return words[:MAX_LINE_CHARS]
    return None


def strip_controls(text: str) -> str:
    r"""Return foreign text of several lines as a terminal would leave it, without anything that controls one.

    Of a line that was written over (`\r`, as a progress bar does), the last writing is kept. Sequences for
    terminals are removed; any other character that can't be printed, but for tabs, becomes U+FFFD.
    """
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in _TERMINAL_SEQUENCE.sub("", text).split("\n"))
    return "\n".join(
        line
        if line.isprintable()
        else "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in line)
        for line in lines
    )


def _redact_found(found: re.Match[str]) -> str:
    url = found[0].rstrip(".,;:!?)]}")
    return redact_url(url) + found[0][len(url) :]


def redact_url(url: str) -> str:
    """Return a URL without credentials, query and fragment, which may be secrets; `?` for an invalid URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # not a number if a password with a slash, a question mark or a # is before it
    except ValueError:
        return "?"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def describe_url(url: str) -> str:
    """Return a URL without its user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def escape_text(text: str) -> str:
    r"""Return a text on one line, with characters that can't be printed as `\n`, `\x1b` or `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_lines(text: str) -> str:
    """Return a text of ours that quotes others, each of its lines escaped as by `escape_text`."""
    return text if text.isprintable() else "\n".join(map(escape_text, text.split("\n")))


def is_source_char(char: str) -> bool:
    """Return True for a character of source code that steers no terminal: also tabs and all spaces."""
    return char.isprintable() or char in "\n\t" or category(char) == "Zs"


def escape_source(text: str) -> str:
    r"""Return source code or a patch with its tabs, lines and spaces as they are; all else is escaped.

    What can't be printed is `\x1b` or `\u202e` then, so the text is no longer what it was.
    """
    if text.isprintable():
        return text
    return "".join(c if is_source_char(c) else c.encode("unicode_escape").decode() for c in text)


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
