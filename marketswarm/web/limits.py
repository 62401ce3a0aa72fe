"""Limit how often something may happen, by key (token buckets), and refuse what can't be done now. Pure.

Times are monotonic seconds.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Final, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request

from marketswarm.bus import BusError

RETRY_SEC: Final = 5.0
"""In how many seconds a client may try again where a bus did not answer."""
MAX_KEYS: Final = 10_000  # beyond that, the key that was used longest ago is forgotten
T = TypeVar("T")


class RefusedError(HTTPException):
    """A request is refused: the HTTP `status`, the reason, and in how many seconds to try again, if ever.

    A route lets it pass; the application answers with JSON or with a page, by the path.
    """

    def __init__(self, status: int, reason: str, retry_sec: float | None = None) -> None:
        headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
        if retry_sec is not None:
            headers["Retry-After"] = str(ceil(retry_sec))
        super().__init__(status, reason, headers)
        self.status, self.reason, self.retry_sec = status, reason, retry_sec

    def __str__(self) -> str:
        return self.reason


def require_found(found: T | None, what: str) -> T:
    """Return what was found, such as a `service`. Raises RefusedError (404) for None."""
    if found is None:
        raise RefusedError(404, f"no such {what}")
    return found


@contextlib.contextmanager
def refuse_without_bus(role: str = "") -> Iterator[None]:
    """Raise RefusedError (503) if a bus does not answer in the block.

    `role` says for people what the bus is needed for, as in `keeps the tokens`.
    """
    try:
        yield
    except BusError as error:
        which = f", which {role}," if role else ""
        reason = f"bus {error.bus}{which} does not answer: {error.reason}"
        raise RefusedError(503, reason, RETRY_SEC) from None


class RateLimiter:
    """Allow each key `burst` times at once, and `per_sec` times a second after that.

    A use may count for several; one for more than `burst` waits until all of those are there.
    """

    def __init__(self, burst: int, per_sec: float, max_keys: int = MAX_KEYS) -> None:
        self._burst, self._per_sec, self._max_keys = burst, per_sec, max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and since when

    def take(self, key: str, now: float, count: int = 1) -> float:
        """Use `key` `count` times if that is allowed; return the seconds until it is, 0 if it was used."""
        left, count = self.find_left(key, now), min(count, self._burst)
        if left < count:
            return (count - left) / self._per_sec
        self._buckets[key] = left - count, now
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return 0.0

    def give_back(self, key: str, now: float) -> None:
        self._buckets[key] = min(float(self._burst), self.find_left(key, now) + 1), now

    def find_left(self, key: str, now: float) -> float:
        """Return how often `key` is allowed at `now`, with the fraction that has grown since its last use."""
        left, since = self._buckets.get(key, (float(self._burst), now))
        return min(float(self._burst), left + max(0.0, now - since) * self._per_sec)


@dataclass(frozen=True, slots=True)
class RequestQuota:
    """Hold what a client may still ask: how many requests a minute, how many now, and when all again."""

    limit: int
    remaining: int
    reset_sec: int
    wait_sec: float

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_sec),
            "RateLimit-Policy": f"{self.limit};w=60",
        }


class RequestLimiter:
    """Limits the requests of each client, at the rate that the truth names now; 0 a minute sets no limit.

    A client is a token, or an address without one: `find_spender` in `tokens`.
    """

    def __init__(self, per_min_now: Callable[[], int]) -> None:
        self._per_min_now, self._per_min = per_min_now, 0
        self._limiter = RateLimiter(1, 1.0)

    def take(self, client: str, now: float) -> RequestQuota | None:
        """Count a request at `now` (monotonic); return what is left, or None where nothing is limited."""
        per_min = self._per_min_now()
        if per_min == 0:
            return None
        if per_min != self._per_min:
            self._per_min, self._limiter = per_min, RateLimiter(per_min, per_min / 60)
        wait_sec = self._limiter.take(client, now)
        left = self._limiter.find_left(client, now)
        reset_sec = round((per_min - left) * 60 / per_min)
        return RequestQuota(per_min, int(left), reset_sec, wait_sec)


def find_quota_headers(request: Request) -> dict[str, str]:
    headers: dict[str, str] = getattr(request.state, "quota_headers", {})
    return headers
