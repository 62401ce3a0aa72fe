"""Make a digest: group the notes of a window into stories, and list what moved and what was unreachable.

Pure.

Titles are grouped by MinHash and locality-sensitive hashing over short pieces of text, so no language has an
advantage; texts that say the same in other words are not found. The seed is fixed, so the same titles in the
same order always give the same groups. What is written when is in `digest_writer.py`, the summaries in
`llm.py`.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from typing import Any, Final

import orjson

from marketswarm.channels.text import truncate
from marketswarm.text import utc_datetime
from services.vexy_ai.notes import Note
from services.vexy_ai.records import PriceMove, WindowContent

SHINGLE_LENGTH: Final = 4  # characters
PERMUTATIONS: Final = 128
BANDS: Final = 32
"""Of titles with a similarity of 0.6, 99 in 100 are compared, of those with 0.3 only 23."""
SEED: Final = 42
MAX_COMPARED: Final = 64
"""Titles that one title is compared with, oldest first; thousands would take minutes."""
MAX_NAMES: Final = 10
MAX_MOVES: Final = 100
MAX_OUTAGES: Final = 50
LINE_LIMIT: Final = 700
SHOWN_MOVES: Final = 10


def group_similar(titles: Sequence[str], similar: float) -> list[list[int]]:
    """Return groups of positions of titles whose Jaccard similarity is at least `similar` (0 to 1).

    Positions are in ascending order. A title belongs to a group if it is similar to any other title in it. An
    empty title is alone in its group.
    """
    from rensa import RMinHash, RMinHashLSH  # noqa: PLC0415 - saves memory in workers that write no digest

    roots = list(range(len(titles)))
    by_text: dict[str, int] = {}
    for at, title in enumerate(titles):
        text = normalize(title)
        if text:
            roots[at] = by_text.setdefault(text, at)
    texts, firsts = list(by_text), list(by_text.values())
    sketches = RMinHash.from_token_sets([sorted(shingles(text)) for text in texts], PERMUTATIONS, SEED)
    index = RMinHashLSH(similar, PERMUTATIONS, BANDS)
    for n, sketch in enumerate(sketches):
        for candidate in sorted(index.query(sketch))[:MAX_COMPARED]:
            mine, other = _find_root(roots, firsts[n]), _find_root(roots, firsts[candidate])
            if mine != other and similarity(texts[n], texts[candidate]) >= similar:
                roots[max(mine, other)] = min(mine, other)
        index.insert(n, sketch)
    groups: dict[int, list[int]] = {}
    for at in range(len(titles)):
        groups.setdefault(_find_root(roots, at), []).append(at)
    return list(groups.values())


def normalize(title: str) -> str:
    """Return the form that is compared: NFKC, case-folded, only letters, digits and single spaces."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join("".join(each if each.isalnum() else " " for each in folded).split())


@lru_cache(maxsize=1024)
def shingles(text: str) -> frozenset[str]:
    """Return all parts of a text that are SHINGLE_LENGTH long: similar texts share many of them."""
    return frozenset(text[at : at + SHINGLE_LENGTH] for at in range(max(1, len(text) - SHINGLE_LENGTH + 1)))


def similarity(one: str, other: str) -> float:
    mine, others = shingles(one), shingles(other)
    return len(mine & others) / len(mine | others)


def _find_root(roots: list[int], at: int) -> int:
    """Return the root of position `at` in the union-find forest `roots`, and shorten its path."""
    while roots[at] != at:
        roots[at] = roots[roots[at]]
        at = roots[at]
    return at


@dataclass(frozen=True, slots=True)
class Story:
    """Hold what the notes about one event have in common.

    `titles` are the different titles, oldest first; `items` counts the notes; `feeds`, `tickers` and `topics`
    are the most frequent ones; `sentiment` is the average, from -1 to 1.
    """

    id: str
    titles: tuple[str, ...]
    link: str
    items: int
    feeds: tuple[str, ...]
    tickers: tuple[str, ...]
    topics: tuple[str, ...]
    sentiment: float
    summary: str | None = None

    @property
    def title(self) -> str:
        return self.titles[0]

    def to_json(self) -> dict[str, Any]:
        """Return the fields in their order, with the first title alone, and no empty summary."""
        found = {"id": self.id, "title": self.title, **asdict(self), "sentiment": round(self.sentiment, 3)}
        del found["titles"]
        if not self.summary:
            del found["summary"]
        return found

    def line(self) -> str:
        details = [f"{self.items} items from {', '.join(self.feeds)}"] if self.items > 1 else [*self.feeds]
        details += [", ".join(self.tickers)] if self.tickers else []
        details += [f"sentiment {self.sentiment:+.1f}"] if abs(self.sentiment) >= 0.05 else []
        about = f" ({'; '.join(filter(None, details))})" if any(details) else ""
        return truncate(f"- {self.title or 'without a title'}{about}", LINE_LIMIT, len)


