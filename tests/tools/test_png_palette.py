"""tools/png_palette.py on pictures made here, in each of the ways in which a PNG may filter a row."""

import importlib.util
import struct
import zlib
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

TOOL = Path(__file__).parents[2] / "tools" / "png_palette.py"
WIDTH = 5


def load_tool() -> ModuleType:
    found = importlib.util.spec_from_file_location("png_palette", TOOL)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


tool = load_tool()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def encode(rows: list[bytes], filters: list[int], channels: int, depth: int = 8) -> bytes:
    """Return a PNG whose rows are filtered as asked, by the definition of PNG."""
    raw, above = b"", bytes(WIDTH * channels)
    for kind, row in zip(filters, rows, strict=True):
        raw += bytes([kind])
        for place, value in enumerate(row):
            near = place >= channels
            left, corner = (row[place - channels], above[place - channels]) if near else (0, 0)
            up, guess = above[place], left + above[place] - corner
            paeth = min((left, up, corner), key=lambda one: abs(guess - one))
            raw += bytes([(value - (0, left, up, (left + up) // 2, paeth)[kind]) % 256])
        above = row
    head = struct.pack(">IIBBBBB", WIDTH, len(rows), depth, 2 if channels == 3 else 6, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def decode(png: bytes) -> list[tuple[int, int, int]]:
    """Return the pixels of a PNG with a palette and no filters."""
    chunks = dict(tool._read_chunks(png))  # noqa: SLF001 - the container is the same
    palette = chunks[b"PLTE"]
    raw = zlib.decompress(chunks[b"IDAT"])
    numbers = [
        number for begin in range(0, len(raw), WIDTH + 1) for number in raw[begin + 1 : begin + 1 + WIDTH]
    ]
    return [tuple(palette[3 * number : 3 * number + 3]) for number in numbers]


@given(st.data(), st.sampled_from([3, 4]))
def test_a_picture_of_few_colours_stays_as_it_is(data: st.DataObject, channels: int):
    row = st.binary(min_size=WIDTH * channels, max_size=WIDTH * channels)
    rows = data.draw(st.lists(row, min_size=1, max_size=6))
    filters = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)))
    pixels = [tuple(row[at : at + 3]) for row in rows for at in range(0, WIDTH * channels, channels)]
    assert decode(tool.reduce_colours(encode(rows, filters, channels))) == pixels


def test_a_rare_colour_becomes_the_nearest_of_the_others():
    row = bytes([0, 0, 0] * 2 + [250, 250, 250] * 2 + [200, 210, 220])
    found = decode(tool.reduce_colours(encode([row], [0], 3), 2))
    assert found == [(0, 0, 0)] * 2 + [(250, 250, 250)] * 3


def test_other_files_are_refused():
    with pytest.raises(ValueError, match="not a PNG"):
        tool.reduce_colours(b"GIF89a")
    with pytest.raises(ValueError, match="depth 16"):
        tool.reduce_colours(encode([bytes(15)], [0], 3, depth=16))


def test_each_picture_in_the_documentation_is_small():
    pictures = list((TOOL.parents[1] / "docs").glob("*.png"))
    assert pictures
    assert [picture.name for picture in pictures if picture.stat().st_size > 60_000] == []
