"""Parse a feed's document of any format into entries, and make items of the entries. Pure.

Every document is treated as hostile. feedparser reads RSS, Atom and RDF, and is imported here alone; JSON
Feed is short enough to be read here. This runs in a process of its own (`parse_process.py`), which is killed
when a document takes too much time or memory.

An item is identified by its id, otherwise by its link, otherwise by its text, within its feed, because ids
such as `1` are common, and no feed may publish its items as another's. A feed is identified by its *scope*
(`store.py`), which stays when the feed gets a new name or a new address.
"""

import hashlib
import html
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import orjson

from marketswarm.channels.text import printable_line, replace_surrogates
from services.rss_agg.dates import read_date
from services.rss_agg.decode import decode_text

if TYPE_CHECKING:
    from services.rss_agg.settings import Feed

# -- HTML to text

READ_RATIO: Final = 8
"""The length of text that is read, in multiples of the wanted length, since markup takes up space."""
# what has no end continues to the end of the text, as in a browser: no other begin is looked for in it
INVISIBLE: Final = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b[^<>]{0,2000}>.*?(?:</\1\s{0,9}>|\Z)", re.DOTALL | re.IGNORECASE
)
# a tag begins with a letter, so `a < b and c > d` holds none
TAG: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9:-]{0,40})(?:\s[^<>]{0,4000})?/?>|<[!?][^<>]{0,4000}>")
# fmt: off
INLINE_TAGS: Final = frozenset({
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font", "i", "ins", "kbd",
    "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr",
})
"""Tags that may stand inside a word; every other one separates words."""
# fmt: on
TRUNCATED_TAG: Final = re.compile(r"<[A-Za-z/!][^<>]*$")
MAX_ENTRIES: Final = 1000
TITLE_LENGTH: Final = 500
SUMMARY_LENGTH: Final = 2000
ID_LENGTH: Final = 2000
JSON_FEED: Final = "https://jsonfeed.org/version/"
PROLOGUE: Final = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)
INTERNAL_DTD: Final = re.compile(r"<!DOCTYPE[^>\[]*+\[", re.IGNORECASE)
# an entity may stand for short text without any other entity in it
HARMLESS_ENTITY: Final = re.compile(
    r"""<!ENTITY\s{1,9}[\w.-]{1,64}\s{1,9}(?:"(?:[^"&%<]{0,64}|&\#\w{1,8};)"|'(?:[^'&%<]{0,64}|&\#\w{1,8};)')\s{0,9}>"""
)
MAX_ENTITIES: Final = 300
BARE_AMPERSAND: Final = re.compile(
    r"""<!\[CDATA\[.*?(?:\]\]>|\Z)
    |&(?!(?:[A-Za-z][A-Za-z0-9]{1,31}|\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6});)""",
    re.DOTALL | re.VERBOSE,
)
"""An ampersand that begins no reference, which XML forbids and titles such as "AT&T" have; or text that is
not parsed, in which it may stand. What has no end is such text to the end."""
LONG_WHITESPACE: Final = re.compile(r"\s{50,}+")
"""feedparser's regular expressions can take minutes over long runs of whitespace."""


def html_to_line(value: Any, limit: int) -> str:
    """Return one line without markup, of printable, valid Unicode; empty if `value` is not text."""
    if not isinstance(value, str):
        return ""
    text = value[: READ_RATIO * limit]
    if "<" in text:
        text = INVISIBLE.sub(" ", text)
        text = TAG.sub(lambda tag: "" if (tag[1] or "").lower() in INLINE_TAGS else " ", text)
        if len(value) > READ_RATIO * limit:
            text = TRUNCATED_TAG.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    return _make_printable(text)[:limit].rstrip()


def text_to_line(value: Any, limit: int) -> str:
    """Return one printable line of the first `limit` characters; empty if `value` is not text."""
    return _make_printable(value[:limit]) if isinstance(value, str) else ""


def _make_printable(text: str) -> str:
    return " ".join(printable_line(replace_surrogates(text)).split())


# -- documents to entries


class NotAFeedError(Exception):
    """The document is not a feed, or must not be parsed; `str()` is the reason in one word."""


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """Hold one entry of a document, as plain text; `published` is ISO 8601 in UTC, or empty."""

    id: str
    link: str
    title: str
    summary: str
    published: str


def parse_entries(body: bytes, content_type: str, base_url: str) -> list[FeedEntry]:
    """Return the entries of a document, newest first if it has dates, at most MAX_ENTRIES.

    Raises NotAFeedError if it is not a feed, or declares dangerous entities.
    """
    text = LONG_WHITESPACE.sub("\n", decode_text(body, content_type))
    if text[:1] == "{":
        raw = _parse_json(text)
    else:
        _refuse_entity_bombs(text)
        raw = _parse_xml(BARE_AMPERSAND.sub(_escape_ampersand, text))
    found = (
        FeedEntry(
            id=text_to_line(each["id"], ID_LENGTH),
            link=_absolute_link(each["link"], base_url),
            title=each["title"],
            summary=each["summary"],
            published=each["published"],
        )
        for each in raw
    )
    entries = [entry for entry in found if entry.id or entry.link or entry.title or entry.summary]
    dated = [entry.published for entry in entries if entry.published]
    if dated and dated[0] < dated[-1]:  # some feeds begin with the oldest
        entries.reverse()
    return entries[:MAX_ENTRIES]


