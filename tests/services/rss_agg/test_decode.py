import gzip
import zlib

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.decode import BadEncodingError, BodyTooLongError, Decompressor, decode_text
from support.examples import examples

WORDS = "<a>Zürich, Łódź, 東京 \u2013 “Größe”</a>"
WEST = "<a>Zürich \u2013 “Größe”</a>"


def declared(name, text=WORDS):
    return f'<?xml version="1.0" encoding="{name}"?>{text}'


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (WORDS.encode(), "", WORDS),
        (WORDS.encode("utf-8-sig"), "", WORDS),
        (WORDS.encode("utf-16"), "", WORDS),
        (WORDS.encode("utf-16-le"), "text/xml; charset=latin-1", WORDS),
        (WORDS.encode("utf-16-be"), "", WORDS),
        (WORDS.encode("utf-32"), "", WORDS),
        # called something else
        (WORDS.encode(), "text/xml; charset=iso-8859-1", WORDS),
        (declared("iso-8859-1").encode(), "", declared("iso-8859-1")),
        (WEST.encode("cp1252"), "text/xml; charset=utf-8", WEST),
        (declared("utf-8", WEST).encode("cp1252"), "", declared("utf-8", WEST)),
        (declared("iso-8859-1", WEST).encode("cp1252"), "", declared("iso-8859-1", WEST)),
        (WEST.encode("cp1252"), "text/xml; charset=nonsense", WEST),
        (WEST.encode("cp1252"), "text/xml; charset=rot13", WEST),
        (WEST.encode("cp1252"), "text/xml; charset=punycode", WEST),
        # what only its name tells
        ("<a>東京</a>".encode("shift_jis"), "text/xml; charset=Shift_JIS", "<a>東京</a>"),
        (declared("gb2312", "東京").encode("gb18030"), "", declared("gb2312", "東京")),
        ("<a>東京</a>".encode("iso-2022-jp"), 'text/xml; charset="iso-2022-jp"', "<a>東京</a>"),
        ("Привет".encode("koi8-r"), "text/xml;charset=KOI8-R", "Привет"),
    ],
)
def test_a_document_is_read_in_its_charset_whatever_it_says(body, kind, text):
    assert decode_text(body, kind) == text


def test_one_bad_byte_does_not_spoil_all():
    body = WORDS.encode() * 3 + b"\xff"
    assert decode_text(body, "") == WORDS * 3 + "\ufffd"


def test_what_no_xml_may_hold_is_blanked():
    assert decode_text(b"\n <a>\x00x\x0by\x1f</a>\n", "") == "<a> x y </a>"


@given(st.binary(max_size=200), st.text(max_size=60))
@settings(max_examples=examples(250))
def test_any_bytes_are_some_text(body, kind):
    decode_text(body, kind).encode("utf-8", "replace")


TEXT = b"<rss>" + bytes(range(256)) * 1000
PACKED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "x-gzip": gzip.compress(TEXT),
    "br": brotli.compress(TEXT),
    "deflate": zlib.compress(TEXT),
}
_BARE = zlib.compressobj(wbits=-15)
RAW = _BARE.compress(TEXT) + _BARE.flush()


def unpack(coding, data, limit=1_000_000, step=1000):
    decompressor = Decompressor(coding, limit)
    for start in range(0, len(data), step):
        decompressor.add(data[start : start + step])
    return decompressor.finish()


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("step", [1, 777, 10_000_000])
def test_a_body_comes_out_as_it_went_in(coding, step):
    assert unpack(coding, PACKED[coding], step=step) == TEXT


def test_deflate_without_its_frame_is_known_too():
    assert unpack("deflate", RAW) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_a_body_that_is_cut_off_is_broken(coding):
    with pytest.raises(BadEncodingError):
        unpack(coding, PACKED[coding][:-20])


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_what_is_not_packed_as_it_says_is_broken(coding):
    with pytest.raises(BadEncodingError):
        unpack(coding, b"<rss>" * 1000)


@pytest.mark.parametrize("coding", ["gzip, gzip", "zstd", "nonsense"])
def test_a_coding_nobody_asked_for_is_refused_at_once(coding):
    with pytest.raises(BadEncodingError):
        Decompressor(coding, 100)


@pytest.mark.parametrize("coding", ["", "gzip", "br", "deflate"])
def test_an_empty_body_is_empty(coding):
    assert unpack(coding, b"") == b""


def bombs():
    nothing = bytes(1 << 20)
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(nothing) for _ in range(24)) + packer.flush()
    squeezer = brotli.Compressor(quality=5)
    squeezed = b"".join(squeezer.process(nothing) for _ in range(24)) + squeezer.finish()
    return [("gzip", packed), ("br", squeezed)]


@pytest.mark.parametrize(("coding", "bomb"), bombs())
def test_a_bomb_goes_off_at_the_limit_and_not_after(coding, bomb):
    decompressor = Decompressor(coding, 1_000_000)
    with pytest.raises(BodyTooLongError):
        decompressor.add(bomb)
    assert len(decompressor) <= 1_000_000 + 3 * 65_536


def test_a_body_that_is_larger_packed_than_wanted_is_not_taken_either():
    with pytest.raises(BodyTooLongError):
        unpack("", b"x" * 101, limit=100)


def test_what_follows_a_body_that_is_over_is_dropped_and_not_without_end():
    decompressor = Decompressor("gzip", 1000)
    decompressor.add(gzip.compress(b"x"))
    decompressor.add(b"junk" * 100)
    assert decompressor.finish() == b"x"
    with pytest.raises(BodyTooLongError):
        decompressor.add(b"junk" * 200)
