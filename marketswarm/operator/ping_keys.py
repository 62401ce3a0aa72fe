"""Define ping keys, by which a client proves that it may ping: over HTTP, as to Healthchecks.

A key for one service is a UUID, which stands alone in the address: `/ping/<uuid>`. A key for every service
has 22 characters, and the service's name follows it: `/ping/<key>/<slug>`. The client has the text, and the
buses have only its hash. Both kinds have more than 120 random bits, so a plain SHA-256 protects them.

They are kept on system-redis alone, as the tokens are. Each write raises a number beside the keys, so that
the board asks for that number alone, and reads the keys when it has changed.
"""

import re
import secrets
import uuid
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_PING_KEYS
from marketswarm.operator.fields import MAX_BYTES, STRICT, Epoch, Name, encode_fields
from marketswarm.operator.tokens import ID_BYTES

ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
"""The characters of new keys for every service: those that people don't mix up."""
KEY_CHARS: Final = 22
_UUID: Final = re.compile(
    r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.ASCII | re.IGNORECASE
)
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)
MAX_PING_KEYS: Final = 10_000
"""How many ping keys a fleet may have."""
_VERSION: Final = "version"


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class PingKey:
    """A ping key as the bus keeps it, without its secret.

    `svc` is the service that it is for; None: every service. `name` says what it is for, `author` who made
    it. It is invalid from `expires_at` on; times are epoch seconds. Raises ValueError when a field is out of
    bounds.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    name: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    author: Name
    created_at: Epoch
    svc: Name | None = None
    expires_at: Epoch | None = None

    def expired(self, now: float) -> bool:
        """Return True if the key is no longer valid at `now`, in epoch seconds."""
        return self.expires_at is not None and now >= self.expires_at

    def encode(self) -> bytes:
        return encode_fields(self)

    @classmethod
    def parse(cls, raw: bytes) -> "PingKey | None":
        """Return None if the JSON can't be parsed or is longer than MAX_BYTES."""
        if len(raw) > MAX_BYTES:
            return None
        try:
            return _PING_KEY.validate_json(raw)
        except ValidationError:
            return None


_PING_KEY: Final = TypeAdapter(PingKey)


def normalize_uuid(text: str) -> str | None:
    """Return a UUID in lower case with its dashes, which `text` may lack; None if the text is not a UUID."""
    match = _UUID.fullmatch(text)
    return None if match is None else "-".join(match.groups()).lower()


def is_key_text(text: str) -> bool:
    """Return True if a text has the form of a key for every service."""
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
