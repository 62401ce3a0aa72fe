"""What vexy_ai makes of an item: a note. Pure but for the lexicon; an item is whatever someone put there."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from marketswarm.channels.text import cut, plain
from services.vexy_ai.mood import sentiment
from services.vexy_ai.naming import Lexicon

TEXT_LIMIT: Final = 4000  # characters of an item that are looked at
SHOWN_LIMIT: Final = 200
LINK_LIMIT: Final = 1000
NAME_LIMIT: Final = 100

Fields = Mapping[bytes, bytes]


def note(entry: str, item: Fields, lexicon: Lexicon, wall: float) -> dict[str, str]:
    """The fields of the note about an item; `id` is the item's own, or the entry's if it has none.

    `wall` is when it is made, in epoch seconds.
    """
    title, summary = _text(item, b"title"), _text(item, b"summary")
    whole = f"{title}. {summary}"
    version = cut(_text(item, b"version"), SHOWN_LIMIT, len)
    return {
        "kind": "note",
        "id": _shown(item, b"id") or entry,
        **({"version": version} if version else {}),
        "feed": _shown(item, b"feed"),
        "title": cut(title or summary, SHOWN_LIMIT, len),
        "link": _link(_text(item, b"link")),
        "tickers": orjson.dumps(lexicon.tickers(whole)).decode(),
        "topics": orjson.dumps(lexicon.topics(whole)).decode(),
        "sentiment": f"{sentiment(whole):.3f}",
        "ts": f"{wall:.3f}",
    }


def identity(stream: str, entry: str, item: Fields) -> str:
    """What two notes about the same version of an item have in common, and no others do."""
    ident = item.get(b"id") or entry.encode()
    said = (stream.encode(), ident, item.get(b"version", b""))
    return hashlib.blake2b(
        b"\0".join(b"%d:%b" % (len(each), each) for each in said), digest_size=12
    ).hexdigest()


@dataclass(frozen=True, slots=True)
class Note:
    """A note that was read back."""

    id: str
    feed: str = ""
    title: str = ""
    link: str = ""
    tickers: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    sentiment: float = 0.0


def read_back(fields: Fields, window: str) -> Note | None:
    """The note of a window; None for what is none: anyone can write to a stream."""
    if fields.get(b"kind") != b"note" or fields.get(b"window") != window.encode():
        return None
    return Note(
        id=_shown(fields, b"id"),
        feed=_shown(fields, b"feed"),
        title=_shown(fields, b"title"),
        link=_link(_text(fields, b"link")),
        tickers=_names(fields.get(b"tickers", b"")),
        topics=_names(fields.get(b"topics", b"")),
        sentiment=_score(fields.get(b"sentiment", b"")),
    )


def number(raw: bytes) -> float:
    """A finite number in digits. Raises ValueError, which shows nothing of what it was."""
    try:
        found = float(raw[:40])
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError("is no number")
    return found


def _score(raw: bytes) -> float:
    try:
        return max(-1.0, min(1.0, number(raw)))
    except ValueError:
        return 0.0


def _names(raw: bytes) -> tuple[str, ...]:
    try:
        found: Any = orjson.loads(raw[: 4 * TEXT_LIMIT])
    except orjson.JSONDecodeError:
        return ()
    return tuple(_strings(found))[:SHOWN_LIMIT] if isinstance(found, list) else ()


def _strings(found: Iterable[Any]) -> Iterable[str]:
    return (plain(each)[:NAME_LIMIT] for each in found if isinstance(each, str))


def _text(fields: Fields, name: bytes) -> str:
    """One line of what can be printed, cut; an item may bring megabytes."""
    return plain(fields.get(name, b"")[: 4 * TEXT_LIMIT].decode("utf-8", "replace")[:TEXT_LIMIT]).strip()


def _shown(fields: Fields, name: bytes) -> str:
    return cut(_text(fields, name), SHOWN_LIMIT, len)


def _link(text: str) -> str:
    try:
        scheme = urlsplit(text).scheme
    except ValueError:
        return ""
    return text if scheme in {"http", "https"} and len(text) <= LINK_LIMIT else ""
