"""Which titles tell of the same: near-duplicates joined by MinHash and locality-sensitive hashing.

The same titles in the same order always give the same groups: the seed is fixed. Pieces of text are compared,
not words, so no language has an advantage; what says the same in other words is not found, and is not meant
to be. The library is imported with this module, which an idle worker does not do.

What a digest says: the stories of a window, what moved, what was out of reach. Pure.

Notes in, the fields of one entry out. Not here: which notes are one story (`stories.py`), who sums them up
(`llm/`), when it is written (`digesting.py`).
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from marketswarm.channels.text import cut
from services.vexy_ai.notes import Note
from services.vexy_ai.records import Loss, Move, Observed

PIECE: Final = 4  # characters
PERMUTATIONS: Final = 128
BANDS: Final = 32
"""With four rows a band: what is alike to 0.6 is a candidate in 99 cases of 100, to 0.3 in 23."""
SEED: Final = 42
COMPARED_AT_MOST: Final = 64
"""Candidates that a title is compared with, the oldest first: thousands in one mould take no minutes."""


def joined(titles: Sequence[str], similar: float) -> list[list[int]]:
    """Groups of the positions of titles that are alike to `similar` (Jaccard, 0 to 1), each in order.

    A group holds whoever is alike to any other in it. An empty title is like no other.
    """
    from rensa import RMinHash, RMinHashLSH  # noqa: PLC0415 - loaded with the first digest: idle workers stay small

    roots = list(range(len(titles)))
    by_text: dict[str, int] = {}
    for at, title in enumerate(titles):
        text = normal(title)
        if text:
            roots[at] = by_text.setdefault(text, at)
    firsts = sorted(by_text.values())
    texts = [normal(titles[at]) for at in firsts]
    sketches = RMinHash.from_token_sets([sorted(pieces(text)) for text in texts], PERMUTATIONS, SEED)
    index = RMinHashLSH(similar, PERMUTATIONS, BANDS)
    for n, sketch in enumerate(sketches):
        for candidate in sorted(index.query(sketch))[:COMPARED_AT_MOST]:
            mine, other = _root(roots, firsts[n]), _root(roots, firsts[candidate])
            if mine != other and alike(texts[n], texts[candidate]) >= similar:
                roots[max(mine, other)] = min(mine, other)
        index.insert(n, sketch)
    groups: dict[int, list[int]] = {}
    for at in range(len(titles)):
        groups.setdefault(_root(roots, at), []).append(at)
    return list(groups.values())


def normal(title: str) -> str:
    """What is compared: letters and digits in one case and form, single spaces between."""
    folded = unicodedata.normalize("NFKC", title).casefold()
    return " ".join("".join(each if each.isalnum() else " " for each in folded).split())


@lru_cache(maxsize=1024)
def pieces(text: str) -> frozenset[str]:
    """Every run of so many characters; a shorter text is its own."""
    return frozenset(text[at : at + PIECE] for at in range(max(1, len(text) - PIECE + 1)))


def alike(one: str, other: str) -> float:
    """The share of pieces that both have, of those that either has."""
    mine, others = pieces(one), pieces(other)
    return len(mine & others) / len(mine | others)


def _root(roots: list[int], at: int) -> int:
    while roots[at] != at:
        roots[at] = roots[roots[at]]
        at = roots[at]
    return at


NAMES_AT_MOST: Final = 10
MOVES_AT_MOST: Final = 100
LOSSES_AT_MOST: Final = 50
LINE_LIMIT: Final = 700
SHOWN_MOVES: Final = 10


@dataclass(frozen=True, slots=True)
class Story:
    """Some notes that tell of the same. `titles` are the different ones, oldest first; `items` counts all."""

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
        """That of the oldest."""
        return self.titles[0]

    def told(self) -> dict[str, Any]:
        """As the digest holds it."""
        found = {
            "id": self.id,
            "title": self.title,
            "link": self.link,
            "items": self.items,
            "feeds": self.feeds,
            "tickers": self.tickers,
            "topics": self.topics,
            "sentiment": round(self.sentiment, 3),
        }
        return found | ({"summary": self.summary} if self.summary else {})

    def line(self) -> str:
        """For people: what, how often, about whom, how it feels."""
        said = [f"{self.items} items from {', '.join(self.feeds)}"] if self.items > 1 else [*self.feeds]
        said += [", ".join(self.tickers)] if self.tickers else []
        said += [f"sentiment {self.sentiment:+.1f}"] if abs(self.sentiment) >= 0.05 else []
        about = f" ({'; '.join(filter(None, said))})" if any(said) else ""
        return cut(f"- {self.title or 'without a title'}{about}", LINE_LIMIT, len)


@dataclass(frozen=True, slots=True)
class Plain:
    """Why a digest has fewer summaries than it was to have; `made` is how many it has."""

    made: int = 0
    why: str | None = None


def story_of(notes: Sequence[Note]) -> Story:
    """The story that some notes tell, oldest first."""
    return Story(
        id=notes[0].id,
        titles=tuple(dict.fromkeys(note.title for note in notes)),
        link=next((note.link for note in notes if note.link), ""),
        items=len(notes),
        feeds=_most(note.feed for note in notes if note.feed),
        tickers=_most(each for note in notes for each in note.tickers),
        topics=_most(each for note in notes for each in note.topics),
        sentiment=sum(note.sentiment for note in notes) / len(notes),
    )


def ranked(stories: Iterable[Story], most: int) -> list[Story]:
    """The stories with the most items, at most so many; of equals, the older first."""
    return sorted(stories, key=lambda story: -story.items)[:most]


def summed_up(stories: Sequence[Story], summaries: Sequence[str | None]) -> list[Story]:
    """The same with their summaries, in order; there may be fewer of these."""
    given = [*summaries, *[None] * len(stories)]
    return [replace(story, summary=summary) for story, summary in zip(stories, given, strict=False)]


@dataclass(frozen=True, slots=True)
class Digest:
    """What is told of a window.

    `window` is `begins-ends` in epoch seconds, `notes` are those that were read back, `stories` the ones to
    show of `count`. `plain` is what came of asking for summaries, None where nobody is to be asked.
    """

    window: str
    observed: Observed
    notes: Sequence[Note]
    stories: Sequence[Story]
    count: int
    plain: Plain | None = None

    def fields(self, wall: float) -> dict[str, str]:
        """The fields of the entry; `wall` is now, in epoch seconds."""
        begins, ends = self.window.split("-")
        mentions = Counter(each for note in self.notes for each in note.tickers)
        topics = Counter(each for note in self.notes for each in note.topics)
        told: dict[str, Any] = {
            "items": self.observed.notes,
            "read": len(self.notes),
            "count": self.count,
            "stories": [story.told() for story in self.stories],
            "tickers": dict(mentions.most_common(MOVES_AT_MOST)),
            "topics": dict(topics.most_common(MOVES_AT_MOST)),
            "moves": [_moved(move) for move in self._moves()],
            "unreachable": [_lost(loss) for loss in self.observed.losses[:LOSSES_AT_MOST]],
        }
        head = {"kind": "digest", "id": f"digest:{self.window}", "window": self.window}
        tail = {"summaries": str(self.plain.made if self.plain else 0), "text": "\n".join(self.lines())}
        return {
            **head,
            "from": begins,
            "to": ends,
            "ts": f"{wall:.3f}",
            **{name: orjson.dumps(value).decode() for name, value in told.items()},
            **({"plain": self.plain.why} if self.plain is not None and self.plain.why else {}),
            **tail,
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        items, hours = self.observed.notes, " to ".join(map(_clock, self.window.split("-")))
        yield f"{hours} UTC: {_many(items, 'item')} in {_many(self.count, 'story')}"
        if len(self.notes) < items:
            yield f"{items - len(self.notes):,} of them are not in here: they were trimmed off, or too many"
        for story in self.stories:
            yield story.line()
            if story.summary:
                yield f"  {story.summary}"
        if self.count > len(self.stories):
            yield f"and {_many(self.count - len(self.stories), 'story')} more"
        moves = self._moves()[:SHOWN_MOVES]
        if moves:
            yield "Moved: " + ", ".join(f"{move.symbol} {move.change:+.2f} %" for move in moves)
        for loss in self.observed.losses[:LOSSES_AT_MOST]:
            said = f"{loss.target} ({loss.failed} of {loss.probes} probes: {loss.why})"
            yield cut(f"Out of reach: {said}", LINE_LIMIT, len)
        if self.plain is not None and self.plain.why:
            yield f"Without all summaries: {self.plain.why}"

    def _moves(self) -> list[Move]:
        """The strongest first."""
        moves = sorted(self.observed.moves, key=lambda move: (-abs(move.change), move.symbol))
        return moves[:MOVES_AT_MOST]


def _moved(move: Move) -> dict[str, Any]:
    return {
        "symbol": move.symbol,
        "change_pct": round(move.change, 3),
        "open": move.open,
        "close": move.close,
        "high": move.high,
        "low": move.low,
        "bars": move.bars,
        "since": round(move.since, 3),
        "until": round(move.until, 3),
    }


def _lost(loss: Loss) -> dict[str, Any]:
    return {"target": loss.target, "failed": loss.failed, "probes": loss.probes, "why": loss.why}


def _most(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name, _ in Counter(names).most_common(NAMES_AT_MOST))


def _many(count: int, what: str) -> str:
    return (
        f"1 {what}"
        if count == 1
        else f"{count:,} {what.removesuffix('y')}{'ies' if what[-1] == 'y' else 's'}"
    )


def _clock(epoch_sec: str) -> str:
    return datetime.fromtimestamp(int(epoch_sec), UTC).strftime("%Y-%m-%d %H:%M:%S")
