"""What a digest says: the stories of a window, what moved, what was out of reach. Pure.

Notes in, the fields of one entry out. Not here: which notes are one story (`stories.py`), who sums them up
(`llm/`), when it is written (`digesting.py`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from marketswarm.channels.text import cut
from services.vexy_ai.notes import Note
from services.vexy_ai.observing import Loss, Move, Observed

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
