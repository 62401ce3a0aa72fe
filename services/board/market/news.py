"""Read the news about symbols: the notes that vexy_ai writes about items of feeds, by the tickers in them.

Feeds and the notes about them are foreign text: a note is read with types and bounds, and one that can't be
read is skipped.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from marketswarm.bus import Bus, BusError
from marketswarm.bus.stream import StreamEntry, find_entry_time, read_entries_before
from marketswarm.keys import VEXY_NOTES
from marketswarm.text import escape_text
from marketswarm.truth import Truth
from services.market.notes import read_note_names, read_sentiment

NOTES: Final = 2000  # how many of the newest notes are looked through
PAGE: Final = 500
NEWS_SEC: Final = 15.0  # how long they are kept in memory
MAX_TEXT: Final = 300
MAX_LINK: Final = 1000
MAX_NAMES: Final = 50
NO_NOTES: Final = "no service of the truth publishes vexy:notes"


class NewsItem(NamedTuple):
    """Hold a note: its id, when it was written (epoch seconds), and what the item says.

    `sentiment` is from -1 to 1; `tickers` are the symbols that the item names.
    """

    id: str
    at: float
    title: str
    link: str
    feed: str
    sentiment: float | None
    tickers: tuple[str, ...]
    topics: tuple[str, ...]


def find_notes(truth: Truth) -> tuple[str, str] | None:
    """Return the bus and the key of the stream of notes; None if no service writes it."""
    last_part = VEXY_NOTES.rpartition(":")[2]
    for section in truth.services.values():
        for point in section.access_points.publish_to:
            if point.key == VEXY_NOTES or point.key.endswith(f":{last_part}"):
                return point.bus, point.key
    return None


async def read_notes(bus: Bus, key: str) -> Sequence[NewsItem]:
    """Return the newest notes, the newest first; digests are left out. Raises BusError."""
    found: list[NewsItem] = []
    before, looked = b"+", 0
    while looked < NOTES:
        page = await read_entries_before(bus, key, before, count=PAGE)
        found += filter(None, map(parse_news, page))
        if len(page) < PAGE:
            break
        looked, before = looked + len(page), b"(" + page[-1].id
    return found


def parse_news(entry: StreamEntry) -> NewsItem | None:
    """Return the note in an entry; None if it is a digest, or can't be read."""
    fields = entry.fields or {}
    if fields.get(b"kind") != b"note":
        return None
    link = _read_text(fields, b"link", MAX_LINK)
    title = _read_text(fields, b"title")
    return NewsItem(
        escape_text(entry.id.decode("ascii", "replace")),
        find_entry_time(entry.id),
        title,
        link if _is_web(link) else "",
        _read_text(fields, b"feed"),
        read_sentiment(fields.get(b"sentiment", b"")),
        _read_names(fields.get(b"tickers", b"")),
        _read_names(fields.get(b"topics", b"")),
    )


def select_news(items: Sequence[NewsItem], symbol: str | None, limit: int) -> list[NewsItem]:
    """Return the newest items about a symbol; of all symbols for None."""
    return [one for one in items if symbol is None or symbol in one.tickers][:limit]


def cut_news(
    items: Sequence[NewsItem], away: str | None, as_of_ms: int | None
) -> tuple[Sequence[NewsItem], str | None]:
    """Return the items that were there at an instant (None: now), and why some may lack.

    Only the newest items are known, so before the oldest of them there may have been others.
    """
    if as_of_ms is None:
        return items, away
    if away is None and items and 1000 * items[-1].at > as_of_ms:
        since = datetime.fromtimestamp(items[-1].at, UTC)
        away = f"the notes that are kept begin on {since:%Y-%m-%d}"
    return [one for one in items if 1000 * one.at <= as_of_ms], away


def _read_text(fields: Mapping[bytes, bytes], name: bytes, most: int = MAX_TEXT) -> str:
    return escape_text(fields.get(name, b"")[: 4 * most].decode("utf-8", "replace")[:most])


def _is_web(link: str) -> bool:
    try:
        return urlsplit(link).scheme in ("http", "https")
    except ValueError:
        return False


def _read_names(raw: bytes) -> tuple[str, ...]:
    return tuple(map(escape_text, read_note_names(raw, MAX_NAMES)))


def explain_bus(error: BusError) -> str:
    return f"bus {error.bus} does not let the news be read: {error.reason}"
