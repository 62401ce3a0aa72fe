"""Keep answers to questions, so that many who ask cost as much as one: in memory, and for others in Redis."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from marketswarm.bus import Bus, BusError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True)
class CacheCounts:
    """Count where answers came from."""

    memory: int = 0
    redis: int = 0
    source: int = 0


@dataclass(frozen=True)  # with slots, a frozen generic class can't be made as RedisShelf[K, V](…)
class RedisShelf(Generic[K, V]):
    """Values in Redis, each under a key of its own. While the bus fails there are none, and none is kept.

    `find_bus` returns None without a bus, `parse` for a text that is not a value of its question; `max_bytes`
    bounds what is read at once.
    """

    find_bus: Callable[[], Bus | None]
    name_key: Callable[[K], str]
    encode: Callable[[V], bytes]
    parse: Callable[[K, bytes], V | None]
    ttl_sec: int
    max_bytes: int | None = None

    async def read(self, keys: Sequence[K]) -> dict[K, V]:
        bus = self.find_bus()
        if bus is None:
            return {}
        try:
            reading = bus.client.mget([self.name_key(key) for key in keys])
            texts = await bus.ask(reading, max_bytes=self.max_bytes)
        except BusError:
            return {}
        pairs = zip(keys, texts, strict=True)
        found = {key: self.parse(key, text) for key, text in pairs if text is not None}
        return {key: value for key, value in found.items() if value is not None}

    async def write(self, values: Mapping[K, V]) -> None:
        bus = self.find_bus()
        if bus is None or not values:
            return
        pipe = bus.pipeline()
        for key, value in values.items():
            pipe.set(self.name_key(key), self.encode(value), ex=self.ttl_sec)
        try:
            await bus.ask(pipe.execute())
        except BusError:
            return


class _Kept(NamedTuple):
    """An answer in memory; `found` is empty if there is none to the question."""

    version: Hashable
    expires_at: float
    found: tuple[Any, ...]


class Cached(Generic[K, V]):
    """Answers by their questions: from memory, then from Redis if they have a `shelf` there, then made again.

    Those who ask a question while its answer is made share it, and a failure as well. An answer of another
    version than the one that is asked for is made again. That there is no answer is kept, too.

    Memory has at most `max_kept` answers, of at most `max_size` together by `measure`; the one that was asked
    for longest ago is dropped first. `is_current` returns whether an answer that was kept is still right.
    """

    def __init__(
        self,
        ttl_sec: float,
        max_kept: int = 1,
        *,
        shelf: RedisShelf[K, V] | None = None,
        is_current: Callable[[K, V], bool] = lambda _key, _value: True,
        measure: Callable[[V], int] = lambda _value: 0,
        max_size: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = CacheCounts()
        self._ttl_sec, self._max_kept, self._shelf, self._is_current = ttl_sec, max_kept, shelf, is_current
        self._measure, self._max_size, self._size, self._clock = measure, max_size, 0, clock
        self._kept: OrderedDict[K, _Kept] = OrderedDict()
        self._flights: dict[Hashable, asyncio.Task[dict[K, V]]] = {}

    async def find(self, key: K, make: Callable[[], Awaitable[V]], version: Hashable = None) -> V:
        """Return the answer to a question, made by `make` if none is kept. Raises what `make` raises."""

        async def make_it(_keys: Sequence[K]) -> Mapping[K, V]:
            return {key: await make()}

        return (await self.find_each((key,), make_it, version))[key]

    async def find_each(
        self,
        keys: Sequence[K],
        make: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]],
        version: Hashable = None,
    ) -> dict[K, V]:
        """Return the answers to questions; `make` returns those that are not kept. Raises what it raises."""
        kept = {key: one for key in keys if (one := self._find(key, version)) is not None}
        found = {key: one.found[0] for key, one in kept.items() if one.found}
        wanted = tuple(key for key in keys if key not in kept)
        if wanted:
            question, flights = (wanted, version), self._flights
            task = flights.get(question)
            if task is None:
                task = flights[question] = asyncio.create_task(self._load(wanted, make, version))
                task.add_done_callback(lambda _done: flights.pop(question, None))
                task.add_done_callback(_retrieve)
            found |= await asyncio.shield(task)  # one that gives up must not take it from the others
        return found

    def find_kept(self, key: K, version: Hashable = None) -> V | None:
        """Return the answer to a question if it is kept in memory."""
        known = self._find(key, version)
        return known.found[0] if known is not None and known.found else None

    def keep(self, key: K, value: V, version: Hashable = None, ttl_sec: float | None = None) -> None:
        expires_at = self._clock() + (self._ttl_sec if ttl_sec is None else ttl_sec)
        self._put(key, _Kept(version, expires_at, (value,)))

    def __len__(self) -> int:
        """Return how many answers are in memory; some may be too old."""
        return len(self._kept)

    @property
    def size(self) -> int:
        """How much the answers in memory take, as they are measured."""
        return self._size

    def clear(self) -> None:
        """Drop all that is in memory, also what is just being made; what is in Redis stays."""
        self._kept.clear()
        self._flights, self._size = {}, 0

    def _find(self, key: K, version: Hashable) -> _Kept | None:
        known = self._kept.get(key)
        if known is None or known.version != version or known.expires_at <= self._clock():
            return None
        if known.found and not self._is_current(key, known.found[0]):
            return None
        self.counts.memory += 1
        self._kept.move_to_end(key)
        return known

    def _put(self, key: K, kept: _Kept) -> None:
        before = self._kept.pop(key, None)
        self._kept[key] = kept
        self._size += self._measure_kept(kept) - (0 if before is None else self._measure_kept(before))
        while len(self._kept) > self._max_kept or self._size > self._max_size:
            self._size -= self._measure_kept(self._kept.popitem(last=False)[1])

    def _measure_kept(self, kept: _Kept) -> int:
        return sum(map(self._measure, kept.found))

    async def _load(
        self, keys: Sequence[K], make: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]], version: Hashable
    ) -> dict[K, V]:
        """Return answers from Redis, and have `make` make those that are not there; keep all of them."""
        flights = self._flights
        kept = {} if self._shelf is None else await self._shelf.read(keys)
        found = {key: value for key, value in kept.items() if self._is_current(key, value)}
        self.counts.redis += len(found)
        missing = [key for key in keys if key not in found]
        if missing:
            made = await make(missing)
            self.counts.source += len(made)
            found |= made
            if self._shelf is not None:
                await self._shelf.write(made)
        expires_at = self._clock() + self._ttl_sec
        for key in keys if flights is self._flights else ():  # otherwise it may be from before `clear`
            self._put(key, _Kept(version, expires_at, (found[key],) if key in found else ()))
        return found


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Take note of a failure, also if no caller waits for it any more."""
    if not task.cancelled():
        task.exception()
