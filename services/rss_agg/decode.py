"""Turn the bytes of a document into text. Pure.

What a document declares is not trusted, because feeds often declare a charset that they are not written in.
"""

import codecs
import re
from typing import Final

from services.rss_agg.charsets import SEVEN_BIT_CODECS, decode_with, find_codec

XML_ENCODING: Final = re.compile(rb"""^\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")
HTTP_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9._:-]{1,40})""", re.IGNORECASE)
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
    """Never fail; control characters become spaces."""
    return _decode(body, content_type).translate(CONTROL_CHARACTERS).strip()


def _decode(body: bytes, content_type: str) -> str:
    """Return the text of a document in the most likely charset.

    A byte order mark decides first; then text that is valid UTF-8, or nearly so, is UTF-8; then a declared
    charset, the XML declaration's first, in which most of it is letters; the last resort is cp1252.
    """
    for first_bytes, charset in CHARSET_BY_FIRST_BYTES:
        if body.startswith(first_bytes):
            return body.decode(charset, "replace")
    in_xml, in_http = XML_ENCODING.match(body[:400]), HTTP_CHARSET.search(content_type)
    names = (in_xml[1].decode("ascii") if in_xml else "", in_http[1] if in_http else "")
    declared = [codec for name in names if (codec := find_codec(name)) is not None]
    if declared and declared[0] in SEVEN_BIT_CODECS:
        return decode_with(declared[0], body)
    # valid UTF-8 is UTF-8, whatever is declared, since text in another charset is not valid UTF-8 by chance
    text, valid, invalid = _weigh(body, "utf-8")
    if valid >= VALID_PER_INVALID * invalid:
        return text
    for codec in declared:
        text, valid, invalid = _weigh(body, codec)
        if valid >= invalid:
            return text
    return decode_with("cp1252", body)


def _weigh(body: bytes, codec: str) -> tuple[str, int, int]:
    """Return a text, the number of its valid characters beyond ASCII, and that of the invalid ones."""
    text = decode_with(codec, body)
    invalid = text.count("\ufffd")
    return text, len(text) - len(text.encode("ascii", "ignore")) - invalid, invalid
