"""Make and verify the links by which the reader of a message acts: approve, acknowledge, keep quiet. Pure.

A link names the act, what it is about, the channel of its message and the time until which it counts, and is
signed with a key that only notifier and board have (`APPROVAL_LINK_KEY`). It opens nothing else. It is a
credential, so it is never on a bus: the notifier adds it to a message when that is sent.

That a link acts once is not decided here, but by the record that the board keeps under its `id`.
"""

import hmac
import re
from base64 import b32decode, b32encode
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Final, Literal

import orjson
from pydantic import Field, SecretStr, TypeAdapter, ValidationError

from marketswarm.operator.fields import Name

LINK_PATH: Final = "/link/"
MAX_LIFE_SEC: Final = 86_400.0
"""How long after its message a link counts at most."""
QUIET_SEC: Final = 7_200.0
"""How long the silence of a link lasts, in seconds."""
MAX_SUBJECTS: Final = 5
MAX_ABOUT_CHARS: Final = 100
MAX_LINK_CHARS: Final = 800
"""The longest text of a link after LINK_PATH: receivers refuse buttons whose address is too long."""
_PURPOSE: Final = b"marketswarm link "
"""What is signed begins with it: a signature for something else by the same key does not sign a link."""
_SIGNED_BYTES: Final = 20
"""How much of the signature a link has: more than half of it, as RFC 2104 advises."""
_LINK: Final = re.compile(r"([a-z2-7]{16,768})\.([a-z2-7]{32})")


class LinkAction(StrEnum):
    """The acts of links; each comment says what the link's `subjects` hold."""

    APPROVE = "approve"  # the id of one proposal of the medic
    ACK = "ack"  # the ids of the threads whose outages a person sees to
    QUIET = "quiet"  # the services, buses or targets that are silenced for QUIET_SEC


@dataclass(frozen=True, slots=True)
class SignedLink:
    """What a link does, to what, for which channel, and until when it counts, in epoch seconds.

    `about` names the subjects for people.
    """

    action: LinkAction
    subjects: tuple[str, ...]
    about: str
    channel: str
    until: float

    @property
    def author(self) -> str:
        """In whose name the link acts."""
        return f"link of {self.channel}"

    def is_expired(self, now: float) -> bool:
        return now > self.until

    @property
    def id(self) -> str:
        """The digest under which the board records that the link was used; it opens nothing."""
        return sha256(_encode(self).encode()).hexdigest()[:32]


_FIELDS: Final = TypeAdapter(
    tuple[
        LinkAction,
        Annotated[list[Name], Field(min_length=1, max_length=MAX_SUBJECTS)],
        Annotated[str, Field(max_length=MAX_ABOUT_CHARS)],
        Name,
        Annotated[int, Field(ge=0, le=99_999_999_999)],
        Literal[1],
    ]
)
"""The fields of a link, and the version of their form."""


def make_link(public_url: str, key: SecretStr, link: SignedLink) -> str | None:
    """Return the address of a link; None if it would be longer than MAX_LINK_CHARS.

    Letters and digits alone, so that no markup of a chat changes it.
    """
    text = _encode(link)
    signed = f"{text}.{_sign(key, text)}"
    return f"{public_url}{LINK_PATH}{signed}" if len(signed) <= MAX_LINK_CHARS else None


def read_link(text: str, key: SecretStr) -> SignedLink | None:
    """Return the link whose address ends with `text`, after LINK_PATH; None if `key` did not sign it.

    The caller asks whether it has ended.
    """
    found = _LINK.fullmatch(text)
    if found is None or not hmac.compare_digest(_sign(key, found[1]), found[2]):
        return None
    padded = found[1].upper() + "=" * (-len(found[1]) % 8)
    try:
        action, subjects, about, channel, until, _ = _FIELDS.validate_json(b32decode(padded))
    except (ValidationError, ValueError):
        return None
    return SignedLink(action, tuple(subjects), about, channel, float(until))


def _encode(link: SignedLink) -> str:
    fields = [link.action, link.subjects, link.about, link.channel, int(link.until), 1]
    return _to_letters(orjson.dumps(fields))


def _sign(key: SecretStr, text: str) -> str:
    digest = hmac.digest(key.get_secret_value().encode(), _PURPOSE + text.encode(), sha256)
    return _to_letters(digest[:_SIGNED_BYTES])


def _to_letters(raw: bytes) -> str:
    return b32encode(raw).decode().rstrip("=").lower()
