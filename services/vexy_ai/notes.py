"""Which tickers and topics a text names. Pure; the text is whatever someone wrote.

Words are compared whole and without regard to case, in any script; in those that write without spaces, a
name is looked for anywhere. No grammar and no model: what is not in the truth, nor marked by a `$`, is not
found.

How a text feels, from -1 to 1, by the VADER lexicon: made for short English texts, 0 for all others.

The library is loaded with the first text: a worker that never had any stays small.

What vexy_ai makes of an item: a note. Pure but for the lexicon; an item is whatever someone put there.
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

from marketswarm.channels.text import cut, plain

NAMED_AT_MOST: Final = 20
CASHTAG: Final = re.compile(r"(?<![\w$])\$([A-Z]{1,5}(?:[.-][A-Z]{1,2})?)(?!\w)")
EXCHANGE: Final = re.compile(r"\((?:[A-Za-z ]{2,12}:\s?)?([A-Z]{1,5}(?:[.-][A-Z]{1,2})?)\)")
"""`(AAPL)`, `(NASDAQ: AAPL)`."""
BARE_AT_LEAST: Final = 3
"""Letters of a ticker that is found without a mark: IT, ON and A are words."""
_WORD: Final = re.compile(r"[^\W_]+")
_UNSPACED: Final = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

Phrase = tuple[str, ...]


class Phrases:
    """Words and phrases, each of which stands for a name."""

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

    def named_in(self, text: str, words: Sequence[str]) -> Iterator[str]:
        """The names that `text` has a phrase of; `words` are its words.

        A phrase that begins with a capital is found only where one stands: Target, not target.
        """
        folded = [word.casefold() for word in words]
        for at, word in enumerate(folded):
            for phrase, capital, name in self._by_first.get(word, ()):
                if tuple(folded[at : at + len(phrase)]) == phrase and not (
                    capital and words[at][0].islower()
                ):
                    yield name
        if self._anywhere:
            whole = text.casefold()
            yield from (name for phrase, name in self._anywhere if phrase in whole)


class Lexicon:
    """What to look for: tickers with the names that stand for them, and words by topic."""

    def __init__(self, symbols: Mapping[str, Iterable[str]], topics: Mapping[str, Iterable[str]]) -> None:
        self._symbols = frozenset(symbols)
        self._bare = frozenset(each for each in symbols if len(each) >= BARE_AT_LEAST)
        self._companies = Phrases(symbols)
        # a topic's own name counts as one of its words
        self._topics = Phrases({topic: (topic, *words) for topic, words in topics.items()})

    def tickers(self, text: str) -> list[str]:
        """The tickers that a text names, in no more than 20: first those that are marked.

        A `$` marks one that need not be known; known ones count in brackets, by the names that stand for
        them, and bare from three letters on, unless the text has no small letters at all.
        """
        words = _WORD.findall(text)
        found = [*CASHTAG.findall(text)]
        found += (each for each in EXCHANGE.findall(text) if each in self._symbols)
        found += self._companies.named_in(text, words)
        if any(each.islower() for each in text):
            found += (word for word in words if word in self._bare)
        return list(dict.fromkeys(found))[:NAMED_AT_MOST]

    def topics(self, text: str) -> list[str]:
        """The topics that a text has a word of, in no more than 20."""
        return list(dict.fromkeys(self._topics.named_in(text, _WORD.findall(text))))[:NAMED_AT_MOST]


MOOD_LIMIT: Final = 300
"""Characters; its time grows with the square of the words, and a headline says it early."""


def sentiment(text: str) -> float:
    """The compound score of a text."""
    return float(_analyzer().polarity_scores(text[:MOOD_LIMIT])["compound"])


@cache
def _analyzer() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415 - see above

    return SentimentIntensityAnalyzer()


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
