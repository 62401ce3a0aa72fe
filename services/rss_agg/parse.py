"""HTML that a feed put where text belongs, made text of one line. Pure; bounded whatever comes.

A feed's document, in any of its formats, taken apart into entries. Whatever it holds is hostile.

feedparser knows RSS, Atom and RDF, and is imported here alone; JSON Feed is short enough to be read here.
This runs in a process of its own (`parsing.py`), which is ended when a document takes too long or too much.

What becomes of a feed's entries: items with an identity, and a digest that shows an edit. Pure.

An item is known by its id, else by its link, else by what it says, within its feed: ids such as `1` are
common, and one feed is not to pass its items off as another's. A feed is known by its *scope* (`memory.py`),
which outlives a new name and a new address.
"""

import calendar
import hashlib
import html
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

import orjson

from services.rss_agg.decode import text_of

if TYPE_CHECKING:
    from services.rss_agg.settings import Feed


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
