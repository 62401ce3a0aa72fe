"""Undoes a body's compression piece by piece, and stops when more comes out than is wanted. Pure.

The HTTP client's own way unpacks whatever has arrived in one go, and 64 KiB can hold gigabytes.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import brotli

PIECE: Final = 65_536
ACCEPTED: Final = "gzip, br"


class TooLong(Exception):  # noqa: N818 - a result like another
    """The body is longer than was wanted."""


class Broken(Exception):  # noqa: N818 - a result like another
    """The body is not compressed as it says, or is cut off."""


class _Coding(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def done(self) -> bool: ...


class _Plain:
    done = True

    def pieces(self, data: bytes) -> Iterator[bytes]:
        yield data


class _Zlib:
    """gzip, and what is called deflate: with or without its frame."""

    def __init__(self, *, gzip: bool) -> None:
        self._made = zlib.decompressobj(16 + zlib.MAX_WBITS if gzip else zlib.MAX_WBITS)
        self._bare = not gzip  # some leave the frame out: what the first bytes tell
        self.begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        if self._bare and not self.begun and data and data[0] & 0x0F != 8:
            self._made = zlib.decompressobj(-zlib.MAX_WBITS)
        self.begun = self.begun or bool(data)
        while data and not self._made.eof:
            yield self._made.decompress(data, PIECE)
            data = self._made.unconsumed_tail

    @property
    def done(self) -> bool:
        return self._made.eof or not self.begun


class _Brotli:
    def __init__(self) -> None:
        self._made: Any = brotli.Decompressor()
        self.begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        self.begun = self.begun or bool(data)
        if self._made.is_finished():
            return
        # whether there is more to come it says only by giving nothing
        while piece := self._made.process(data, output_buffer_limit=PIECE):
            yield piece
            data = b""

    @property
    def done(self) -> bool:
        return bool(self._made.is_finished()) or not self.begun


class Unpacking:
    """A body on its way in. `coding` is its Content-Encoding; `limit` bytes at most, packed or not.

    Raises Broken, at once, for a coding that was not asked for, and for one within another.
    """

    def __init__(self, coding: str, limit: int) -> None:
        self._coding = _coding(coding.strip().lower())
        self._limit = limit
        self._came = 0
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Takes in what arrived. Raises TooLong or Broken."""
        self._came += len(data)
        if self._came > self._limit:
            raise TooLong
        try:
            for piece in self._coding.pieces(data):
                self._body += piece
                if len(self._body) > self._limit:
                    raise TooLong
        except (zlib.error, brotli.error):
            raise Broken from None

    def whole(self) -> bytes:
        """The body, when all has arrived. Raises Broken if something is missing."""
        if not self._coding.done:
            raise Broken
        return bytes(self._body)


def _coding(name: str) -> _Coding:
    if name in ("", "identity"):
        return _Plain()
    if name in ("gzip", "x-gzip", "deflate"):
        return _Zlib(gzip=name != "deflate")
    if name == "br":
        return _Brotli()
    raise Broken
