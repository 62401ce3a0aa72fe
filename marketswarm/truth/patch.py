"""Make, parse and apply patches: what changed from one document to the next, fit for a message. Pure.

A seeding publishes one on `truth:changed`, so that thousands of agents need not read a whole document each.
An agent applies it to the document that it has, and uses the result only if it has the size of `truth:doc`
and the SHA-256 in `truth:meta`. Otherwise the patch is wrong, or the agent has another document, and it reads
the whole one.
"""

from bisect import bisect_left
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

MAX_TEXT_BYTES: Final = 4096
"""The most bytes that a patch puts in: a message reaches every agent, whether it can use the patch or not."""
MAX_MESSAGE_BYTES: Final = 32 * 1024
"""A longer message is not parsed. JSON writes some bytes as six characters."""


@plain_dataclass(frozen=True, slots=True)
class Patch:
    """What stands between the first `begin` and the last `end` bytes of the document whose SHA-256 is `of`.

    Each character of `text` is a byte, from U+0000 to U+00FF, since a change may begin inside a character.
    """

    of: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    begin: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]
    text: Annotated[str, Field(max_length=MAX_TEXT_BYTES, pattern=r"^[\x00-\xff]*$")]

    def apply(self, document: bytes) -> bytes | None:
        """Return the next document; None if this one is too short."""
        if self.begin + self.end > len(document):
            return None
        return document[: self.begin] + self.text.encode("latin-1") + document[len(document) - self.end :]


@dataclass(frozen=True, slots=True, config=ConfigDict(strict=True, extra="ignore", defer_build=True))
class _ChangedMessage:
    """What is read of a message on `truth:changed`."""

    patch: Patch


_CHANGED: Final = TypeAdapter(_ChangedMessage)


def make_patch(before: bytes, before_sha256: str, after: bytes) -> Patch | None:
    """Return what makes `after` of `before`; None if it has more than MAX_TEXT_BYTES."""
    shorter = min(len(before), len(after))
    begin = bisect_left(range(shorter), 1, key=lambda n: before[: n + 1] != after[: n + 1])
    rest = shorter - begin
    # a slice that ends at 0 from the end would be empty, so the ends are counted from the front
    end = bisect_left(
        range(rest), 1, key=lambda n: before[len(before) - n - 1 :] != after[len(after) - n - 1 :]
    )
    text = after[begin : len(after) - end]
    return None if len(text) > MAX_TEXT_BYTES else Patch(before_sha256, begin, end, text.decode("latin-1"))


def parse_patch(message: bytes) -> Patch | None:
    """Return the patch of a message on `truth:changed`; None if it has none that can be used."""
    if len(message) > MAX_MESSAGE_BYTES:
        return None
    try:
        return _CHANGED.validate_json(message).patch
    except ValidationError:
        return None
