"""Make a note of an item: its tickers, its topics, its sentiment. Pure except for the sentiment library.

Items and their texts are untrusted. Words are compared whole and without regard to case, in any script; in
scripts without spaces, a name is found anywhere in the text. Without a grammar or a model, only names from
the truth and tickers marked with `$` are found.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from marketswarm.channels.text import printable_line, truncate
from marketswarm.truth import Truth
from services.market.names import list_truth_names
from services.market.notes import read_note_names

MAX_FOUND: Final = 20
CASHTAG: Final = re.compile(r"(?<![\w$])\$([A-Z]{1,5}(?:[.-][A-Z]{1,2})?)(?!\w)")
EXCHANGE: Final = re.compile(r"\((?:[A-Za-z ]{2,12}:\s?)?([A-Z]{1,5}(?:[.-][A-Z]{1,2})?)\)")
"""`(AAPL)`, `(NASDAQ: AAPL)`."""
MIN_BARE_LETTERS: Final = 3
"""The shortest ticker that is found without a mark: IT, ON and A are words."""
SENTIMENT_LIMIT: Final = 300
"""Characters that are scored; the time grows with the square of the words, and headlines are short."""
TEXT_LIMIT: Final = 4000  # characters of an item that are read
SHOWN_LIMIT: Final = 200
LINK_LIMIT: Final = 1000
NAME_LIMIT: Final = 100
_WORD: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

Fields = Mapping[bytes, bytes]
Phrase = tuple[str, ...]


class Phrases:
    """Find names in texts by their words and phrases; `named` maps each name to its phrases."""

    def __init__(self, named: Mapping[str, Iterable[str]]) -> None:
        self._by_first: dict[str, list[tuple[Phrase, bool, str]]] = {}
        self._anywhere: list[tuple[str, str]] = []
        for name, phrases in named.items():
            for phrase in phrases:
                self._add(phrase, name)

    def _add(self, phrase: str, name: str) -> None:
        if _UNSPACED.search(phrase):
            self._anywhere.append((phrase.casefold(), name))
            return
        words = _WORD.findall(phrase)
        folded = tuple(word.casefold() for word in words)
        if folded:
            self._by_first.setdefault(folded[0], []).append((folded, words[0][0].isupper(), name))

    def find_in(self, text: str, words: Sequence[str]) -> Iterator[str]:
        """Yield the name of each phrase that is in `text`, which consists of `words`.

        A phrase that begins with a capital letter is found only with a capital: `Target`, not `target`.
        """
        folded = [word.casefold() for word in words]
        for at, word in enumerate(folded):
            for phrase, capital, name in self._by_first.get(word, ()):
                is_there = tuple(folded[at : at + len(phrase)]) == phrase
                if is_there and not (capital and words[at][0].islower()):
                    yield name
        if self._anywhere:
            whole = text.casefold()
            yield from (name for phrase, name in self._anywhere if phrase in whole)


class Lexicon:
    """Find tickers and topics in texts; `symbols` maps tickers to company names, `topics` topics to words."""

    def __init__(self, symbols: Mapping[str, Iterable[str]], topics: Mapping[str, Iterable[str]]) -> None:
        self._symbols = frozenset(symbols)
        self._bare = frozenset(each for each in symbols if len(each) >= MIN_BARE_LETTERS)
        self._companies = Phrases(symbols)
        # a topic's own name counts as one of its words
        self._topics = Phrases({topic: (topic, *words) for topic, words in topics.items()})

    def tickers(self, text: str) -> list[str]:
        """Return the tickers that a text names, at most 20, those marked with `$` first.

        A ticker with a `$` need not be known. Known ones are also found in brackets, by their company names,
        and unmarked if they have at least three letters and the text has a lower-case letter.
        """
        words = _WORD.findall(text)
        found = [*CASHTAG.findall(text)]
        found += (each for each in EXCHANGE.findall(text) if each in self._symbols)
        found += self._companies.find_in(text, words)
        if any(each.islower() for each in text):
            found += (word for word in words if word in self._bare)
        return list(dict.fromkeys(found))[:MAX_FOUND]

    def topics(self, text: str) -> list[str]:
        return list(dict.fromkeys(self._topics.find_in(text, _WORD.findall(text))))[:MAX_FOUND]


def make_lexicon(
    truth: Truth, symbols: Mapping[str, Iterable[str]], topics: Mapping[str, Iterable[str]]
) -> Lexicon:
    """Return the lexicon of the symbols of the market that a truth names, and of those of the settings.

    One that is not a word, such as EUR/USD, is found as it is written. Of a symbol in both, the company names
    of the settings (`symbols`) count.
    """
    named: dict[str, Iterable[str]] = {
        symbol: (*one.names, *(() if symbol.isalnum() else (symbol,)))
        for symbol, one in list_truth_names(truth).items()
        if not one.is_series
    }
    return Lexicon(named | dict(symbols), topics)


@cache
def _analyzer() -> Any:
    # most workers score nothing, and need no library
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415 - see above

    return SentimentIntensityAnalyzer()


def make_note(entry: str, item: Fields, lexicon: Lexicon, wall: float) -> dict[str, str]:
    """Return the fields of the note about an item; `wall` is now, in epoch seconds.

    The note's `id` is the item's `id`, or the stream entry's id `entry` if the item has none.
    """
    title, summary = _text(item, b"title"), _text(item, b"summary")
    whole = f"{title}. {summary}"
    version = truncate(_text(item, b"version"), SHOWN_LIMIT, len)
    return {
        "kind": "note",
        "id": _short_text(item, b"id") or entry,
        **({"version": version} if version else {}),
        "feed": _short_text(item, b"feed"),
        "title": truncate(title or summary, SHOWN_LIMIT, len),
        "link": _web_link(_text(item, b"link")),
        "tickers": orjson.dumps(lexicon.tickers(whole)).decode(),
        "topics": orjson.dumps(lexicon.topics(whole)).decode(),
        "sentiment": f"{_analyzer().polarity_scores(whole[:SENTIMENT_LIMIT])['compound']:.3f}",
        "ts": f"{wall:.3f}",
    }


def note_identity(stream: str, entry: str, item: Fields) -> str:
    """Return a hash of the stream, the item's id and its version: equal for every delivery of one version.

    An item without an id is identified by `entry`, the id of its stream entry.
    """
    ident = item.get(b"id") or entry.encode()
    said = (stream.encode(), ident, item.get(b"version", b""))
    whole = b"\0".join(b"%d:%b" % (len(each), each) for each in said)
    return hashlib.blake2b(whole, digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Note:
    """Hold a note that was read back from the stream."""

    id: str
    feed: str = ""
    title: str = ""
    link: str = ""
    tickers: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    sentiment: float = 0.0


def parse_note(fields: Fields, window: str) -> Note | None:
    """Return the note in the fields of a stream entry; None if it is not a note of `window`."""
    if fields.get(b"kind") != b"note" or fields.get(b"window") != window.encode():
        return None
    return Note(
        id=_short_text(fields, b"id"),
        feed=_short_text(fields, b"feed"),
        title=_short_text(fields, b"title"),
        link=_web_link(_text(fields, b"link")),
        tickers=_parse_names(fields.get(b"tickers", b"")),
        topics=_parse_names(fields.get(b"topics", b"")),
        sentiment=_parse_sentiment(fields.get(b"sentiment", b"")),
    )


def _parse_sentiment(raw: bytes) -> float:
    try:
        found = float(raw[:40])
    except ValueError:
        return 0.0
    return max(-1.0, min(1.0, found)) if math.isfinite(found) else 0.0


def _parse_names(raw: bytes) -> tuple[str, ...]:
    return tuple(printable_line(each)[:NAME_LIMIT] for each in read_note_names(raw, SHOWN_LIMIT))


def _text(fields: Fields, name: bytes) -> str:
    """Return a field as one printable line, cut to TEXT_LIMIT; empty if it is missing."""
    text = fields.get(name, b"")[: 4 * TEXT_LIMIT].decode("utf-8", "replace")
    return printable_line(text[:TEXT_LIMIT]).strip()


def _short_text(fields: Fields, name: bytes) -> str:
    return truncate(_text(fields, name), SHOWN_LIMIT, len)


def _web_link(text: str) -> str:
    try:
        scheme = urlsplit(text).scheme
    except ValueError:
        return ""
    return text if scheme in {"http", "https"} and len(text) <= LINK_LIMIT else ""
