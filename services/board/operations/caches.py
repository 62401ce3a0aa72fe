"""Say what is kept of answers, on the bus and in the board's memory, and drop it.

What is kept on the bus are the caches that the medic clears, too: `CACHES` has their patterns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.bus import Bus, BusError
from marketswarm.bus.matching_keys import MatchingKeys
from marketswarm.bus.stored_values import MAX_EPOCH_SEC, parse_decimal
from marketswarm.keys import SOURCES_REFRESHED
from marketswarm.operator.audit import Act, Action, AuditOutcome
from marketswarm.operator.remedies import CACHES, Remedy, find_sources_bus
from marketswarm.text import decode_text
from marketswarm.truth import Truth
from marketswarm.web.audit import AuditLog
from marketswarm.web.tokens import Client
from services.board.actions.steering import VerbBody
from services.board.market.charts import CHART_SEC
from services.board.market.feed import QUOTE_SEC
from services.board.market.market import Market
from services.board.operations.overview import count_hits

MAX_KEYS: Final = 20_000
MEASURED: Final = 2000  # of how many keys of a kind size and age are read
WITHIN_SEC: Final = 3.0
_LIVES_SEC: Final = {Remedy.QUOTES_CACHE: QUOTE_SEC, Remedy.CHARTS_CACHE: CHART_SEC}


class CacheClearBody(VerbBody):
    """Nothing: all caches are cleared."""


@dataclass(frozen=True, slots=True)
class StoredKind:
    """The keys of one pattern on the bus of the market.

    `bytes` and the ages are those of the first 2,000 keys; `is_whole` is False if there are more keys than
    `keys` counts. An age is in seconds, None without a key.
    """

    keys: int
    is_whole: bool
    bytes: int
    newest_age_sec: float | None
    oldest_age_sec: float | None


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What is kept of answers: on the bus by pattern, in the board's memory by kind, how often it served.

    `redis` is null while the bus of the market is away; `last_refresh_at` is when the last completed refresh
    of all series began, in epoch seconds.
    """

    redis: dict[str, StoredKind] | None
    away: str | None
    memory: dict[str, dict[str, int]]
    charts: dict[str, Any]
    last_refresh_at: float | None


@dataclass(frozen=True, slots=True)
class ClearedCaches:
    """How much was dropped: keys of the bus by pattern, and answers in the board's memory.

    `is_whole` is False if keys are left, of which there were too many.
    """

    redis: dict[str, int]
    memory: int
    is_whole: bool


class CacheBoard:
    """Reads and clears the caches of one board; `get_truth` returns the truth in force."""

    def __init__(self, market: Market, audit: AuditLog, get_truth: Callable[[], Truth]) -> None:
        self._market, self._audit, self._get_truth = market, audit, get_truth

    async def read(self) -> CacheStats:
        bus, away, found, refreshed = self._market.feed.find_bus(), None, None, None
        try:
            if bus is not None:
                found = {
                    pattern: await _measure_keys(bus, pattern, _LIVES_SEC[Remedy(remedy)])
                    for remedy, pattern in CACHES.items()
                }
                refreshed = await self._read_refreshed()
        except BusError as error:
            away = f"bus {error.bus} does not answer: {error.reason}"
        memory = {
            name: {
                "answers": len(each),
                "bytes": each.size,
                "hits": each.counts.memory,
                "made": each.counts.source,
            }
            for name, each in self._market.caches.items()
        }
        return CacheStats(found, away, memory, count_hits(self._market), refreshed)

    async def _read_refreshed(self) -> float | None:
        name = find_sources_bus(self._get_truth())
        bus = self._market.feed.find_bus()
        if name is None or bus is None or bus.name != name:
            return None
        raw = await bus.ask(bus.client.get(SOURCES_REFRESHED))
        return parse_decimal(decode_text(raw), 0.001, MAX_EPOCH_SEC)

    async def clear(self, client: Client, _body: CacheClearBody) -> ClearedCaches:
        """Delete the keys of all caches on the bus of the market, and drop what the board keeps in memory.

        Nothing else is deleted. Raises RefusedError if a bus is away; the memory is dropped all the same.
        """
        bus = self._market.feed.find_bus()
        act = Act(Action.CLEAR_CACHE, " ".join(CACHES.values()), client.token, client.address)
        deleted: dict[str, int] = {}
        is_whole = True
        dropped = sum(map(len, self._market.caches.values()))
        async with self._audit.around(act):
            for each in self._market.caches.values():
                each.clear()
            if bus is not None:
                for pattern in CACHES.values():
                    deleted[pattern], was_whole = await _delete_keys(bus, pattern)
                    is_whole = is_whole and was_whole
        words = ", ".join(f"{count} of {pattern}" for pattern, count in deleted.items())
        await self._audit.end(act, AuditOutcome.DONE, f"{words or 'no bus'}; {dropped} in memory")
        return ClearedCaches(deleted, dropped, is_whole)


async def _delete_keys(bus: Bus, pattern: str) -> tuple[int, bool]:
    """Delete the strings whose keys match; return how many, and whether none was left. Raises BusError."""
    pages, deleted = MatchingKeys(bus, pattern, most=MAX_KEYS, within_sec=WITHIN_SEC), 0
    async for keys in pages:
        deleted += int(await bus.ask(bus.client.unlink(*keys)))
    return deleted, pages.is_whole


async def _measure_keys(bus: Bus, pattern: str, life_sec: float) -> StoredKind:
    pages, found = MatchingKeys(bus, pattern, most=MAX_KEYS, within_sec=WITHIN_SEC), set[bytes]()
    async for keys in pages:
        found.update(keys)
    size, ages = await _measure(bus, sorted(found)[:MEASURED], life_sec)
    return StoredKind(len(found), pages.is_whole, size, min(ages, default=None), max(ages, default=None))


async def _measure(bus: Bus, keys: Sequence[bytes], life_sec: float) -> tuple[int, list[float]]:
    """Return the bytes of these values together, and the ages of those that expire."""
    if not keys:
        return 0, []
    pipe = bus.pipeline()
    for key in keys:
        pipe.strlen(key)
        pipe.pttl(key)
    answers = await bus.ask(pipe.execute())
    lives_ms = [each for each in answers[1::2] if each >= 0]
    return sum(answers[::2]), [round(max(0.0, life_sec - each / 1000), 3) for each in lives_ms]
