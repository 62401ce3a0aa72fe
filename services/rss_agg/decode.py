"""Turn the bytes of an HTTP body into text: undo the compression, then the charset. Pure.

The size of the text is limited, and what the server declares is not trusted: httpx would decompress a whole
chunk at once, and 64 KiB of gzip can hold gigabytes; feeds often declare a charset that they are not written
in.
"""

import codecs
import re
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

import brotli

CHUNK_BYTES: Final = 65_536
ACCEPTED_ENCODINGS: Final = "gzip, br"


class BodyTooLongError(Exception):
    """The body has more bytes than the limit, compressed or decompressed."""


class BadEncodingError(Exception):
    """The body is not compressed as its Content-Encoding declares, or is truncated."""


class _Decoder(Protocol):
    """Undo one Content-Encoding."""

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed data of one more chunk."""
        ...

    @property
    def is_complete(self) -> bool:
        """Return True if the end of the body was read, or there was no data."""
        ...


class _Identity:
    """Return a body that is not compressed unchanged."""

    is_complete = True

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """Yield `data` unchanged."""
        yield data


class _Zlib:
    """Decompress gzip, or `deflate` with or without its zlib header."""

    def __init__(self, *, gzip: bool) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS if gzip else zlib.MAX_WBITS)
        self._may_lack_header = not gzip
        self._has_data = False

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed data of one more chunk, in pieces of at most CHUNK_BYTES."""
        # some servers send deflate without the zlib header: the first byte shows which
        if self._may_lack_header and not self._has_data and data and data[0] & 0x0F != 8:
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        self._has_data = self._has_data or bool(data)
        while data and not self._zlib.eof:
            yield self._zlib.decompress(data, CHUNK_BYTES)
            data = self._zlib.unconsumed_tail

    @property
    def is_complete(self) -> bool:
        """Return True if the end of the compressed data was read, or there was no data."""
        return self._zlib.eof or not self._has_data


class _Brotli:
    """Decompress Brotli."""

    def __init__(self) -> None:
        self._brotli: Any = brotli.Decompressor()
        self._has_data = False

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed data of one more chunk, in pieces of about CHUNK_BYTES."""
        self._has_data = self._has_data or bool(data)
        if self._brotli.is_finished():
            return
        # the library shows that it has no more output only by returning nothing
        while chunk := self._brotli.process(data, output_buffer_limit=CHUNK_BYTES):
            yield chunk
            data = b""

    @property
    def is_complete(self) -> bool:
        """Return True if the end of the compressed data was read, or there was no data."""
        return bool(self._brotli.is_finished()) or not self._has_data


class Decompressor:
    """Decompress a body as its chunks arrive.

    Args:
        encoding: the Content-Encoding of the response.
        limit: the most bytes that may arrive, and the most that they may decompress to.

    Raises:
        BadEncodingError: at once, for an encoding that was not asked for, and for one inside another.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._decoder = _make_decoder(encoding.strip().lower())
        self._limit = limit
        self._received_bytes = 0
        self._body = bytearray()

    def __len__(self) -> int:
        """Return the number of decompressed bytes so far."""
        return len(self._body)

    def add(self, chunk: bytes) -> None:
        """Decompress one more chunk. Raises BodyTooLongError or BadEncodingError."""
        self._received_bytes += len(chunk)
        if self._received_bytes > self._limit:
            raise BodyTooLongError
        try:
            for piece in self._decoder.decompress(chunk):
                self._body += piece
                if len(self._body) > self._limit:
                    raise BodyTooLongError
        except (zlib.error, brotli.error):
            raise BadEncodingError from None

    def finish(self) -> bytes:
        """Return the whole body, after the last chunk. Raises BadEncodingError if its end is missing."""
        if not self._decoder.is_complete:
            raise BadEncodingError
        return bytes(self._body)


def _make_decoder(encoding: str) -> _Decoder:
    """Return the decoder of a Content-Encoding. Raises BadEncodingError for an unknown one."""
    if encoding in ("", "identity"):
        return _Identity()
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Zlib(gzip=encoding != "deflate")
    if encoding == "br":
        return _Brotli()
    raise BadEncodingError


XML_ENCODING: Final = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
HTTP_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._-]{1,40})""", re.IGNORECASE)
# the charsets among Python's codecs, which also include rot13 and punycode
CHARSETS: Final = re.compile(
    r"(utf-?(8|16|32)(-?[bl]e)?|us-ascii|ascii|iso-?8859-?\d+|latin-?\d+|windows-?(125\d|874)|cp\d+|koi8-[rut]|"
    r"shift[-_]jis|sjis|euc-?(jp|kr|tw|cn)|iso-2022-(jp|kr)(-\d)?|gb2312|gbk|gb18030|big5(-hkscs)?|hz|johab|"
    r"tis-620|mac-?[a-z]+)",
    re.IGNORECASE,
)
# as the WHATWG encoding standard has it: the superset that browsers use for a declared charset
SUPERSETS: Final = {
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
SEVEN_BIT_CHARSETS: Final = re.compile(r"iso-2022-|hz", re.IGNORECASE)
CHARSET_BY_FIRST_BYTES: Final = (
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
VALID_PER_INVALID: Final = 10
"""A document with so many valid characters beyond ASCII for each invalid one is UTF-8 with a flaw in it."""
# characters that XML forbids and many feeds contain
CONTROL_CHARACTERS: Final = dict.fromkeys(
    [*range(9), 11, 12, *range(14, 32), 127, 0xFEFF, 0xFFFE, 0xFFFF], " "
)


def decode_text(body: bytes, content_type: str) -> str:
    """Return the text of a document; control characters become spaces. No bytes make it fail."""
    return _decode(body, content_type).translate(CONTROL_CHARACTERS).strip()


def _decode(body: bytes, content_type: str) -> str:
    """Return the text of a document in the most likely charset.

    A byte order mark decides first; then text that is valid UTF-8, or nearly so, is UTF-8; then the declared
    charsets are tried, the XML declaration's first; the last resort is cp1252.
    """
    for first_bytes, charset in CHARSET_BY_FIRST_BYTES:
        if body.startswith(first_bytes):
            return body.decode(charset, "replace")
    declared = [
        SUPERSETS.get(name, name)
        for name in (_charset_in_xml(body), _charset_in_http(content_type))
        if name and CHARSETS.fullmatch(name)
    ]
    if declared and SEVEN_BIT_CHARSETS.match(declared[0]):
        return body.decode(declared[0], "replace")
    # valid UTF-8 is UTF-8, whatever is declared: text in another charset is not valid UTF-8 by chance
    text = body.decode("utf-8", "replace")
    invalid = text.count("\ufffd")
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    if not invalid or beyond_ascii - invalid >= VALID_PER_INVALID * invalid:
        return text
    for charset in declared:
        try:
            return body.decode(charset)
        except (UnicodeDecodeError, LookupError):
            continue
    return body.decode("cp1252", "replace")


def _charset_in_xml(body: bytes) -> str:
    """Return the charset in the XML declaration, in lower case; empty if there is none."""
    found = XML_ENCODING.match(body[:400])
    return found[1].decode("ascii").lower() if found else ""


def _charset_in_http(content_type: str) -> str:
    """Return the charset in a Content-Type, in lower case; empty if there is none."""
    found = HTTP_CHARSET.search(content_type)
    return found[1].lower() if found else ""
