"""Keep the votes of voters outside: in memory, and in Redis for the instance that leads next."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.stored_values import read_strings, report_unusable
from marketswarm.keys import signal_vote_key
from marketswarm.pages import split_pages
from services.signals.ask.answers import MAX_STORED_BYTES, CachedVote, encode_vote, parse_vote
from services.signals.ask.endpoints import CallSettings
from services.signals.ask.questions import VoteQuestion

MAX_VOTES: Final = 100_000
"""The most votes in memory; the oldest one goes first."""
KEYS_AT_ONCE: Final = 500
LOOK_AGAIN_SEC: Final = 60.0
"""For how long a vote that is not in Redis is not looked for again: the one that leads alone writes there."""


class VoteCache:
    """Find the votes that still answer a question, and store new ones."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._votes: dict[tuple[str, str], CachedVote] = {}
        self._look_at: dict[tuple[str, str], float] = {}
        self._monotonic = monotonic

    def find(self, question: VoteQuestion, settings: CallSettings) -> CachedVote | None:
        """Return the vote in memory that answers a question."""
        cached = self._votes.get(question.key)
        is_usable = cached and cached.is_usable(question, settings.identity, settings.stale_move)
        return cached if is_usable else None

    async def load(
        self, bus: Bus, questions: Sequence[VoteQuestion], settings: Mapping[str, CallSettings]
    ) -> dict[tuple[str, str], CachedVote]:
        """Return the votes in Redis that answer these questions, and keep them in memory. Raises BusError.

        A value that is no vote of its voter about its symbol is counted, logged now and then, and left out.
        """
        now, found = self._monotonic(), dict[tuple[str, str], CachedVote]()
        wanted = [each for each in questions if self._look_at.get(each.key, now) <= now]
        for page in split_pages(wanted, KEYS_AT_ONCE):
            keys = [signal_vote_key(each.voter, each.symbol) for each in page]
            stored = await read_strings(bus, keys, MAX_STORED_BYTES, report=True)
            for question, key, raw in zip(page, keys, stored, strict=True):
                cached = None if raw is None else parse_vote(raw, question.symbol, question.voter)
                if raw is not None and cached is None:
                    report_unusable(bus.name, key)
                asked = settings[question.voter]
                if cached is not None and cached.is_usable(question, asked.identity, asked.stale_move):
                    self.keep(question.key, cached)
                    found[question.key] = cached
                else:
                    self._look_at[question.key] = now + LOOK_AGAIN_SEC
        if len(self._look_at) > MAX_VOTES:
            self._look_at.clear()
        return found

    async def store(self, bus: Bus, question: VoteQuestion, cached: CachedVote) -> None:
        """Write a vote to Redis, in place of the one before, until it expires. Raises BusError."""
        key, life_ms = (
            signal_vote_key(question.voter, question.symbol),
            cached.vote.expires_ms - cached.asked_at_ms,
        )
        value = encode_vote(question.symbol, question.voter, cached)
        await bus.ask(bus.client.set(key, value, px=max(1, life_ms)))

    def keep(self, key: tuple[str, str], cached: CachedVote) -> None:
        """Keep a vote in memory; drop the oldest one if there are too many."""
        self._votes.pop(key, None)
        self._votes[key] = cached
        if len(self._votes) > MAX_VOTES:
            del self._votes[next(iter(self._votes))]
