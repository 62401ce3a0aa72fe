"""Define tokens and ping keys, by which a client of the board proves what it may do.

The client has a text, and the buses have only its hash. The text of a token is `mst_<id>_<secret>`, with 32
random bytes as the secret. With a ping key a client may ping over HTTP, as to Healthchecks. A key for one
service is a UUID, which stands alone in the address: `/ping/<uuid>`; a key for every service has 22
characters, and the service's name follows it: `/ping/<key>/<slug>`. Each has more than 120 random bits, so a
plain SHA-256 protects it, because they are too many to try.

All are kept on system-redis alone, because what is revoked there is revoked at once, and can't come back from
a bus that was away. Each write of a ping key raises a number beside the keys, so that the board asks for that
number alone, and reads the keys when it has changed.
"""

import asyncio
import re
import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Final, Self, TypeVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_PING_KEYS, BOARD_TOKENS
from marketswarm.operator.fields import STRICT, Epoch, JsonRecord, Name

SECRET_BYTES: Final = 32
ID_BYTES: Final = 4
_TEXT: Final = re.compile(r"mst_([0-9a-f]{8})_([0-9a-f]{64})", re.ASCII)
MAX_TOKENS: Final = 1_000
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
C = TypeVar("C", bound="Credential")


class Scope(StrEnum):
    """What a token allows; no scope includes another one."""

    READ = "read"  # see what the board shows, from other machines too
    SIGNALS = "signals"  # see the signals alone, by the API
    WRITE = "write"  # silences, acknowledgements, messages that are sent again, proposals of the medic
    DIAGNOSE = "diagnose"  # with `write`: approve what a diagnosis of the medic's second tier proposes
    SEED = "seed"  # change the truth, and with it the fleet


@plain_dataclass(frozen=True, slots=True)
class TokenText:
    """The two parts of a token's text; the secret is never part of its representation."""

    id: str
    secret: bytes

    def __str__(self) -> str:
        return f"mst_{self.id}_{self.secret.hex()}"

    def __repr__(self) -> str:
        """Return the id alone: representations end up in logs."""
        return f"TokenText({self.id!r})"

    @classmethod
    def parse(cls, text: str) -> "TokenText | None":
        match = _TEXT.fullmatch(text)
        return None if match is None else cls(match[1], bytes.fromhex(match[2]))


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Credential(JsonRecord):
    """What a bus keeps of a token or a ping key: all but its secret.

    `name` says what it is for, `author` who made it. It is invalid from `expires_at` on; times are epoch
    seconds. Raises ValueError when a field is out of bounds.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    name: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    author: Name
    created_at: Epoch
    expires_at: Epoch | None = None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def renew(self, sha256: str, now: float) -> Self:
        """Return it with another secret, made at `now`; it is valid for as long as before."""
        life_sec = None if self.expires_at is None else self.expires_at - self.created_at
        expires_at = None if life_sec is None else now + life_sec
        return replace(self, sha256=sha256, created_at=now, expires_at=expires_at)


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Token(Credential):
    """A token; `scopes` are what it allows."""

    scopes: Annotated[tuple[Scope, ...], Field(min_length=1, max_length=len(Scope))]

    def matches(self, text: TokenText) -> bool:
        """Return True if `text` has this token's secret; how long that takes does not depend on it."""
        return compare_digest(self.sha256, hash_secret(text.secret)) and self.id == text.id


def hash_secret(secret: bytes) -> str:
    """Return the SHA-256 of a secret, as the bus keeps it."""
    return sha256(secret).hexdigest()


def create_token(
    name: str, scopes: Iterable[Scope], *, author: str, now: float, for_sec: float | None = None
) -> tuple[Token, TokenText]:
    """Return its text, too, which is kept nowhere. Raises ValidationError if a part is out of bounds."""
    text = TokenText(secrets.token_hex(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    token = Token(
        id=text.id,
        name=name,
        scopes=tuple(dict.fromkeys(scopes)),
        sha256=hash_secret(text.secret),
        author=author,
        created_at=now,
        expires_at=None if for_sec is None else now + for_sec,
    )
    return token, text


def rotate_token(token: Token, now: float) -> tuple[Token, TokenText]:
    """Return the token with a new secret, made at `now`, and its text. The old one is no longer valid."""
    text = TokenText(token.id, secrets.token_bytes(SECRET_BYTES))
    return token.renew(hash_secret(text.secret), now), text


async def read_token(bus: Bus, ident: str) -> Token | None:
    """Return the token with this id; None if there is none that can be parsed. Raises BusError."""
    raw = await bus.ask(bus.client.hget(BOARD_TOKENS, ident))
    token = None if raw is None else Token.parse(raw)
    return token if token is not None and token.id == ident else None


async def read_tokens(bus: Bus) -> list[Token]:
    """Return every token that can be parsed, the oldest first. Raises BusError."""
    return await read_credentials(bus, BOARD_TOKENS, Token.parse)


async def read_credentials(bus: Bus, key: str, parse: Callable[[bytes], C | None]) -> list[C]:
    """Return the values of a hash that can be parsed and have the id of their field, the oldest first."""
    stored = await bus.ask(bus.client.hgetall(key))
    parsed = ((name, parse(raw)) for name, raw in stored.items())
    found = [one for name, one in parsed if one is not None and one.id.encode() == name]
    return sorted(found, key=lambda one: (one.created_at, one.id))


async def write_token(bus: Bus, token: Token) -> bool:
    """Write a new token; return False if there are MAX_TOKENS already. Raises BusError."""
    if await bus.ask(bus.client.hlen(BOARD_TOKENS)) >= MAX_TOKENS:
        return False
    await bus.ask(bus.client.hset(BOARD_TOKENS, token.id, token.encode()))
    return True


async def replace_token(bus: Bus, token: Token) -> None:
    """Write a token in the place of the one with its id. Raises BusError."""
    await bus.ask(bus.client.hset(BOARD_TOKENS, token.id, token.encode()))


async def revoke_token(bus: Bus, ident: str) -> bool:
    """Delete a token; return False if there was none. Raises BusError."""
    return bool(await bus.ask(bus.client.hdel(BOARD_TOKENS, ident)))


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
