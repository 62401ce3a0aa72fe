r"""Foreign text fit for a terminal: what could steer it, or turn the direction of writing, as an escape.

Beats, truths, feeds and servers' answers are written by others. Nothing of theirs reaches a terminal but
through these functions. Pure.
"""


def escaped(text: str) -> str:
    r"""Return the text on one line, with each character that can't be printed as `\n`, `\x1b` or `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escaped_lines(text: str) -> str:
    """Return a text of ours that quotes others: as `escaped`, but for the ends of its lines."""
    return text if text.isprintable() else "\n".join(map(escaped, text.split("\n")))


def escaped_json(raw: bytes) -> bytes:
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
