"""Add the service that a ping names with `?create=1`, if the truth lets the board change it.

Only a key for every service may do that. The service's name is the slug, so it must be a name that the truth
may have. A wrong guess at a name makes a service, so a key adds few of them in a time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from marketswarm.access.users import BOOTSTRAP, DEFAULT, OPERATOR
from marketswarm.truth.model import SERVICE_NAME
from services.board.access.limits import RateLimiter, RefusedError
from services.board.pings.answers import NOT_FOUND, NOT_READY, PingAnswer, RefusedPingError, make_rate_limited
from services.board.pings.directory import NOT_PINGED

CREATED_AT_ONCE: Final = 20  # how many services a key may add at once
CREATED_PER_SEC: Final = 1 / 60
TURN_SEC: Final = 20.0  # how long a ping waits for its turn: CREATED_AT_ONCE of a key may wait
FOLLOW_SEC: Final = 5.0  # how long a ping waits until the board follows the truth that it changed
_LOOK_EVERY_SEC: Final = 0.02
_REFUSED: Final = NOT_PINGED | {BOOTSTRAP, DEFAULT, OPERATOR}
"""The slugs that make no service. For a truth with a service called like a user of another kind,
`marketswarm acl` makes no users."""
_NOT_SEEDED: Final = PingAnswer(503, b"the service could not be added", 5.0)


class ServiceCreator:
    """Adds services to the truth by `add_service`, which takes a name and an author."""

    def __init__(self, add_service: Callable[[str, str], Awaitable[bool]]) -> None:
        self._add_service = add_service
        self._limiter = RateLimiter(CREATED_AT_ONCE, CREATED_PER_SEC)
        self._turn = asyncio.Lock()

    async def create(self, slug: str, key: str, is_known: Callable[[], bool]) -> None:
        """Return once `is_known` returns True; `key` is the name of a key. Raises RefusedPingError."""
        if SERVICE_NAME.fullmatch(slug) is None or slug in _REFUSED:
            raise RefusedPingError(NOT_FOUND)
        wait_sec = self._limiter.take(key, time.monotonic())
        if wait_sec:
            raise RefusedPingError(make_rate_limited(wait_sec))
        is_added = False
        try:
            async with self._take_turn():
                is_added = not is_known() and await self._add_service(slug, f"ping key {key}")
        except RefusedError as error:
            # 403: the truth does not let the board change it, so no ping can add a service
            raise RefusedPingError(NOT_FOUND if error.status == 403 else _NOT_SEEDED) from None
        finally:
            if not is_added:
                self._limiter.give_back(key, time.monotonic())
        by = time.monotonic() + FOLLOW_SEC
        while not is_known():
            if time.monotonic() > by:
                # one that was there before, and still can't be pinged, is not monitored
                raise RefusedPingError(NOT_READY if is_added else NOT_FOUND)
            await asyncio.sleep(_LOOK_EVERY_SEC)

    @asynccontextmanager
    async def _take_turn(self) -> AsyncIterator[None]:
        """Wait until no other ping adds a service; one document is seeded at a time."""
        try:
            async with asyncio.timeout(TURN_SEC):
                await self._turn.acquire()
        except TimeoutError:
            raise RefusedPingError(_NOT_SEEDED) from None
        try:
            yield
        finally:
            self._turn.release()
