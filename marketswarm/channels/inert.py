"""Text that means nothing to any markup: for a service of which we don't know what it makes of a `*`.

What could format, link, mention or stand for a picture is replaced by what looks alike; plain words, dots,
dashes and brackets stay as they are. Pure. Where a service's markup is known, its own escapes do better.
"""

import re
from typing import Final

from marketswarm.channels.fitting import cut, fit, paragraph, plain
from marketswarm.channels.look import Look, look_of
from marketswarm.channels.message import Message

TITLE_AT_MOST: Final = 200

_LIVE: Final = str.maketrans("<>@*`~|[]#&\\{}", "‹›＠∗ˋ∼¦［］＃＆＼｛｝")  # noqa: RUF001 - the look alike is the point
_EDGES: Final = re.compile(r"(?<!\w)_+|_+(?!\w)|:(?=[A-Za-z+-][\w+-]*:)")
"""Underlines around words, not in them, where names have theirs; the colon that begins `:a_picture:`."""
_OTHER: Final = {"_": "＿", ":": "∶"}  # noqa: RUF001 - as above
_TYPES: Final = {Look.GOOD: "success", Look.NEWS: "info", Look.WARNING: "warning", Look.ALARM: "failure"}


def inert(text: str) -> str:
    """The text with its live characters replaced, one for one."""
    return _EDGES.sub(lambda found: _OTHER[found[0][0]] * len(found[0]), text.translate(_LIVE))


def said(message: Message, room: int) -> dict[str, str]:
    """Title, body and sort of a message, in words that format nothing wherever they may go."""
    text = cut(inert(paragraph(message.text)), room // 2, len)
    lines = fit([inert(plain(line)) for line in message.lines], room - len(text) - 2, len)
    return {
        "title": cut(inert(plain(message.title)), TITLE_AT_MOST),
        "body": "\n".join([text, *lines]),
        "notify_type": _TYPES[look_of(message)],
    }
