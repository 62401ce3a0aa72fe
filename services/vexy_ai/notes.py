"""What vexy_ai makes of an item: a note. Pure; an item is whatever someone put on the stream."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from marketswarm.agent import Own

TEXT_LIMIT: Final = 4000  # characters of an item that are looked at
SHOWN_LIMIT: Final = 200
MENTIONS: Final = 10
TICKER: Final = re.compile(r"\$([A-Z]{1,5})\b")
WORD: Final = re.compile(r"[^\W\d_]{4,30}")


class Wishes(Own):
    """`settings` of vexy_ai. Seconds."""

    group: Annotated[str, Field(min_length=1, max_length=100)] = "vexy_ai"
    claim_sec: Annotated[float, Field(ge=0.1, le=86_400)] = 60.0  # after that, another's item is taken over
    batch: Annotated[int, Field(gt=0, le=1000)] = 50


class Section(Own):
    """What vexy_ai reads from its section."""

    settings: Wishes = Wishes()


def note(entry_id: str, item: Mapping[bytes, bytes], wall: float) -> dict[str, str]:
    """The fields of the note about an item; `id` is the item's own, or the entry's if it has none."""
    title, summary = _text(item, b"title"), _text(item, b"summary")
    return {
        "id": _text(item, b"id")[:SHOWN_LIMIT] or entry_id,
        "feed": _text(item, b"feed")[:SHOWN_LIMIT],
        "title": title[:SHOWN_LIMIT],
        "mentions": orjson.dumps(_mentions(f"{title} {summary}")).decode(),
        "words": orjson.dumps(_words(f"{title} {summary}")).decode(),
        "ts": f"{wall:.3f}",
    }


def entries_of(reply: Any) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
    """The entries in a reply to XREADGROUP (streams with entries), deleted ones as empty items."""
    return [(entry_id, fields or {}) for _stream, entries in reply or [] for entry_id, fields in entries]


def _text(item: Mapping[bytes, bytes], name: bytes) -> str:
    return item.get(name, b"")[: 4 * TEXT_LIMIT].decode("utf-8", "replace")[:TEXT_LIMIT]


def _mentions(text: str) -> list[str]:
    return list(dict.fromkeys(TICKER.findall(text)))[:MENTIONS]


def _words(text: str) -> list[str]:
    return [word for word, _ in Counter(_lowered(WORD.findall(text))).most_common(5)]


def _lowered(words: Iterable[str]) -> list[str]:
    return [word.lower() for word in words]
