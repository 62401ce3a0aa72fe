"""Define ping keys, by which a client proves that it may ping: over HTTP, as to Healthchecks. Pure.

A key for one service is a UUID, which stands alone in the address: `/ping/<uuid>`. A key for every service
has 22 characters, and the service's name follows it: `/ping/<key>/<slug>`. The client has the text, and the
buses have only its hash. Both kinds have more than 120 random bits, so a plain SHA-256 protects them.
"""

import re
from hashlib import sha256
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from marketswarm.operator.fields import MAX_BYTES, STRICT, Epoch, Name, encode_fields

ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"
"""The characters of new keys for every service: those that people don't mix up."""
KEY_CHARS: Final = 22
_UUID: Final = re.compile(
    r"([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})", re.ASCII | re.IGNORECASE
)
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)


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
