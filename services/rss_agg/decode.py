"""Turn the bytes of a document into text. Pure.

What a document declares is not trusted, because feeds often declare a charset that they are not written in.
"""

import codecs
import re
from typing import Final

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
    """Never fail; control characters become spaces."""
    return _decode(body, content_type).translate(CONTROL_CHARACTERS).strip()


def _decode(body: bytes, content_type: str) -> str:
    """Return the text of a document in the most likely charset.

    A byte order mark decides first; then text that is valid UTF-8, or nearly so, is UTF-8; then the declared
    charsets are tried, the XML declaration's first; the last resort is cp1252.
    """
    for first_bytes, charset in CHARSET_BY_FIRST_BYTES:
        if body.startswith(first_bytes):
            return body.decode(charset, "replace")
    in_xml, in_http = XML_ENCODING.match(body[:400]), HTTP_CHARSET.search(content_type)
    names = (in_xml[1].decode("ascii") if in_xml else "", in_http[1] if in_http else "")
    declared = [SUPERSETS.get(name, name) for name in map(str.lower, names) if CHARSETS.fullmatch(name)]
    if declared and SEVEN_BIT_CHARSETS.match(declared[0]):
        return body.decode(declared[0], "replace")
    # valid UTF-8 is UTF-8, whatever is declared, since text in another charset is not valid UTF-8 by chance
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
