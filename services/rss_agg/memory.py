"""What is remembered on the bus: each feed's state, which of its items were published, and who it is.

All keys begin with the stream's, so another stream begins anew, and all have an end: `remember_days` after a
feed was last asked for. What is published and what is remembered of it are one step (`publish.lua`). Whoever
reads the stream needs none of this.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from redis.asyncio.client import Pipeline

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.bus.stored_values import read_fields, read_strings, report_unusable
from services.rss_agg.answers import URL_LENGTH, VALIDATOR_LENGTH
from services.rss_agg.items import Item
from services.rss_agg.section import DAY_SEC, Feed, Wishes
from services.rss_agg.standing import FIELDS, Standing, by_both, by_name, by_url, scopes, standing_of

BATCH: Final = 100  # items in one step: a few hundred kilobytes
LOOKED_UP: Final = 200
LONGEST_SCOPE: Final = 64
LONGEST_FIELD: Final = 4 * max(URL_LENGTH, VALIDATOR_LENGTH)
"""In bytes, of characters in UTF-8."""
ABSENT_SEC: Final = 30 * DAY_SEC
ABSENT: Final = 2000
PUBLISH: Final = Script.beside("services.rss_agg", "publish.lua")


@dataclass(frozen=True, slots=True)
class Published:
    """What came of it: the ids of new items and of edited ones. `first`: the feed was never read before."""

    new: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    first: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """A feed with its scope and `at`, the mark of where it is now."""

    feed: Feed
    scope: str
    at: str


class Memory:
    """The memory for one stream on one bus. Every method may raise BusError."""

    def __init__(self, bus: Bus, stream: str) -> None:
        self.bus, self.stream = bus, stream

    async def scopes(self, feeds: Sequence[Feed]) -> dict[str, str]:
        """The scope of each feed, by its URL in the truth."""
        claims = [claim for feed in feeds for claim in _claims(feed)]
        known: dict[str, str] = {}
        for start in range(0, len(claims), LOOKED_UP):
            some = claims[start : start + LOOKED_UP]
            keys = [self._alias(claim) for claim in some]
            found = await read_strings(self.bus, keys, LONGEST_SCOPE, report=True)
            known |= {
                claim: value.decode("ascii", "replace")
                for claim, value in zip(some, found, strict=True)
                if isinstance(value, bytes)
            }
        return scopes(feeds, known)

    async def standings(self, feeds: Sequence[Known]) -> list[Standing]:
        """How each of them stands."""
        found: list[Standing] = []
        for start in range(0, len(feeds), LOOKED_UP):
            some = feeds[start : start + LOOKED_UP]
            answers = await read_fields(self.bus, [self._state(one) for one in some], FIELDS, LONGEST_FIELD)
            found += [standing_of(raw, one.at, time.time()) for one, raw in zip(some, answers, strict=True)]
        return found

    async def publish(
        self, one: Known, standing: Standing, items: Sequence[Item], wishes: Wishes
    ) -> Published:
        """Put on the stream what is new of `items`, all that the feed shows; from then on it stands so."""
        now = f"{time.time():.3f}"
        keep_ms = round(1000 * wishes.remember_days * DAY_SEC)
        batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)] or [items]
        first, told = False, list[tuple[str, int]]()
        for batch in batches:
            last = batch is batches[-1]
            state = orjson.dumps(standing.words(one.at)) if last else b""
            args: list[str | bytes | float] = [now, standing.turn, keep_ms, ABSENT_SEC, ABSENT]
            args += [wishes.stream_length, state, len(batch)]
            for item in batch:
                args += [item.id, item.digest, _flat(item.fields)]
            if last:
                args += [item.id for item in items]
            keys = [self.stream, self._seen(one), self._state(one)]
            was_first, _overtaken, unusable, *words = await self.bus.script(PUBLISH, keys, args)
            first = bool(was_first)
            for _ in range(unusable):
                report_unusable(self.bus.name, self._seen(one))
            told += [
                (ident.decode(), int(version)) for ident, version in zip(words[::2], words[1::2], strict=True)
            ]
        pipe = self.bus.pipeline()
        self._keep(pipe, one, keep_ms, standing.moved)
        await self.bus.ask(pipe.execute())
        new = tuple(ident for ident, version in told if version == 1)
        return Published(new, tuple(ident for ident, version in told if version > 1), first)

    async def note(self, one: Known, standing: Standing, wishes: Wishes) -> None:
        """It stands so, and there was nothing to publish."""
        words = standing.words(one.at)
        state: Mapping[Any, Any] = dict(zip(words[::2], words[1::2], strict=True))
        pipe = self.bus.pipeline(transaction=True)
        keep_ms = round(1000 * wishes.remember_days * DAY_SEC)
        pipe.hset(self._state(one), mapping=dict(state))
        pipe.pexpire(self._state(one), keep_ms)
        pipe.pexpire(self._seen(one), keep_ms)
        self._keep(pipe, one, keep_ms, standing.moved)
        await self.bus.ask(pipe.execute())

    async def usable(self) -> None:
        """Write something: a bus that is full or a replica answers, and is of no use all the same."""
        await self.bus.ask(self.bus.client.set(f"{self.stream}:usable", b"", px=1000))

    def _keep(self, pipe: Pipeline, one: Known, keep_ms: int, moved: str) -> None:
        for claim in _claims(one.feed):
            pipe.set(self._alias(claim), one.scope, px=keep_ms)
        if moved:  # who writes the new address into the truth has the same feed; unless that is another's
            pipe.set(self._alias(by_url(moved)), one.scope, px=keep_ms, nx=True)

    def _seen(self, one: Known) -> str:
        return f"{self.stream}:seen:{one.scope}"

    def _state(self, one: Known) -> str:
        return f"{self.stream}:feed:{one.scope}"

    def _alias(self, claim: str) -> str:
        return f"{self.stream}:scope:{claim}"


def _claims(feed: Feed) -> tuple[str, ...]:
    return by_both(feed), by_url(feed.url), by_name(feed.name)


def _flat(fields: Mapping[str, str]) -> bytes:
    return orjson.dumps([text for pair in fields.items() for text in pair])
