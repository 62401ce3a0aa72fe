"""Read and write ping keys, which are kept on system-redis alone, as the tokens are.

Each write raises a number beside the keys, so that the board asks for that number alone, and reads the keys
when it has changed.
"""

import secrets
import uuid
from dataclasses import replace
from typing import Final

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_PING_KEYS
from marketswarm.operator.ping_key import ALPHABET, KEY_CHARS, PingKey, hash_ping_secret
from marketswarm.operator.token import ID_BYTES

MAX_PING_KEYS: Final = 10_000
"""How many ping keys a fleet may have."""
_VERSION: Final = "version"


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
    life_sec = None if key.expires_at is None else key.expires_at - key.created_at
    expires_at = None if life_sec is None else now + life_sec
    return replace(key, sha256=hash_ping_secret(secret), created_at=now, expires_at=expires_at), secret


async def read_ping_keys(bus: Bus) -> list[PingKey]:
    """Return every ping key that can be parsed, the oldest first. Raises BusError."""
    stored = await bus.ask(bus.client.hgetall(BOARD_PING_KEYS))
    parsed = ((name, PingKey.parse(raw)) for name, raw in stored.items())
    keys = [key for name, key in parsed if key is not None and key.id.encode() == name]
    return sorted(keys, key=lambda key: (key.created_at, key.id))


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


async def revoke_ping_key(bus: Bus, ident: str) -> bool:
    """Delete a key; return False if there was none. Raises BusError."""
    if ident == _VERSION:
        return False
    pipe = bus.pipeline(transaction=True)
    pipe.hdel(BOARD_PING_KEYS, ident)
    pipe.hincrby(BOARD_PING_KEYS, _VERSION, 1)
    deleted, _ = await bus.ask(pipe.execute())
    return bool(deleted)


def _make_secret(svc: str | None) -> str:
    """Return a UUID for one service, otherwise a key for every service."""
    if svc is not None:
        return str(uuid.uuid4())
    return "".join(secrets.choice(ALPHABET) for _ in range(KEY_CHARS))
