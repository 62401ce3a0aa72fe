"""Bytes that say, or fail to say, in which charset they are: made text, whatever they are. Pure."""

import codecs
import re
from typing import Final

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
