"""HTML that a feed put where text belongs, made text of one line. Pure; bounded whatever comes."""

import html
import re
from typing import Any, Final

READ: Final = 8
"""Times the wanted length: so much of a text is looked at, since markup takes more room than what it says."""
UNSAID: Final = re.compile(
    r"<!--.{0,20000}?-->|<(script|style)\b[^>]{0,2000}>.{0,20000}?</\1\s{0,9}>", re.DOTALL | re.IGNORECASE
)
# a tag begins with a letter: `a < b and c > d` holds none
TAG: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9:-]{0,40})(?:\s[^<>]{0,4000})?/?>|<[!?][^<>]{0,4000}>")
# fmt: off
WITHIN_A_WORD: Final = frozenset({
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd",
    "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr",
})
# fmt: on
CUT_TAG: Final = re.compile(r"<[A-Za-z/!][^<>]*$")


def line(value: Any, limit: int) -> str:
    """Plain text of one line, at most `limit` characters: no markup, no control characters, valid UTF-8."""
    if not isinstance(value, str):
        return ""
    text = value[: READ * limit]
    if "<" in text:
        text = TAG.sub(_tag, UNSAID.sub(" ", text))
        if len(value) > READ * limit:
            text = CUT_TAG.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    return _printable(text)[:limit].rstrip()


def word(value: Any, limit: int) -> str:
    """As `line`, for what is an address or an id and holds no markup."""
    return _printable(value[:limit]) if isinstance(value, str) else ""


def _printable(text: str) -> str:
    whole = text.encode("utf-8", "replace").decode()
    if not whole.isprintable():
        whole = "".join(one if one.isprintable() else " " for one in whole)
    return " ".join(whole.split())


def _tag(found: re.Match[str]) -> str:
    return "" if found[1] and found[1].lower() in WITHIN_A_WORD else " "