@dataclass(frozen=True, slots=True)
class SummaryResult:
    """Count the summaries that were made for a digest; `why` is the reason if some are missing."""

    made: int = 0
    why: str | None = None


def make_story(notes: Sequence[Note]) -> Story:
    """The notes are in order, oldest first."""
    return Story(
        id=notes[0].id,
        titles=tuple(dict.fromkeys(note.title for note in notes)),
        link=next((note.link for note in notes if note.link), ""),
        items=len(notes),
        feeds=_most_common(note.feed for note in notes if note.feed),
        tickers=_most_common(each for note in notes for each in note.tickers),
        topics=_most_common(each for note in notes for each in note.topics),
        sentiment=sum(note.sentiment for note in notes) / len(notes),
    )


def rank_stories(stories: Iterable[Story], most: int) -> list[Story]:
    """Return the `most` stories with the most items; equals keep their order."""
    return sorted(stories, key=lambda story: -story.items)[:most]


def add_summaries(stories: Sequence[Story], summaries: Sequence[str | None]) -> list[Story]:
    return [replace(story, summary=summary) for story, summary in zip_longest(stories, summaries)]


@dataclass(frozen=True, slots=True)
class Digest:
    """The digest of a window (`begins-ends`, in epoch seconds), which it formats as a stream entry."""

    window: str
    content: WindowContent
    notes: Sequence[Note]
    stories: Sequence[Story]
    count: int
    summary_result: SummaryResult | None = None

    def fields(self, wall: float) -> dict[str, str]:
        """Return the fields of the digest's stream entry; `wall` is now, in epoch seconds."""
        begins, ends = self.window.split("-")
        mentions = Counter(each for note in self.notes for each in note.tickers)
        topics = Counter(each for note in self.notes for each in note.topics)
        values: dict[str, Any] = {
            "items": self.content.notes,
            "read": len(self.notes),
            "count": self.count,
            "stories": [story.to_json() for story in self.stories],
            "tickers": dict(mentions.most_common(MAX_MOVES)),
            "topics": dict(topics.most_common(MAX_MOVES)),
            "moves": [_encode_move(move) for move in self._moves()],
            "unreachable": [asdict(outage) for outage in self.content.outages[:MAX_OUTAGES]],
        }
        result = self.summary_result or SummaryResult()
        return {
            "kind": "digest",
            "id": f"digest:{self.window}",
            "window": self.window,
            "from": begins,
            "to": ends,
            "ts": f"{wall:.3f}",
            **{name: orjson.dumps(value).decode() for name, value in values.items()},
            **({"plain": result.why} if result.why else {}),
            "summaries": str(result.made),
            "text": "\n".join(self.lines()),
        }

    def lines(self) -> Iterator[str]:
        times = (f"{utc_datetime(int(each)):%Y-%m-%d %H:%M:%S}" for each in self.window.split("-"))
        items, hours = self.content.notes, " to ".join(times)
        yield f"{hours} UTC: {_count_noun(items, 'item')} in {_count_noun(self.count, 'story')}"
        if len(self.notes) < items:
            yield f"{items - len(self.notes):,} of them are not in here: they were trimmed off, or too many"
        for story in self.stories:
            yield story.line()
            if story.summary:
                yield f"  {story.summary}"
        if self.count > len(self.stories):
            yield f"and {_count_noun(self.count - len(self.stories), 'story')} more"
        moves = self._moves()[:SHOWN_MOVES]
        if moves:
            yield "Moved: " + ", ".join(f"{move.symbol} {move.change:+.2f} %" for move in moves)
        for outage in self.content.outages[:MAX_OUTAGES]:
            shown = f"{outage.target} ({outage.failed} of {outage.probes} probes: {outage.why})"
            yield truncate(f"Out of reach: {shown}", LINE_LIMIT, len)
        if self.summary_result is not None and self.summary_result.why:
            yield f"Without all summaries: {self.summary_result.why}"

    def _moves(self) -> list[PriceMove]:
        moves = sorted(self.content.moves, key=lambda move: (-abs(move.change), move.symbol))
        return moves[:MAX_MOVES]


def _encode_move(move: PriceMove) -> dict[str, Any]:
    times = {"since": round(move.since, 3), "until": round(move.until, 3)}
    return asdict(move) | {"change_pct": round(move.change, 3)} | times


def _most_common(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name, _ in Counter(names).most_common(MAX_NAMES))


def _count_noun(count: int, what: str) -> str:
    """Return `1 story` or `2 stories`."""
    if count == 1:
        return f"1 {what}"
    return f"{count:,} {what.removesuffix('y')}{'ies' if what[-1] == 'y' else 's'}"
