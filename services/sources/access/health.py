"""Read how sources are: whether they answer, what their breakers say, and what is left of their limits."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from marketswarm.bus import Bus
from marketswarm.bus.circuit_breaker import BreakerState, CircuitBreaker
from marketswarm.bus.rate_limiter import SharedRateLimiter
from marketswarm.bus.stored_values import parse_object, read_fields
from marketswarm.keys import MARKET_SOURCES, source_account_key, source_breaker_key
from services.sources.catalog.request import ApiKey, read_key
from services.sources.catalog.source import MarketSource

MAX_STATE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """Say how a source is.

    Attributes:
        is_up: whether it answered last; None if it never did, and never failed often enough to be missed.
        left: how many requests it still takes with all our keys, by the seconds of the window.
    """

    is_up: bool | None
    breaker: BreakerState
    left: Mapping[int, int] = field(default_factory=dict)


async def read_health(
    bus: Bus,
    names: Iterable[str],
    catalog: Mapping[str, MarketSource],
    keys: Mapping[str, Sequence[ApiKey]],
) -> dict[str, SourceHealth]:
    """Return how each of these sources is. Raise BusError."""
    wanted = sorted(set(names))
    (stored,) = await read_fields(bus, [MARKET_SOURCES], wanted, MAX_STATE_BYTES) if wanted else ({},)
    found = {}
    for name in wanted:
        breaker = await CircuitBreaker(bus, source_breaker_key(name)).read()
        left = await _count_left(bus, catalog[name], keys.get(name, ())) if name in catalog else {}
        word = parse_object(stored.get(name.encode())).get("state")
        is_up = {"up": True, "down": False}.get(word) if isinstance(word, str) else None
        found[name] = SourceHealth(is_up, breaker.state, left)
    return found


async def _count_left(bus: Bus, source: MarketSource, keys: Sequence[ApiKey]) -> Mapping[int, int]:
    left: Counter[int] = Counter()
    limiter = SharedRateLimiter(bus, source_account_key(source.name))
    for key in keys or (None,):
        windows = source.find_limits(has_key=key is not None).windows()
        for (sec, _), count in zip(windows, await limiter.count_left(read_key(key), windows), strict=True):
            left[sec] += count
    return left
