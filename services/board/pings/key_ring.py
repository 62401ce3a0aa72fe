"""Hold the ping keys in memory, and look whether their bus still has the same before they are used.

A key is valid as soon as the bus has it, and refused 20 ms after the bus has lost it, for which who revokes
it waits: by then a ping waits for a new look. That reads the number beside the keys, and the keys themselves
only when it has changed. All pings that wait share a look. While the bus is away, the keys that were read
last stay valid, and a ping with an unknown one is answered with 503.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha1
from hmac import compare_digest
from math import inf
from typing import Final

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.bus.outage import Outage
from marketswarm.bus.stored_values import delete_wrong_types
from marketswarm.keys import BOARD_CHECKS
from marketswarm.operator.tokens import (
    FRESH_SEC,
    hash_ping_secret,
    is_key_text,
    normalize_uuid,
    read_ping_keys,
    read_ping_keys_version,
)
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import resolve_references
from services.board.pings.answers import NOT_FOUND, NOT_READY, RefusedPingError
from services.board.settings import PingKeySettings

MIN_SECRET_BYTES: Final = 32  # of the secret of which the UUIDs of checks are made
MAX_SECRET_BYTES: Final = 64
CHECK_SEC: Final = 0.5
RELOAD_SEC: Final = 60.0  # after so long the keys are read, even if their number is the same

_find_digest: Final = lru_cache(maxsize=1024)(hash_ping_secret)
"""Returns the digest of a secret. The last thousand are kept: most pings have one of a few secrets."""

log = logs.get("board")


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What a key allows: pings of `svc`, or of every service if that is None. The times are epoch seconds."""

    svc: str | None
    expires_at: float | None = None


class CheckCodes:
    """The UUIDs and the unique keys of the services of one truth, as checks of the management API.

    Such a UUID is a ping key as well, as in Healthchecks. So it is made of a secret, which system-redis
    keeps, and only tokens that may write are shown it. A UUID that a job brings along comes first, where the
    board knows its text.

    Call `follow` with the services and `use_secret`, then `make`: 100,000 services take 0.3 s of CPU time.
    """

    def __init__(self) -> None:
        self.secret = b""
        """What the UUIDs are made of; empty while it is not known."""
        self._services: frozenset[str] = frozenset()
        self._brought: Mapping[str, uuid.UUID] = {}
        self._by_key: dict[bytes, str] = {}  # by unique key, in bytes
        self._is_made = False

    def follow(self, services: frozenset[str], brought: Mapping[str, uuid.UUID]) -> None:
        self._is_made = self._is_made and services <= self._services and brought == self._brought
        self._services, self._brought = services, brought

    def use_secret(self, secret: bytes) -> None:
        """Have `make` derive the codes from this secret; drop those of another one."""
        if secret != self.secret:
            self.secret, self._by_key, self._is_made = secret, {}, False

    async def make(self) -> None:
        """Make what the services lack, in slices of time; forget those that are gone."""
        while self.secret and not self._is_made:
            services, secret = self._services, self.secret
            known, time_slice = set(self._by_key.values()), TimeSlice()
            gone = known.difference(services)
            made = {key: svc for key, svc in self._by_key.items() if svc not in gone}
            for svc in services:
                if svc not in known:
                    await time_slice.pause()
                    made[_make_key(_make_code(secret, svc))] = svc
            made |= {_make_key(code): svc for svc, code in self._brought.items() if svc in services}
            if services is self._services and secret == self.secret:
                self._by_key, self._is_made = made, True

    def code_of(self, svc: str) -> uuid.UUID:
        if not self.secret:
            raise RefusedPingError(NOT_READY)
        return self._brought.get(svc) or _make_code(self.secret, svc)

    def find_code(self, text: str) -> str | None:
        """Return the service with this UUID, or None. Raise RefusedPingError while not all are made."""
        return self._require_made(self.match_code(text))

    def match_code(self, text: str) -> str | None:
        """Return the service with this UUID among the codes that are made so far, or None."""
        code = uuid.UUID(text)
        svc = self._by_key.get(_make_key(code))
        if svc is None:
            return None
        own = (self._brought.get(svc), _make_code(self.secret, svc))
        return svc if any(compare_digest(each.bytes, code.bytes) for each in own if each) else None

    def find_unique_key(self, text: str) -> str | None:
        """Return the service with this unique key (40 hexadecimal digits), or None. Raises as `find_code`."""
        return self._require_made(self._by_key.get(bytes.fromhex(text)))

    def _require_made(self, svc: str | None) -> str | None:
        if svc is None and not self._is_made:
            raise RefusedPingError(NOT_READY)
        return svc


