"""Find out which service a client may ping, limit how often, and write its pings."""

import time
from collections.abc import Callable
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import NoBusError
from marketswarm.operator.ping_keys import hash_ping_secret
from marketswarm.pings import JobPing, PingKind
from services.board.access.limits import RateLimiter, RefusedError
from services.board.pings.answers import NO_BUS, NOT_FOUND, RefusedPingError, make_rate_limited
from services.board.pings.creation import ServiceCreator
from services.board.pings.directory import PingDestination, PingDirectory
from services.board.pings.key_ring import KeyRing, KnownKey
from services.board.pings.pauses import ServicePauses
from services.board.pings.writer import PingWriter

PINGS: Final = 1_000  # how many pings a service may have at once
PINGS_PER_SEC: Final = 100.0
FAILURES: Final = 60  # how many wrong keys of an address are answered with 404 at once; further ones get 429
FAILURES_PER_SEC: Final = 1.0
_ENDS_PAUSE: Final = (PingKind.SUCCESS, PingKind.FAIL)

log = logs.get("board")


class PingDesk:
    """Find out which service a client may ping, and write its pings: what all the forms of pings share.

    `creator` adds services for pings with `?create=1`; while it is None, none are added. `pauses` ends the
    pause of a service that is pinged; while it is None, no pause ends.
    """

    def __init__(
        self, find_directory: Callable[[], PingDirectory], keys: KeyRing, writer: PingWriter
    ) -> None:
        self.keys, self.writer = keys, writer
        self.creator: ServiceCreator | None = None
        self.pauses: ServicePauses | None = None
        self._find_directory = find_directory
        self._pings = RateLimiter(PINGS, PINGS_PER_SEC)
        self._failures = RateLimiter(FAILURES, FAILURES_PER_SEC)

    def find_destination(self, secret: str, slug: str | None, client: str) -> PingDestination:
        """Return the service that a secret allows, and that `slug` names if it is given.

        Raises RefusedPingError; a secret that is not known is counted against the client's address.
        """
        return self._find_by_key(self.check_secret(secret, client), slug)

    def check_secret(self, secret: str, client: str) -> KnownKey:
        """Return the key of a secret.

        Raises RefusedPingError if the secret is not known, and counts it against the client's address.
        """
        try:
            return self.keys.find_key(secret, time.time())
        except RefusedPingError as refused:
            if refused.answer is NOT_FOUND:
                self._count_failure(client)
            raise

    def find_allowed(self, secret: str, slug: str | None) -> PingDestination:
        return self._find_by_key(self.keys.find_key(secret, time.time()), slug)

    def _find_by_key(self, key: KnownKey, slug: str | None) -> PingDestination:
        directory = self._find_directory()
        if key.svc is None:
            return directory.find_slug(slug or "")  # no service has an empty slug
        found = directory.find_service(key.svc)
        if slug is not None and directory.find_slug(slug) != found:
            raise RefusedPingError(NOT_FOUND)
        return found

    async def create_destination(self, secret: str, slug: str) -> PingDestination:
        """Add it to the truth, which only a key for every service allows. Raises RefusedPingError."""

        def is_known() -> bool:
            return self._find_directory().has_service(slug)

        if self.creator is None or self.keys.find_key(secret, time.time()).svc is not None:
            raise RefusedPingError(NOT_FOUND)
        if not is_known():
            await self.creator.create(slug, hash_ping_secret(secret)[:8], is_known)
        return self.find_allowed(secret, slug)

    async def take(self, ping: JobPing, to: PingDestination) -> None:
        """Write a ping; return once its bus has stored it and the pause that it ends is over.

        Raises RefusedPingError.
        """
        wait_sec = self._pings.take(to.svc, time.monotonic())
        if wait_sec:
            raise RefusedPingError(make_rate_limited(wait_sec))
        await self.writer.write(ping, to)
        if self.pauses is None or ping.kind not in _ENDS_PAUSE:
            return
        try:
            await self.pauses.end_by_ping(to.svc, ping.client, time.time())
        except (NoBusError, RefusedError) as error:
            log.warning("board.pause_not_ended", svc=to.svc, reason=str(error))
            raise RefusedPingError(NO_BUS) from None  # the client pings again, which does no harm

    def _count_failure(self, client: str) -> None:
        """Count and log a wrong secret. Raise RefusedPingError if the address has sent too many."""
        wait_sec = self._failures.take(client, time.monotonic())
        if wait_sec:
            raise RefusedPingError(make_rate_limited(wait_sec))
        log.warning("board.ping_key_refused", client=client)