def _refuse_entity_bombs(text: str) -> None:
    """Raise NotAFeedError if the DTD declares over MAX_ENTITIES entities, or one that is not harmless."""
    prologue = PROLOGUE.match(text)
    if not INTERNAL_DTD.match(text, prologue.end() if prologue else 0):
        return
    declared = text.count("<!ENTITY")
    if declared > MAX_ENTITIES or declared != sum(1 for _ in HARMLESS_ENTITY.finditer(text)):
        raise NotAFeedError("entities")


def _parse_xml(text: str) -> Iterable[Mapping[str, Any]]:
    import feedparser  # noqa: PLC0415 - the worker process starts before it has a document to parse

    try:
        # a file object, since feedparser would take bare bytes for a file's name
        found = feedparser.parse(
            BytesIO(text.encode("utf-8", "replace")),
            response_headers={"content-type": "application/xml; charset=utf-8"},
            sanitize_html=False,
            resolve_relative_uris=False,
        )
    except Exception as error:  # noqa: BLE001 - whatever a hostile document does to the parser
        raise NotAFeedError(f"not_a_feed ({type(error).__name__})") from None
    entries = found.get("entries") or []
    if not found.get("version") and not entries:
        raise NotAFeedError("not_a_feed")
    is_atom = str(found.get("version")).startswith("atom")
    return [_read_xml_entry(entry, is_atom=is_atom) for entry in entries]


def _escape_ampersand(found: re.Match[str]) -> str:
    return "&amp;" if found[0] == "&" else found[0]


def _read_xml_entry(entry: dict[str, Any], *, is_atom: bool) -> dict[str, Any]:
    contents = entry.get("content") or [{}]
    summary = entry.get("summary_detail") or contents[0]
    # dict.get, since feedparser's own `get` warns when one date stands in for another
    name = next((each for each in ("published", "updated") if dict.get(entry, each)), "published")
    return {
        "id": entry.get("id"),
        "link": entry.get("link"),
        "title": _read_xml_text(entry.get("title_detail"), TITLE_LENGTH, is_atom=is_atom),
        "summary": _read_xml_text(summary, SUMMARY_LENGTH, is_atom=is_atom),
        "published": read_date(dict.get(entry, name), dict.get(entry, f"{name}_parsed")),
    }


def _read_xml_text(detail: Mapping[str, Any] | None, limit: int, *, is_atom: bool) -> str:
    """Return the line of a title or summary. Atom says whether it is text or HTML; others mean HTML."""
    if detail is None:
        return ""
    is_plain = is_atom and detail.get("type") == "text/plain"
    return (text_to_line if is_plain else html_to_line)(detail.get("value"), limit)


def _parse_json(text: str) -> Iterable[Mapping[str, Any]]:
    try:
        found: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise NotAFeedError("not_a_feed") from None
    if not str(found.get("version")).startswith(JSON_FEED) or not isinstance(found.get("items"), list):
        raise NotAFeedError("not_a_feed")
    return [_read_json_entry(item) for item in found["items"] if isinstance(item, dict)]


def _read_json_entry(item: Mapping[str, Any]) -> dict[str, Any]:
    entry_id = item.get("id")
    if isinstance(entry_id, int | float) and not isinstance(entry_id, bool):
        entry_id = str(entry_id)
    plain = item.get("summary") or item.get("content_text")
    return {
        "id": entry_id,
        "link": item.get("url") or item.get("external_url"),
        "title": text_to_line(item.get("title"), TITLE_LENGTH),
        "summary": text_to_line(plain, SUMMARY_LENGTH)
        or html_to_line(item.get("content_html"), SUMMARY_LENGTH),
        "published": read_date(item.get("date_published") or item.get("date_modified")),
    }


def _absolute_link(raw: Any, base_url: str) -> str:
    """Return an absolute web URL; an empty text if `raw` is not one."""
    if not isinstance(raw, str) or len(raw) > ID_LENGTH or not raw.strip():
        return ""
    try:
        link = urljoin(base_url, raw.strip())
    except ValueError:
        return ""
    usable = link.lower().startswith(("http://", "https://")) and len(link) <= ID_LENGTH
    return text_to_line(link, ID_LENGTH) if usable else ""


# -- entries to items


@dataclass(frozen=True, slots=True)
class Item:
    """Hold one item to publish. Its `id` never changes; an edit changes its `digest`."""

    id: str
    digest: str
    fields: Mapping[str, str]


def make_items(feed: "Feed", scope: str, entries: Iterable[FeedEntry]) -> list[Item]:
    """Return the items of a feed's entries, oldest first, each once; `entries` are newest first."""
    entries = list(entries)
    links: dict[str, set[str]] = defaultdict(set)  # an id that has several does not identify an item
    for entry in entries:
        links[entry.id] |= {entry.link} - {""}
    items: dict[str, Item] = {}
    for entry in entries:
        if entry.id and len(links[entry.id]) < 2:
            item_id = _digest(scope, "id", entry.id)
        elif entry.link:
            item_id = _digest(scope, "link", entry.link)
        else:
            item_id = _digest(scope, "text", entry.title, entry.summary)
        content = _digest(entry.title, entry.link, entry.summary)[:12]
        fields = {
            "id": item_id,
            "feed": feed.name,
            "title": entry.title,
            "link": entry.link,
            "published": entry.published,
            "summary": entry.summary,
            "tags": orjson.dumps(feed.tags).decode(),
        }
        items.setdefault(item_id, Item(item_id, content, fields))
    return list(reversed(items.values()))


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()[:32]
