"""Define ping keys, by which a client proves that it may ping: over HTTP, as to Healthchecks.

A key for one service is a UUID, which stands alone in the address: `/ping/<uuid>`. A key for every service
has 22 characters, and the service's name follows it: `/ping/<key>/<slug>`. The client has the text, and the
buses have only its hash. Both kinds have more than 120 random bits, so a plain SHA-256 protects them.

They are kept on system-redis alone, as the tokens are. Each write raises a number beside the keys, so that
the board asks for that number alone, and reads the keys when it has changed.
"""

import asyncio
import re
import secrets
import uuid
from functools import lru_cache
from hashlib import sha256
from typing import Final

from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_PING_KEYS
from marketswarm.operator.fields import STRICT, Name
from marketswarm.operator.tokens import ID_BYTES, Credential, read_credentials

ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
"""The characters of new keys for every service: those that people don't mix up."""
KEY_CHARS: Final = 22
_UUID: Final = re.compile(
    r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.ASCII | re.IGNORECASE
)
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
MAX_PING_KEYS: Final = 10_000
FRESH_SEC: Final = 0.02
"""For how long a board takes pings by what its last look at the keys found: under load most wait for none."""
_VERSION: Final = "version"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PingKey(Credential):
    """A ping key; `svc` is the service that it is for, None: every service."""

    svc: Name | None = None


_parse_key: Final = lru_cache(maxsize=2 * MAX_PING_KEYS)(PingKey.parse)
"""Parses a stored key. The board reads all of them when one has changed, and 10,000 take 80 ms to parse."""


def normalize_uuid(text: str) -> str | None:
    """Return a UUID in lower case with its dashes, which `text` may lack; None if the text is not a UUID."""
    match = _UUID.fullmatch(text)
    return None if match is None else "-".join(match.groups()).lower()


def is_key_text(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


def hash_ping_secret(text: str) -> str:
    """Return the SHA-256, as the bus keeps it, of a UUID in its normal form, or of a key."""
    return sha256(text.encode()).hexdigest()


def create_ping_key(
    name: str, svc: str | None, *, author: str, now: float, for_sec: float | None = None
) -> tuple[PingKey, str]:
    """Return a new key, made at `now` (epoch seconds), and its secret, which is kept nowhere.

    With `svc` the secret is a UUID and the key is for that service; without, it is for every service.
    Raises ValidationError if a part is out of bounds.
    """
    secret = _make_secret(svc)
    key = PingKey(
        id=secrets.token_hex(ID_BYTES),
        name=name,
        svc=svc,
        sha256=hash_ping_secret(secret),
        author=author,
        created_at=now,
        expires_at=None if for_sec is None else now + for_sec,
    )
    return key, secret


def rotate_ping_key(key: PingKey, now: float) -> tuple[PingKey, str]:
    """Return the key with a new secret, made at `now`, and that secret. The old one is no longer valid."""
    secret = _make_secret(key.svc)
    return key.renew(hash_ping_secret(secret), now), secret


async def read_ping_keys(bus: Bus) -> list[PingKey]:
    """Return every ping key that can be parsed, the oldest first. Raises BusError."""
    return await read_credentials(bus, BOARD_PING_KEYS, _parse_key)


async def read_ping_keys_version(bus: Bus) -> bytes | None:
    """Return the number that each write raises; None before the first. Raises BusError."""
    version: bytes | None = await bus.ask(bus.client.hget(BOARD_PING_KEYS, _VERSION))
    return version


async def write_ping_key(bus: Bus, key: PingKey) -> bool:
    """Write a key; return False if it is new and there are MAX_PING_KEYS already. Raises BusError."""
    if await bus.ask(bus.client.hlen(BOARD_PING_KEYS)) > MAX_PING_KEYS and not await bus.ask(
        bus.client.hexists(BOARD_PING_KEYS, key.id)
    ):
        return False
    pipe = bus.pipeline(transaction=True)
    pipe.hset(BOARD_PING_KEYS, key.id, key.encode())
    pipe.hincrby(BOARD_PING_KEYS, _VERSION, 1)
    await bus.ask(pipe.execute())
    return True


async def wait_until_refused() -> None:
    """Return once no board takes a ping with a key, or a secret, that its bus has lost by now."""
    await asyncio.sleep(FRESH_SEC)


async def revoke_ping_key(bus: Bus, ident: str) -> bool:
    """Delete a key, and return once every board that reaches the bus refuses it.

    Return False if there was none. Raises BusError.
    """
    if ident == _VERSION:
        return False
    pipe = bus.pipeline(transaction=True)
    pipe.hdel(BOARD_PING_KEYS, ident)
    pipe.hincrby(BOARD_PING_KEYS, _VERSION, 1)
    deleted, _ = await bus.ask(pipe.execute())
    await wait_until_refused()
    return bool(deleted)


def _make_secret(svc: str | None) -> str:
    if svc is not None:
        return str(uuid.uuid4())
    return "".join(secrets.choice(ALPHABET) for _ in range(KEY_CHARS))
