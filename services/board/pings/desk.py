"""Find out which service a client may ping, and write its pings; add services, and end pauses, for them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus, NoBusError
from marketswarm.operator.silences import MAX_SILENCE_SEC, Silence, read_silences
from marketswarm.operator.tokens import Token, hash_ping_secret
from marketswarm.pings import JobPing, PingKind
from marketswarm.truth import RESERVED_USERS, Watch
from marketswarm.truth.model import SERVICE_NAME
from marketswarm.web.limits import RateLimiter, RefusedError
from marketswarm.web.tokens import Client
from services.board.actions.steering import SilenceBody, Steering
from services.board.fleet.snapshot import FleetSnapshot
from services.board.pings.answers import NO_BUS, NOT_FOUND, NOT_READY, PingAnswer, RefusedPingError
from services.board.pings.directory import NOT_PINGED, PingDirectory
from services.board.pings.key_ring import KeyRing, KnownKey
from services.board.pings.writer import PingWriter

PINGS: Final = 1_000  # how many pings a service may have at once
PINGS_PER_SEC: Final = 100.0
FAILURES: Final = 60  # how many wrong keys of an address are answered with 404 at once; further ones get 429
FAILURES_PER_SEC: Final = 1.0
PAUSE_REASON: Final = "paused through the management API"  # the reason of the silences that stand for a pause
_ENDS_PAUSE: Final = (PingKind.SUCCESS, PingKind.FAIL)
CREATED_AT_ONCE: Final = 20  # how many services a key may add at once
CREATED_PER_SEC: Final = 1 / 60
TURN_SEC: Final = 20.0  # how long a ping waits for its turn: CREATED_AT_ONCE of a key may wait
FOLLOW_SEC: Final = 5.0  # how long a ping waits until the board follows the truth that it changed
ADDED_SEC: Final = 1.0  # how long a ping with the key of one service waits until the board knows the service
_LOOK_EVERY_SEC: Final = 0.02
_REFUSED: Final = NOT_PINGED.union(RESERVED_USERS)
"""The slugs that make no service."""
_NOT_SEEDED: Final = PingAnswer(503, b"the service could not be added", 5.0)
log = logs.get("board")


AddService = Callable[[str, str], Awaitable[bool]]
"""Adds a service to the truth by its name, for an author; returns False if the truth has it already."""


def spend_turn(limiter: RateLimiter, key: str) -> None:
    """Use up one of the turns that a limiter leaves to `key`. Raises RefusedPingError, 429, without any."""
    wait_sec = limiter.take(key, time.monotonic())
    if wait_sec:
        raise RefusedPingError(PingAnswer(429, b"rate limited", wait_sec))


class ServiceCreator:
    """Adds the service that a ping names with `?create=1`, if the truth lets the board change it.

    Only a key for every service may do that. The service's name is the slug, so it must be a name that the
    truth may have. A wrong guess at a name makes a service, so a key adds few of them in a time.
    """

    def __init__(self, add_service: AddService) -> None:
        self._add_service = add_service
        self._limiter = RateLimiter(CREATED_AT_ONCE, CREATED_PER_SEC)
        self._turn = asyncio.Lock()

    async def create(self, slug: str, key: str, is_known: Callable[[], bool]) -> None:
        """Add a service to the truth, and return once `is_known` returns True.

        Spends one of the services that the key of name `key` may create. Raises RefusedPingError.
        """
        if SERVICE_NAME.fullmatch(slug) is None or slug in _REFUSED:
            raise RefusedPingError(NOT_FOUND)
        spend_turn(self._limiter, key)
        is_added = False
        try:
            try:
                async with asyncio.timeout(TURN_SEC):
                    await self._turn.acquire()  # one document is seeded at a time
            except TimeoutError:
                raise RefusedPingError(_NOT_SEEDED) from None
            try:
                is_added = not is_known() and await self._add_service(slug, f"ping key {key}")
            finally:
                self._turn.release()
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


class ServicePauses:
    """Pauses services for the management API, and ends a pause with the next ping, as Healthchecks does.

    A pause is a silence of a year with a reason of its own. What a ping pays for this is a look into a set;
    the buses are asked only for a service that is paused, as far as this board knows.
    """

    def __init__(
        self,
        buses: Callable[[], Sequence[Bus]],
        steering: Steering,
        find_snapshot: Callable[[], FleetSnapshot | None],
    ) -> None:
        self._buses, self._steering, self._find_snapshot = buses, steering, find_snapshot
        self._paused_here: set[str] = set()  # a snapshot shows them a moment later
        self._shown: tuple[FleetSnapshot | None, frozenset[str]] = None, frozenset()

    async def pause(self, svc: str, token: Token, address: str, now: float) -> None:
        """Pause a service at `now` (epoch seconds), unless it is. Raises RefusedError and NoBusError."""
        if not await self._find(svc, now):
            body = SilenceBody(services=(svc,), for_sec=MAX_SILENCE_SEC, reason=PAUSE_REASON)
            await self._steering.add_silence(Client(token, address), body, now)
        self._paused_here.add(svc)

    async def end(self, svc: str, client: Client, now: float) -> bool:
        """End the pause of a service; return False if it has none. Raises RefusedError and NoBusError."""
        found = await self._find(svc, now)
        for each in found:
            await self._steering.end_silence(client, each.id, now)
        self._paused_here.discard(svc)
        return bool(found)

    def may_be_paused(self, svc: str) -> bool:
        """Return True if a service was paused here or in the latest snapshot, or if there is none yet."""
        snapshot = self._find_snapshot()
        if snapshot is None or svc in self._paused_here:
            return True
        if snapshot is not self._shown[0]:
            pauses = (each.services for each in snapshot.silences if each.reason == PAUSE_REASON)
            self._shown = snapshot, frozenset(services[0] for services in pauses if len(services) == 1)
        return svc in self._shown[1]

    async def _find(self, svc: str, now: float) -> list[Silence]:
        silences = (await read_silences(self._buses())).silences.values()
        return [each for each in find_pauses(silences, now) if each.services == (svc,)]


def find_pauses(silences: Iterable[Silence], now: float) -> list[Silence]:
    return [
        each
        for each in silences
        if each.reason == PAUSE_REASON and len(each.services) == 1 and each.starts_at <= now < each.ends_at
    ]


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

    async def find_destination(self, secret: str, slug: str | None, client: str) -> Watch:
        """Return the service that a secret allows, and that `slug` names if it is given.

        A service that was added with its key, and is pinged at once, is waited for for a second: keys are
        known before the truth is followed. Raises RefusedPingError; a secret that is not known is counted
        against the client's address.
        """
        key, by = await self.check_secret(secret, client), time.monotonic() + ADDED_SEC
        while key.svc is not None and key.svc not in self._find_directory().by_name:
            if time.monotonic() > by:
                break
            await asyncio.sleep(_LOOK_EVERY_SEC)
        return self.find_by_key(key, slug)

    async def check_secret(self, secret: str, client: str) -> KnownKey:
        """Return the key of a secret.

        Raises RefusedPingError if the secret is not known, and counts it against the client's address.
        """
        try:
            return await self.keys.find_key(secret, time.time())
        except RefusedPingError as refused:
            if refused.answer is NOT_FOUND:
                spend_turn(self._failures, client)
                log.warning("board.ping_key_refused", client=client)
            raise

    def find_by_key(self, key: KnownKey, slug: str | None) -> Watch:
        directory = self._find_directory()
        if key.svc is None:
            return directory.find_slug(slug or "")  # no service has an empty slug
        found = directory.by_name.get(key.svc)
        if found is None or (slug is not None and directory.find_slug(slug) != found):
            raise RefusedPingError(NOT_FOUND)
        return found

    async def create_destination(self, secret: str, slug: str) -> Watch:
        """Add it to the truth, which only a key for every service allows. Raises RefusedPingError."""

        def is_known() -> bool:
            return slug in self._find_directory().by_name

        key = await self.keys.find_key(secret, time.time())
        if self.creator is None or key.svc is not None:
            raise RefusedPingError(NOT_FOUND)
        if not is_known():
            await self.creator.create(slug, hash_ping_secret(secret)[:8], is_known)
        # once more, because the key may have been revoked meanwhile
        return self.find_by_key(await self.keys.find_key(secret, time.time()), slug)

    async def take(self, ping: JobPing, to: Watch) -> None:
        """Write a ping; return once its bus has stored it and the pause that it ends has ended.

        Raises RefusedPingError.
        """
        spend_turn(self._pings, to.svc)
        await self.writer.write(ping, to)
        if self.pauses is None or ping.kind not in _ENDS_PAUSE or not self.pauses.may_be_paused(to.svc):
            return
        try:
            await self.pauses.end(to.svc, Client(None, ping.client), time.time())
        except (NoBusError, RefusedError) as error:
            log.warning("board.pause_not_ended", svc=to.svc, reason=str(error))
            raise RefusedPingError(NO_BUS) from None  # the client pings again, which does no harm
