"""Which tickers and topics a text names. Pure; the text is whatever someone wrote.

Words are compared whole and without regard to case, in any script; in those that write without spaces, a
name is looked for anywhere. No grammar and no model: what is not in the truth, nor marked by a `$`, is not
found.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

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
