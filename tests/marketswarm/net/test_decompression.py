import gzip
import zlib

import brotli
import pytest

from marketswarm.net.decompression import BadEncodingError, BodyTooLongError, Decompressor

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
def test_an_unknown_coding_is_refused_at_once(coding):
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
    assert len(decompressor.body) <= 1_000_000 + 3 * 65_536


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
