"""What becomes of a feed's entries: items with an identity, and a digest that shows an edit. Pure.

An item is known by its id, else by its link, else by what it says, within its feed: ids such as `1` are
common, and one feed is not to pass its items off as another's. A feed is known by its *scope* (`memory.py`),
which outlives a new name and a new address.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from services.rss_agg.documents import Entry
    from services.rss_agg.section import Feed


@dataclass(frozen=True, slots=True)
class Item:
    """One item, as it goes on the stream. `id` stays the same for good, `digest` until an edit."""

    id: str
    digest: str
    fields: Mapping[str, str]


def items_of(feed: "Feed", scope: str, entries: Iterable["Entry"]) -> list[Item]:
    """The items of a feed's entries (newest first), oldest first, each once."""
    entries = list(entries)
    doubtful = _ids_of_many(entries)
    found: dict[str, Item] = {}
    for entry in entries:
        ident = _hash(scope, *_identity(entry, trusted=entry.id not in doubtful))
        digest = _hash(entry.title, entry.link, entry.summary)[:12]
        found.setdefault(ident, Item(ident, digest, _fields(feed, ident, entry)))
    return list(reversed(found.values()))


def _ids_of_many(entries: Iterable["Entry"]) -> set[str]:
    """Ids that one document gives to items with different links: they tell nothing apart."""
    links: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.id and entry.link:
            links[entry.id].add(entry.link)
    return {ident for ident, found in links.items() if len(found) > 1}


def _identity(entry: "Entry", *, trusted: bool) -> tuple[str, ...]:
    if entry.id and trusted:
        return "id", entry.id
    if entry.link:
        return "link", entry.link
    return "text", entry.title, entry.summary


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()[:32]


def _fields(feed: "Feed", ident: str, entry: "Entry") -> dict[str, str]:
    return {
        "id": ident,
        "feed": feed.name,
        "title": entry.title,
        "link": entry.link,
        "published": entry.published,
        "summary": entry.summary,
        "tags": orjson.dumps(feed.tags).decode(),
    }
