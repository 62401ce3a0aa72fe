"""Bytes that say, or fail to say, in which charset they are: made text, whatever they are. Pure.

Undoes a body's compression piece by piece, and stops when more comes out than is wanted. Pure.

The HTTP client's own way unpacks whatever has arrived in one go, and 64 KiB can hold gigabytes.
"""

import codecs
import re
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import brotli

SAID_IN_XML: Final = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
SAID_IN_HTTP: Final = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._-]{1,40})""", re.IGNORECASE)
# of all that Python can decode: what is a charset, and no other trick
KNOWN: Final = re.compile(
    r"(utf-?(8|16|32)(-?[bl]e)?|us-ascii|ascii|iso-?8859-?\d+|latin-?\d+|windows-?(125\d|874)|cp\d+|koi8-[rut]|"
    r"shift[-_]jis|sjis|euc-?(jp|kr|tw|cn)|iso-2022-(jp|kr)(-\d)?|gb2312|gbk|gb18030|big5(-hkscs)?|hz|johab|"
    r"tis-620|mac-?[a-z]+)",
    re.IGNORECASE,
)
MEANT: Final = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "latin-1": "cp1252",
    "latin1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "windows-874": "cp874",
}
SEVEN_BITS: Final = re.compile(r"iso-2022-|hz", re.IGNORECASE)
BY_FIRST_BYTES: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
GOOD_TO_BAD: Final = 10
"""A document with so many good characters beyond ASCII to a bad one is UTF-8 all the same, with a flaw."""
# what no XML may hold, and many a feed does
CONTROLS: Final = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, 0xFEFF, 0xFFFE, 0xFFFF], " ")


def text_of(body: bytes, kind: str) -> str:
    """The text of a document that came with the Content-Type `kind`, without control characters."""
    return _decoded(body, kind).translate(CONTROLS).strip()


def _decoded(body: bytes, kind: str) -> str:
    for first, name in BY_FIRST_BYTES:
        if body.startswith(first):
            return body.decode(name, "replace")
    said = [
        MEANT.get(name, name)
        for name in (_said_in_xml(body), _said_in_http(kind))
        if name and KNOWN.fullmatch(name)
    ]
    if said and SEVEN_BITS.match(said[0]):
        return body.decode(said[0], "replace")
    # what is valid UTF-8 is UTF-8, whatever it is called: nothing else looks like it by chance
    flawed = body.decode("utf-8", "replace")
    bad = flawed.count("\ufffd")
    if not bad or len(flawed) - len(flawed.encode("ascii", "ignore")) - bad >= GOOD_TO_BAD * bad:
        return flawed
    for name in said:
        try:
            return body.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    return body.decode("cp1252", "replace")


def _said_in_xml(body: bytes) -> str:
    found = SAID_IN_XML.match(body[:400])
    return found[1].decode("ascii").lower() if found else ""


def _said_in_http(kind: str) -> str:
    found = SAID_IN_HTTP.search(kind)
    return found[1].lower() if found else ""


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
