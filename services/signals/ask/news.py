"""Vote on a symbol by the sentiment of its news, and keep the newest notes about each symbol for that.

Notes are foreign text: anyone can write a feed, and any client of the bus a note. So each feed counts as one,
however much it writes, and a note moves the vote of this voter alone.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from marketswarm.bus import Bus
from marketswarm.bus.follower import StreamFollower
from marketswarm.bus.stored_values import report_unusable
from marketswarm.bus.stream import StreamEntry, find_entry_time
from marketswarm.channels.text import printable_line
from services.market.notes import read_note_names, read_sentiment
from services.signals.ask.questions import MAX_HEADLINE, VoteQuestion
from services.signals.consensus.consensus import Abstention
from services.signals.voters.votes import NoVote, Vote, make_vote

NOTES_KEPT: Final = 50
"""The most notes that are kept of a symbol, the newest ones."""
SYMBOLS_KEPT: Final = 10_000
MAX_TICKERS: Final = 20
"""The tickers of a note that are read: vexy_ai writes no more."""
PAGE: Final = 500
PAGES_AT_ONCE: Final = 20
FEED_CHARS: Final = 100


class SymbolNote(NamedTuple):
    """Hold what a note says of the symbols that it names; `at_ms` is when the bus took it."""

    at_ms: int
    sentiment: float
    title: str
    feed: str


class NewsMemory:
    """Keep the newest notes of each symbol, as they come.

    If there are too many symbols, the one that was named longest ago goes.
    """

    def __init__(self) -> None:
        self._notes: dict[str, deque[SymbolNote]] = {}

    def add(self, symbol: str, note: SymbolNote) -> None:
        """Add a note; drop the oldest one of the symbol, and the oldest symbol, if there are too many."""
        notes = self._notes.pop(symbol, None) or deque(maxlen=NOTES_KEPT)
        notes.append(note)
        self._notes[symbol] = notes
        if len(self._notes) > SYMBOLS_KEPT:
            del self._notes[next(iter(self._notes))]

    def find(self, symbol: str, as_of_ms: int, window_sec: float) -> list[SymbolNote]:
        """Return the notes about a symbol that were there at an instant and are not too old, oldest first."""
        since_ms = as_of_ms - 1000 * window_sec
        return [each for each in self._notes.get(symbol, ()) if since_ms < each.at_ms <= as_of_ms]


def parse_symbol_note(entry: StreamEntry) -> tuple[SymbolNote, tuple[str, ...]] | None:
    """Return the note in an entry and the symbols that it names; None if it is a digest, or can't be read."""
    fields = entry.fields or {}
    sentiment = read_sentiment(fields.get(b"sentiment", b""))
    if fields.get(b"kind") != b"note" or sentiment is None:
        return None
    title, feed = (
        " ".join(printable_line(fields.get(name, b"")[: 4 * most].decode("utf-8", "replace")[:most]).split())
        for name, most in ((b"title", MAX_HEADLINE), (b"feed", FEED_CHARS))
    )
    names = read_note_names(fields.get(b"tickers", b""), MAX_TICKERS)
    return SymbolNote(round(1000 * find_entry_time(entry.id)), sentiment, title, feed), names


def vote_by_news(question: VoteQuestion, notes: Sequence[SymbolNote], half_sec: float) -> Vote | Abstention:
    """Vote by the mean sentiment of a symbol's notes, each weighed by its age; NO_VOTE without any.

    The same title counts once. Each feed counts as its newest note does, so one that repeats itself in
    many words weighs no more than another. The voter is the surer the more feeds say something.
    """
    half_ms, feeds = 1000 * half_sec, dict[str, list[tuple[float, float]]]()
    for note in {each.title.casefold(): each for each in notes}.values():
        weight = half_ms / (half_ms + question.as_of_ms - note.at_ms)
        feeds.setdefault(note.feed, []).append((weight, note.sentiment))
    if not feeds:
        return Abstention.NO_VOTE
    weights = {feed: max(weight for weight, _ in pairs) for feed, pairs in feeds.items()}
    total = math.fsum(weights.values())
    leans = (weights[feed] * _find_lean(pairs) for feed, pairs in feeds.items())
    lean = math.fsum(leans) / total
    why = f"{len(feeds)} {'feed' if len(feeds) == 1 else 'feeds'} with a mean sentiment of {lean:+.2f}"
    vote = make_vote(lean, total / (1.0 + total), question.as_of_ms + round(half_ms), why)
    return Abstention.NOT_A_NUMBER if isinstance(vote, NoVote) else vote


def _find_lean(pairs: Sequence[tuple[float, float]]) -> float:
    return math.fsum(weight * each for weight, each in pairs) / math.fsum(weight for weight, _ in pairs)


class NewsFollower:
    """Read new notes of a stream into a memory. The bus may raise BusError; then nothing is skipped.

    `since_ms` is from when on notes are read, in epoch milliseconds by the clock of the bus.
    """

    def __init__(self, bus: Bus, key: str, memory: NewsMemory, since_ms: int) -> None:
        self._follower = StreamFollower(bus, key, f"{max(0, since_ms)}-0".encode())
        self._bus, self._key, self._memory = bus, key, memory

    async def read_new(self) -> int:
        """Read what is new, PAGES_AT_ONCE pages at most, without waiting; return how many notes it was.

        A note that can't be read is counted, logged now and then, and left out.
        """
        count = 0
        for _ in range(PAGES_AT_ONCE):
            entries, _loss = await self._follower.read(PAGE)
            count += sum(1 for _ in self._take(entries))
            if len(entries) < PAGE:
                break
        return count

    def _take(self, entries: Sequence[StreamEntry]) -> Iterator[SymbolNote]:
        for entry in entries:
            found = parse_symbol_note(entry)
            if found is None:
                if (entry.fields or {}).get(b"kind") != b"digest":
                    report_unusable(self._bus.name, self._key, entry.id.decode("ascii", "replace"))
                continue
            note, symbols = found
            for symbol in symbols:
                self._memory.add(symbol, note)
            yield note


def list_headlines(notes: Sequence[SymbolNote], count: int) -> list[str]:
    """Return the newest different titles of notes, the newest last."""
    titles = dict.fromkeys(each.title for each in reversed(notes) if each.title)
    return list(titles)[:count][::-1]
