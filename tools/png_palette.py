"""Give a PNG a palette, which makes a screenshot three times as small. Pure.

Read is what browsers write: eight bits for each of three or four channels, not interlaced.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
COLOURS: Final = 96
"""Enough for text with smooth edges in a few colours."""
_CHANNELS: Final = {2: 3, 6: 4}

Colour = tuple[int, int, int]


def reduce_colours(png: bytes, colours: int = COLOURS) -> bytes:
    """Keep `colours` (256 at most): every other colour becomes the nearest one of these."""
    width, rows = read_pixels(png)
    counts = Counter(colour for row in rows for colour in row)
    palette = [colour for colour, _ in counts.most_common(colours)]
    number = {colour: place for place, colour in enumerate(palette)}
    for colour in counts:
        if colour not in number:
            number[colour] = number[min(palette, key=lambda one: _distance(one, colour))]
    pixels = b"".join(b"\0" + bytes(number[colour] for colour in row) for row in rows)
    head = struct.pack(">IIBBBBB", width, len(rows), 8, 3, 0, 0, 0)
    return b"".join(
        (
            SIGNATURE,
            _make_chunk(b"IHDR", head),
            _make_chunk(b"PLTE", bytes(value for colour in palette for value in colour)),
            _make_chunk(b"IDAT", zlib.compress(pixels, 9)),
            _make_chunk(b"IEND", b""),
        )
    )


def read_pixels(png: bytes) -> tuple[int, list[list[Colour]]]:
    """Return the width and the rows of a picture, without its transparency.

    Raises ValueError if this is not a PNG, or one of another kind.
    """
    if not png.startswith(SIGNATURE):
        raise ValueError("this is not a PNG")
    chunks = list(_read_chunks(png))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if depth != 8 or kind not in _CHANNELS or interlaced:
        raise ValueError(f"a PNG of depth {depth} and type {kind} can't be read here")
    channels = _CHANNELS[kind]
    raw = zlib.decompress(b"".join(content for name, content in chunks if name == b"IDAT"))
    stride = width * channels
    rows, before = [], bytes(stride)
    for place in range(height):
        begin = place * (stride + 1)
        before = _unfilter(raw[begin], raw[begin + 1 : begin + 1 + stride], before, channels)
        rows.append(list(zip(*(before[channel::channels] for channel in range(3)), strict=True)))
    return width, rows


def _read_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += length + 12


def _make_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unfilter(kind: int, row: bytes, above: bytes, channels: int) -> bytes:
    """`row` is one filtered row, `above` the one above it, without its filter."""
    if kind == 0:
        return row
    found = bytearray(row)
    for place, value in enumerate(row):
        left = found[place - channels] if place >= channels else 0
        corner = above[place - channels] if place >= channels else 0
        up = above[place]
        predicted = (0, left, up, (left + up) // 2, _predict(left, up, corner))[kind]
        found[place] = (value + predicted) & 255
    return bytes(found)


def _predict(left: int, up: int, corner: int) -> int:
    """Return the neighbour that is nearest to their linear prediction (Paeth)."""
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))


def _distance(one: Colour, two: Colour) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, two, strict=True))
