"""Give each service a UUID as a check of the management API.

Such a UUID is a ping key as well, as in Healthchecks. So it is made of a secret, which system-redis keeps,
and only tokens that may write are shown it. A UUID that a job brings along comes first, where the board knows
its text. Pure.
"""

import uuid
from collections.abc import Mapping
from hashlib import blake2b, sha1
from hmac import compare_digest
from typing import Final

from marketswarm.time_slice import TimeSlice
from services.board.pings.answers import NOT_READY, RefusedPingError

MIN_SECRET_BYTES: Final = 32
MAX_SECRET_BYTES: Final = 64


class CheckCodes:
    """The UUIDs and the unique keys of the services of one truth.

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
        code = uuid.UUID(text)
        svc = self._find(_make_key(code))
        if svc is None:
            return None
        own = (self._brought.get(svc), _make_code(self.secret, svc))
        return svc if any(compare_digest(each.bytes, code.bytes) for each in own if each) else None

    def find_unique_key(self, text: str) -> str | None:
        """Return the service with this unique key (40 hexadecimal digits), or None. Raises as `find_code`."""
        return self._find(bytes.fromhex(text))

    def _find(self, key: bytes) -> str | None:
        svc = self._by_key.get(key)
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
