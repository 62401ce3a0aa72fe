"""Keep a table as JSON, also packed, and make it anew at the cost of the rows that changed. Pure.

Of a chart that is watched, the newest rows change, and some of the oldest leave it. So its text is made of
blocks: a block whose rows stayed is taken over, encoded and packed. A deflate stream may be cut where a
compressor was flushed, so the packed blocks one after the other are the gzip of the whole.
"""

import itertools
import operator
import struct
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from services.board.market.tables import AnswerTable

PACK_LEVEL: Final = 1
BLOCK_STEPS: Final = 128
"""How many steps of a table a block is long. Fewer cost less when a row of it changes, and pack worse."""
MAX_SHIFT: Final = 5
"""How many rows at the begin of a block may be gone from it since it was encoded last."""
_DIGEST_BYTES: Final = 12
_TEXT_END: Final = b"]}"
_GZIP_HEAD: Final = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"  # RFC 1952: deflate, neither a name nor a time


class TextPart(NamedTuple):
    """Hold a part of a text: plain, packed so that other parts may follow, and its digest."""

    plain: bytes
    packed: bytes
    digest: bytes


class Block(NamedTuple):
    """Hold the rows that begin in an interval, as a part of a text, and where each row ends in that part."""

    rows: Sequence[Sequence[Any]]
    part: TextPart
    ends: "array[int]"


class GrowingTable(NamedTuple):
    """Hold a table whose newest rows change: its text in parts, and as gzip has it.

    The first of the `parts` is what the text has before its rows, the others are those of `blocks`, which
    are by their intervals. `checksums` are those of the text up to the end of each part.
    """

    parts: Sequence[TextPart]
    blocks: Mapping[int, Block]
    checksums: Sequence[int]
    packed: bytes

    @property
    def texts(self) -> tuple[bytes, ...]:
        """The text, in pieces."""
        head, *blocks = (part.plain for part in self.parts)
        return head, *itertools.islice(_put_commas(blocks), 1, None), _TEXT_END

    @property
    def digests(self) -> bytes:
        """The digests of all parts: those of the same text are the same, whatever it grew from."""
        return b"".join(part.digest for part in self.parts)


def encode_growing(table: AnswerTable, step_ms: int, before: GrowingTable | None) -> GrowingTable:
    """Return a table as JSON and packed; what stayed of the last one is taken over.

    Each row begins with its time in epoch milliseconds; they ascend, mostly by `step_ms` or more. A row that
    is equal to what it was is not encoded again.
    """
    head = orjson.dumps({**table.about, table.name: []}).removesuffix(_TEXT_END)
    known = {} if before is None else before.blocks
    names = tuple(table.columns)
    blocks = {
        interval: _encode_block(rows, names, known.get(interval))
        for interval, rows in _split_rows(table.rows, BLOCK_STEPS * step_ms)
    }
    is_same = before is not None and before.parts[0].plain == head
    parts = [before.parts[0] if before is not None and is_same else _make_part(head)]
    parts += [block.part for block in blocks.values()]
    checksums = _sum_parts(parts, before)
    return GrowingTable(parts, blocks, checksums, _join_packed(parts, checksums[-1]))


def _split_rows(
    rows: Sequence[Sequence[Any]], block_ms: int
) -> Iterator[tuple[int, Sequence[Sequence[Any]]]]:
    """Yield each interval of `block_ms` in which rows begin, and these rows."""
    first = 0
    while first < len(rows):
        interval = rows[first][0] // block_ms
        end_ms = (interval + 1) * block_ms
        last = bisect_left(rows, end_ms, first + 1, key=operator.itemgetter(0))
        yield interval, rows[first:last]
        first = last


def _encode_block(rows: Sequence[Sequence[Any]], names: Sequence[str], before: Block | None) -> Block:
    """Return rows as a block; those that begin it, and were in the last one, are copied from that."""
    if before is not None and before.rows == rows:
        return before
    first, same = (0, 0) if before is None else _find_same(rows, before.rows)
    texts = [orjson.dumps(dict(zip(names, row, strict=True))) for row in rows[same:]]
    ends = array("I")
    if before is not None and same:
        copied = before.ends[first : first + same]
        begin = before.ends[first - 1] + 1 if first else 0  # a comma is between two rows
        ends.extend(end - begin for end in copied)
        texts.insert(0, before.part.plain[begin : copied[-1]])
    for text in texts[bool(same) :]:
        ends.append((ends[-1] + 1 if ends else 0) + len(text))
    return Block(rows, _make_part(b",".join(texts)), ends)


def _find_same(rows: Sequence[Any], before: Sequence[Any]) -> tuple[int, int]:
    """Return from which row of `before` on it has the first ones of `rows`, and how many of these."""
    first = next((n for n, row in enumerate(before[:MAX_SHIFT]) if row == rows[0]), 0)
    pairs = before[first:]
    most = min(len(rows), len(pairs))
    return first, next(itertools.compress(itertools.count(), map(operator.ne, rows, pairs)), most)


def _make_part(plain: bytes) -> TextPart:
    digest = blake2b(plain, digest_size=_DIGEST_BYTES).digest()
    return TextPart(plain, _deflate(plain, zlib.Z_SYNC_FLUSH), digest)


def _sum_parts(parts: Sequence[TextPart], before: GrowingTable | None) -> list[int]:
    """Return the CRC-32 of a text up to the end of each part; what stayed of its begin is not read."""
    pairs = zip(parts, () if before is None else before.parts, strict=False)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] is pair[1], pairs))
    sums = [] if before is None else list(before.checksums[:same])
    for number, part in enumerate(parts[same:], same):
        begun = zlib.crc32(b",", sums[-1]) if number > 1 else sums[-1] if sums else 0
        sums.append(zlib.crc32(part.plain, begun))
    return sums


def _put_commas(texts: Sequence[bytes]) -> Iterator[bytes]:
    """Yield each text with a comma before it."""
    return itertools.chain.from_iterable((b",", text) for text in texts)


def _deflate(text: bytes, flush: int) -> bytes:
    packer = zlib.compressobj(PACK_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)  # without a head and a checksum
    return packer.compress(text) + packer.flush(flush)


_PACKED_COMMA: Final = _deflate(b",", zlib.Z_SYNC_FLUSH)
_PACKED_END: Final = _deflate(_TEXT_END, zlib.Z_FINISH)


def _join_packed(parts: Sequence[TextPart], checksum: int) -> bytes:
    """Return a text of such parts as gzip has it (RFC 1952); `checksum` is that of its parts, joined."""
    head, *blocks = (part.packed for part in parts)
    size = sum(len(part.plain) for part in parts) + max(0, len(blocks) - 1) + len(_TEXT_END)
    tail = struct.pack("<II", zlib.crc32(_TEXT_END, checksum), size)
    return b"".join((_GZIP_HEAD, head, _PACKED_COMMA.join(blocks), _PACKED_END, tail))
