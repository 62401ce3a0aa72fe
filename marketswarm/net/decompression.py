"""Undo the compression of an HTTP body, bounded in size. Pure.

What the server declares is not trusted: httpx would decompress a whole chunk at once, and 64 KiB of gzip can
hold gigabytes.
"""

import zlib
from collections.abc import Iterator
from typing import Any, Final

CHUNK_BYTES: Final = 65_536


class BodyTooLongError(Exception):
    """The body has more bytes than the limit, compressed or decompressed."""


class BadEncodingError(Exception):
    """The body is not compressed as its Content-Encoding declares, or is truncated."""


class _Identity:
    """Return a body that is not compressed unchanged.

    Each decoder yields the data of one more chunk of the body, in pieces of about CHUNK_BYTES. `error` is
    what it raises for a broken body, `is_complete` says whether the end of the body was read.
    """

    error: type[Exception] = ValueError  # never
    is_complete = True

    def decompress(self, data: bytes) -> Iterator[bytes]:
        yield data


class _Zlib:
    """Decompress gzip, or `deflate` with or without its zlib header."""

    error: type[Exception] = zlib.error

    def __init__(self, *, gzip: bool) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS if gzip else zlib.MAX_WBITS)
        self._may_lack_header = not gzip

    def decompress(self, data: bytes) -> Iterator[bytes]:
        # some servers send deflate without the zlib header: the first byte shows which
        if data and self._may_lack_header:
            self._may_lack_header = False
            if data[0] & 0x0F != 8:
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        while data and not self._zlib.eof:
            yield self._zlib.decompress(data, CHUNK_BYTES)
            data = self._zlib.unconsumed_tail

    @property
    def is_complete(self) -> bool:
        return self._zlib.eof


class _Brotli:
    """Decompress Brotli."""

    def __init__(self) -> None:
        import brotli  # noqa: PLC0415 - of the extra `services`

        self.error: type[Exception] = brotli.error
        self._brotli: Any = brotli.Decompressor()

    def decompress(self, data: bytes) -> Iterator[bytes]:
        if self.is_complete:
            return
        # the library shows that it has no more output only by returning nothing
        while chunk := self._brotli.process(data, output_buffer_limit=CHUNK_BYTES):
            yield chunk
            data = b""

    @property
    def is_complete(self) -> bool:
        return bool(self._brotli.is_finished())


class Decompressor:
    """Decompress a body as its chunks arrive.

    `body` is what is decompressed so far, at most CHUNK_BYTES more than the limit. `limit` is the most bytes
    that may arrive, and the most that they may decompress to. Raises BadEncodingError for an unknown
    encoding.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._decoder = _make_decoder(encoding.strip().lower())
        self._limit = limit
        self._received_bytes = 0
        self.body = bytearray()

    def add(self, chunk: bytes) -> None:
        """Decompress one more chunk. Raises BodyTooLongError or BadEncodingError."""
        self._received_bytes += len(chunk)
        try:
            for piece in self._decoder.decompress(chunk):
                self.body += piece
                if len(self.body) > self._limit:
                    raise BodyTooLongError
        except self._decoder.error:
            raise BadEncodingError from None
        if self._received_bytes > self._limit:
            raise BodyTooLongError

    def finish(self) -> bytes:
        """Return the whole body, after the last chunk. Raises BadEncodingError if its end is missing."""
        if self._received_bytes and not self._decoder.is_complete:
            raise BadEncodingError
        return bytes(self.body)


def _make_decoder(encoding: str) -> _Identity | _Zlib | _Brotli:
    if encoding in ("", "identity"):
        return _Identity()
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Zlib(gzip=encoding != "deflate")
    if encoding == "br":
        return _Brotli()
    raise BadEncodingError
