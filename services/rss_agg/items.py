"""What feeds there are, and what becomes of an item of theirs. Pure; whatever a feed says is hostile."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, Field

from marketswarm.agent import Own

ITEMS_A_READ: Final = 200
TEXT_LIMITS: Final = {"title": 500, "link": 2000, "summary": 2000}
MARKUP: Final = re.compile(r"<[^<>]{0,500}>")


def _http_url(url: str) -> str:
    if not url.startswith("env:") and urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError('must be an http or https URL, or "env:NAME" for one that holds a secret')
    return url


Every = Annotated[float, Field(gt=0, le=86_400)]


class Feed(Own):
    """One endpoint. `every_sec`: seconds between reads, by default the service's `poll_sec`."""

    url: Annotated[str, Field(max_length=2000), AfterValidator(_http_url)] = Field(repr=False)
    name: Annotated[str, Field(min_length=1, max_length=100)]
    tags: Annotated[tuple[Annotated[str, Field(max_length=50)], ...], Field(max_length=20)] = ()
    every_sec: Every | None = None


class Wishes(Own):
    """`settings` of rss_agg."""

    poll_sec: Every = 60.0
    timeout_sec: Annotated[float, Field(gt=0, le=60)] = 10.0  # for one feed, from look-up to last byte
    max_bytes: Annotated[int, Field(gt=0, le=50_000_000)] = 2_000_000  # of one feed, decompressed


class Section(Own):
    """What rss_agg reads from its section."""

    endpoints: Annotated[tuple[Feed, ...], Field(max_length=1000)] = ()
    settings: Wishes = Wishes()

    def every_sec(self, feed: Feed) -> float:
        """Seconds between two reads of a feed."""
        return feed.every_sec or self.settings.poll_sec


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a feed, as it goes on the stream. `id` is the same whenever the entry is read again."""

    id: str
    fields: Mapping[str, str]


def items_of(feed: Feed, entries: Iterable[Mapping[str, Any]]) -> list[Item]:
    """The items of a parsed feed, oldest first, at most 200; an entry that says nothing is left out."""
    found = (_item(feed, entry) for entry in list(entries)[:ITEMS_A_READ])
    unique = {item.id: item for item in found if item is not None}
    return list(reversed(unique.values()))


def _item(feed: Feed, entry: Mapping[str, Any]) -> Item | None:
    texts = {name: _text(entry.get(name), limit) for name, limit in TEXT_LIMITS.items()}
    if urlsplit_scheme(texts["link"]) not in {"http", "https"}:
        texts["link"] = ""
    published = _text(entry.get("published") or entry.get("updated"), 100)
    identity = _text(entry.get("id"), 2000) or texts["link"] or f"{texts['title']} {published}".strip()
    if not identity:
        return None
    digest = hashlib.sha256(f"{feed.name}\0{identity}".encode()).hexdigest()[:32]
    fields = {"id": digest, "feed": feed.name, **texts, "published": published}
    return Item(digest, {**fields, "tags": orjson.dumps(feed.tags).decode()})


def urlsplit_scheme(url: str) -> str:
    """The scheme of a URL that may be anything; empty when it is none."""
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _text(value: Any, limit: int) -> str:
    """Plain text of one line: no markup, no control characters, nothing that is not UTF-8."""
    if not isinstance(value, str):
        return ""
    plain = MARKUP.sub(" ", value[: 4 * limit]).encode("utf-8", "replace").decode()
    return " ".join("".join(one if one.isprintable() else " " for one in plain).split())[:limit]
