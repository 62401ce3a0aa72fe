"""Read the revisions of the truth that a bus keeps in the stream `truth:history`.

Seeding writes an entry for each revision. Other users who may seed can write there, too, so an entry that is
not a revision is skipped, and `Revision.is_intact` compares the document with its recorded hash.
"""

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.errors import ReplyTooLongError
from marketswarm.bus.stored_values import MAX_EPOCH_SEC, parse_decimal
from marketswarm.bus.stream import find_entry_time
from marketswarm.keys import TRUTH_HISTORY
from marketswarm.text import decode_text
from marketswarm.truth.parse import MAX_BYTES

MAX_REVISIONS: Final = 200
"""The most entries that are read; seeding keeps 50."""
_PAGE_ENTRIES: Final = 50
_REPLY_BYTES: Final = MAX_BYTES + 64 * 1024
_PAGE_WITHIN_SEC: Final = 5.0
_MAX_AUTHOR_CHARS: Final = 200
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Revision:
    """Hold one revision of the truth, as a bus keeps it.

    `sha256` is the recorded hash of the document, in hex. `seeded_at` is in epoch seconds, and `seeded_by`
    is empty if it is unknown.
    """

    number: int
    sha256: str
    document: bytes
    seeded_at: float
    seeded_by: str = ""

    @property
    def is_intact(self) -> bool:
        return hashlib.sha256(self.document).hexdigest() == self.sha256


async def read_revisions(bus: Bus, page: int = _PAGE_ENTRIES) -> AsyncIterator[Revision]:
    """Yield the revisions that a bus keeps, the newest first, each number once; read `page` of them at once.

    Raises BusError if the bus failed, or an entry is longer than a truth may be.
    """
    known: set[int] = set()
    before, count, entries_read = "+", page, 0
    while entries_read < MAX_REVISIONS:
        try:
            entries = await bus.ask(
                bus.client.xrevrange(TRUTH_HISTORY, before, "-", count=count),
                _PAGE_WITHIN_SEC,
                max_bytes=_REPLY_BYTES,
            )
        except ReplyTooLongError:
            if count == 1:
                raise
            count = 1  # large documents come one by one
            continue
        for ident, fields in entries:
            revision = parse_revision(ident, fields)
            if revision is not None and revision.number not in known:
                known.add(revision.number)
                yield revision
        if len(entries) < count:
            return
        before, entries_read = f"({entries[-1][0].decode()}", entries_read + len(entries)


def parse_revision(ident: bytes, fields: Mapping[bytes, bytes] | None) -> Revision | None:
    """Return the revision in an entry of the history; None if the entry is not a revision."""
    if not fields:  # deleted meanwhile
        return None
    number, sha256 = (decode_text(fields.get(name)) for name in (b"revision", b"sha256"))
    if not (number.isascii() and number.isdigit() and len(number) < 16 and _SHA256.fullmatch(sha256)):
        return None
    author = decode_text(fields.get(b"seeded_by"))[:_MAX_AUTHOR_CHARS]
    at = parse_decimal(decode_text(fields.get(b"seeded_at")), 0.0, MAX_EPOCH_SEC) if author else None
    if at is None:
        at = min(find_entry_time(ident), MAX_EPOCH_SEC)
    return Revision(int(number), sha256, fields.get(b"doc", b""), at, author)
