"""Text for people: durations in words, and foreign text made safe for a terminal. Pure.

Beats, truths, feeds and answers of servers are written by others. Nothing of theirs reaches a terminal but
through the `escape_…` functions: control characters could steer the terminal or reverse the writing.
"""


def format_duration(sec: float) -> str:
    """Seconds as `31.2 s`, `4 min 10 s`, `2 h 5 min` or `3 d 4 h`."""
    if sec < 120:
        return f"{sec:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(sec), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def escape_text(text: str) -> str:
    r"""Return the text on one line, with each character that can't be printed as `\n`, `\x1b` or `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_lines(text: str) -> str:
    """Return a text of ours that quotes others: as `escape_text`, but for the ends of its lines."""
    return text if text.isprintable() else "\n".join(map(escape_text, text.split("\n")))


def escape_json(raw: bytes) -> bytes:
    r"""Return JSON that means the same, with each character that can't be printed as `\u202e`.

    JSON itself escapes no more than the first 32 of them. Line ends between values stay.
    """
    text = raw.decode("utf-8", "replace")
    if text.isprintable():
        return raw
    return "".join(c if c.isprintable() or c in "\n\r\t" else _unit(c) for c in text).encode()


def _unit(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n : n + 2].hex()}" for n in range(0, len(units), 2))