def make_unique_key(code: uuid.UUID) -> str:
    """Return the key of a check for a read-only client, as Healthchecks makes it: of half of the UUID."""
    return _make_key(code).hex()


def _make_key(code: uuid.UUID) -> bytes:
    return sha1(code.hex[:16].encode()).digest()  # noqa: S324 - an id, not a secret


def _make_code(secret: bytes, svc: str) -> uuid.UUID:
    return uuid.UUID(bytes=blake2b(svc.encode(), digest_size=16, key=secret).digest(), version=4)


class KeyRing:
    """Look up the keys of a fleet by their secrets; keys in the truth may refer to `environ`."""

    def __init__(self, keys_bus: Callable[[], Bus], environ: Mapping[str, str]) -> None:
        self._keys_bus, self._environ = keys_bus, environ
        self._stored: dict[str, KnownKey] = {}
        self._named: dict[str, KnownKey] = {}  # by the truth
        self._version: bytes | None = None
        self._uses: dict[str, float] = {}  # by the hash of a secret, when it was used last
        self.began_at = time.time()
        """Since when the use of keys is noted, in epoch seconds."""
        self._read_at: float | None = None
        self._looked_at = -inf  # when the last look at the number began
        self._outage = Outage(log, "board.ping_keys_unread", "board.ping_keys_read")
        self._reading = asyncio.Lock()  # one look at the bus at a time, so that an older one is never kept
        self._next: asyncio.Future[bool] | None = None  # the look that waits for its turn; False: given up
        self.codes = CheckCodes()

    async def find_key(self, secret: str, wall: float) -> KnownKey:
        """Return the key with this secret, if its bus has it now, and it is valid at `wall` (epoch seconds).

        Raises RefusedPingError if it is unknown, or if an unknown one can't be looked for.
        """
        key = self._find(secret)
        # the UUID of a check is made of a secret of the board's own: no look at the keys tells more about it
        is_check = key is None and not is_key_text(secret) and self.codes.match_code(secret) is not None
        is_fresh = self._outage.error is not None or time.monotonic() - self._looked_at <= FRESH_SEC
        if not is_check and (key is None or not is_fresh):
            await self._confirm()
            key = self._find(secret)
        if key is None and not is_key_text(secret):
            svc = self.codes.find_code(secret)
            key = None if svc is None else KnownKey(svc)
        if key is None and (self._read_at is None or self._outage.error is not None):
            raise RefusedPingError(NOT_READY)
        if key is None or (key.expires_at is not None and wall >= key.expires_at):
            raise RefusedPingError(NOT_FOUND)
        digest = _find_digest(secret)
        if digest in self._stored:
            self._uses[digest] = wall
        return key

    def find_use(self, sha256: str) -> float | None:
        """Return when the key with this hash was used last, in epoch seconds; None: not since `began_at`."""
        return self._uses.get(sha256)

    def _find(self, secret: str) -> KnownKey | None:
        digest = _find_digest(secret)
        return self._named.get(digest) or self._stored.get(digest)

    def count_keys(self, svc: str) -> int:
        """Return how many keys for this service alone were known at the last look, ended ones too."""
        known = {**self._stored, **self._named}
        return sum(each.svc == svc for each in known.values())

    async def _confirm(self) -> None:
        """Return once the keys are those that their bus had at this call, or later, or once it failed to say.

        One look at the bus serves all that wait when it begins.
        """
        while True:
            look = self._next
            if look is not None:
                if await asyncio.shield(look):
                    return
                continue  # the one that was to look has gone
            look = self._next = asyncio.get_running_loop().create_future()
            is_read = False
            try:
                await asyncio.sleep(0)  # all that the loop has read by now share this look
                async with self._reading:
                    self._next = None  # a ping that comes from now on needs a later look
                    await self._read(time.monotonic())
                is_read = True
            finally:
                if self._next is look:
                    self._next = None
                look.set_result(is_read)
            return

    def follow(self, named: Iterable[PingKeySettings], services: frozenset[str]) -> None:
        """Take the keys that the truth names, and the names of its services.

        A key with a missing or wrong variable is logged and left out.
        """
        found: dict[str, KnownKey] = {}
        brought: dict[str, uuid.UUID] = {}
        for each in named:
            secret = None if each.secret is None else self._read_variable(each)
            digest = each.sha256 if secret is None else hash_ping_secret(secret)
            if digest is not None:
                found[digest] = KnownKey(each.svc)
            if secret is not None and each.svc is not None:
                brought.setdefault(each.svc, uuid.UUID(secret))
        self._named = found
        self.codes.follow(services, brought)

    async def run(self) -> None:
        while True:
            await self.refresh(time.monotonic())
            await asyncio.sleep(CHECK_SEC)

    async def refresh(self, now: float) -> None:
        """Read the keys if their number has changed, or if they were read long ago (`now` is monotonic)."""
        async with self._reading:
            await self._read(now)
        await self.codes.make()

    async def _read(self, now: float) -> None:
        with self._outage:
            bus, begun_at = self._keys_bus(), time.monotonic()
            version = await read_ping_keys_version(bus)
            is_old = self._read_at is None or now - self._read_at >= RELOAD_SEC
            if is_old or version != self._version:
                keys = await read_ping_keys(bus)
                self._stored = {key.sha256: KnownKey(key.svc, key.expires_at) for key in keys}
                self._uses = {sha256: at for sha256, at in self._uses.items() if sha256 in self._stored}
                self._version, self._read_at = version, now
            self._looked_at = begun_at
            if is_old or not self.codes.secret:
                await self._read_check_secret(bus)

    async def _read_check_secret(self, bus: Bus) -> None:
        """Read the secret of the checks' UUIDs from system-redis, or write a new one. Raises BusError.

        A bus that has lost it gets back the one that we know, so that jobs continue with their UUIDs. Deletes
        a value of another type.
        """
        await delete_wrong_types(bus, {BOARD_CHECKS: "string"})
        raw = await _read_secret(bus)
        if not _is_check_secret(raw):
            new = self.codes.secret or secrets.token_hex(MIN_SECRET_BYTES).encode()
            # only if it is missing, since another board may have written one at the same time
            await bus.ask(bus.client.set(BOARD_CHECKS, new, nx=not raw and not self.codes.secret))
            raw = await _read_secret(bus)
        if _is_check_secret(raw):
            self.codes.use_secret(raw)

    def _read_variable(self, named: PingKeySettings) -> str | None:
        """Return the secret that a variable holds; None, and a log line, if it can't be used."""
        try:
            text = str(resolve_references(named.secret, self._environ)).strip()
        except LookupError as error:
            log.warning("board.ping_key_unusable", svc=named.svc, why=str(error))
            return None
        secret = normalize_uuid(text) if named.svc is not None else text if is_key_text(text) else None
        if secret is None:
            form = "a UUID" if named.svc is not None else "a key of 22 characters"
            log.warning("board.ping_key_unusable", svc=named.svc, why=f"{named.secret} does not hold {form}")
        return secret


async def _read_secret(bus: Bus) -> bytes:
    found: bytes = await bus.ask(bus.client.getrange(BOARD_CHECKS, 0, MAX_SECRET_BYTES))
    return found


def _is_check_secret(raw: bytes) -> bool:
    return MIN_SECRET_BYTES <= len(raw) <= MAX_SECRET_BYTES
