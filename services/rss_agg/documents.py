"""A feed's document, in any of its formats, taken apart into entries. Whatever it holds is hostile.

feedparser knows RSS, Atom and RDF, and is imported here alone; JSON Feed is short enough to be read here.
This runs in a process of its own (`parsing.py`), which is ended when a document takes too long or too much.
"""

import calendar
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final
from urllib.parse import urljoin

import orjson

from services.rss_agg.charset import text_of
from services.rss_agg.plain import line, word

ENTRIES: Final = 1000
LENGTHS: Final = {"title": 500, "summary": 2000}
WORD_LENGTH: Final = 2000
JSON_FEED: Final = "https://jsonfeed.org/version/"
BEFORE: Final = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)
OWN_WORDS: Final = re.compile(r"<!DOCTYPE[^>\[]*+\[", re.IGNORECASE)
# what may be declared: short text without anything in it that stands for something else
HARMLESS: Final = re.compile(
    r"""<!ENTITY\s{1,9}[\w.-]{1,64}\s{1,9}(?:"(?:[^"&%<]{0,64}|&\#\w{1,8};)"|'(?:[^'&%<]{0,64}|&\#\w{1,8};)')\s{0,9}>"""
)
HARMLESS_AT_MOST: Final = 300
VOID: Final = re.compile(r"\s{50,}+")
"""Over so much nothing the parser's own patterns can brood for minutes."""


class NotAFeed(Exception):  # noqa: N818 - a result like another
    """The document is no feed, or one that is not to be read; `str()` is one word."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a document says of one item, as plain text. `published`: ISO 8601 in UTC, or empty."""

    id: str
    link: str
    title: str
    summary: str
    published: str

    def as_dict(self) -> dict[str, str]:
        """For the way from one process to another."""
        return asdict(self)


def entries_of(body: bytes, kind: str, base: str) -> list[Entry]:
    """The entries, newest first as far as that can be known, ENTRIES at most.

    Args:
        body: the document, at most a few megabytes.
        kind: the Content-Type it came with.
        base: its URL, for links that are relative to it.

    Raises NotAFeed.
    """
    text = VOID.sub("\n", text_of(body, kind))
    if text[:1] == "{":
        raw = _of_json(text)
    else:
        _refuse_bombs(text)
        raw = _of_xml(text)
    entries = [_entry(one, base) for one in raw]
    return _newest([entry for entry in entries if entry.id or entry.link or entry.title or entry.summary])


def _newest(entries: list[Entry]) -> list[Entry]:
    dated = [entry.published for entry in entries if entry.published]
    if dated and dated[0] < dated[-1]:  # some begin with the oldest
        entries.reverse()
    return entries[:ENTRIES]


def _refuse_bombs(text: str) -> None:
    begins = BEFORE.match(text)
    if not OWN_WORDS.match(text, begins.end() if begins else 0):
        return
    declared = text.count("<!ENTITY")
    if declared > HARMLESS_AT_MOST or declared != sum(1 for _ in HARMLESS.finditer(text)):
        raise NotAFeed("entities")


def _of_xml(text: str) -> Iterable[Mapping[str, Any]]:
    import feedparser  # noqa: PLC0415 - the process that runs this begins before there is work

    try:
        # a file object: feedparser takes bare bytes for the name of a file as well
        found = feedparser.parse(
            BytesIO(text.encode("utf-8", "replace")),
            response_headers={"content-type": "application/xml; charset=utf-8"},
            sanitize_html=False,
            resolve_relative_uris=False,
        )
    except Exception as error:  # noqa: BLE001 - whatever a hostile document does to the parser
        raise NotAFeed(f"not_a_feed ({type(error).__name__})") from None
    entries = found.get("entries") or []
    if not found.get("version") and not entries:
        raise NotAFeed("not_a_feed")
    return [_of_parsed(entry) for entry in entries]


def _of_parsed(entry: dict[str, Any]) -> dict[str, Any]:
    contents = entry.get("content") or [{}]
    # asked by its own ways, it warns of one date that stands in for another
    when = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")
    try:
        at = _iso(calendar.timegm(when)) if when else ""
    except (ValueError, OverflowError, TypeError, OSError):
        at = ""
    return {
        "id": entry.get("id"),
        "link": entry.get("link"),
        "title": entry.get("title"),
        "summary": entry.get("summary") or contents[0].get("value"),
        "published": at,
    }


def _of_json(text: str) -> Iterable[Mapping[str, Any]]:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise NotAFeed("not_a_feed") from None
    if not str(found.get("version")).startswith(JSON_FEED) or not isinstance(found.get("items"), list):
        raise NotAFeed("not_a_feed")
    return [_of_json_item(item) for item in found["items"] if isinstance(item, dict)]


def _of_json_item(item: Mapping[str, Any]) -> dict[str, Any]:
    ident = item.get("id")
    if isinstance(ident, int | float) and not isinstance(ident, bool):
        ident = str(ident)
    said = item.get("date_published") or item.get("date_modified")
    try:
        when = datetime.fromisoformat(said) if isinstance(said, str) else None
        at = _iso((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()) if when else ""
    except (ValueError, OverflowError, OSError):
        at = ""
    return {
        "id": ident,
        "link": item.get("url") or item.get("external_url"),
        "title": item.get("title"),
        "summary": item.get("summary") or item.get("content_text") or item.get("content_html"),
        "published": at,
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _entry(raw: Mapping[str, Any], base: str) -> Entry:
    return Entry(
        id=word(raw["id"], WORD_LENGTH),
        link=_link(raw["link"], base),
        title=line(raw["title"], LENGTHS["title"]),
        summary=line(raw["summary"], LENGTHS["summary"]),
        published=raw["published"],
    )


def _link(raw: Any, base: str) -> str:
    """An absolute web address, or empty."""
    if not isinstance(raw, str) or len(raw) > WORD_LENGTH or not raw.strip():
        return ""
    try:
        found = urljoin(base, raw.strip())
    except ValueError:
        return ""
    good = found.lower().startswith(("http://", "https://")) and len(found) <= WORD_LENGTH
    return word(found, WORD_LENGTH) if good else ""
