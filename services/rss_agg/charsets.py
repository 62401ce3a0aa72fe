"""Know the charsets that a document may declare, by the labels of the WHATWG Encoding Standard. Pure.

A label stands for what browsers read under it, which is often more than the standard of that name:
`Shift_JIS` is read with Microsoft's letters, `latin1` as cp1252. Python's codecs of those names know less.
"""

import codecs
import re
from typing import Final

_LABELS: Final = {
    "cp866": "866 cp866 csibm866 ibm866",
    "iso8859-2": "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2 latin2",
    "iso8859-3": "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3 latin3",
    "iso8859-4": "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4 latin4",
    "iso8859-5": "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5 "
    "iso_8859-5:1988",
    "iso8859-6": "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e "
    "iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    "iso8859-7": "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso88597 "
    "iso_8859-7 iso_8859-7:1987 sun_eu_greek",
    "iso8859-8": "csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8 iso88598 "
    "iso_8859-8 iso_8859-8:1988 visual csiso88598i iso-8859-8-i logical",
    "iso8859-10": "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    "iso8859-13": "iso-8859-13 iso8859-13 iso885913",
    "iso8859-14": "iso-8859-14 iso8859-14 iso885914",
    "iso8859-15": "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    "iso8859-16": "iso-8859-16",
    "koi8-r": "cskoi8r koi koi8 koi8-r koi8_r",
    "koi8-u": "koi8-ru koi8-u",
    "mac-roman": "csmacintosh mac macintosh x-mac-roman",
    "mac-cyrillic": "x-mac-cyrillic x-mac-ukrainian",
    "cp874": "dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874",
    "cp1250": "cp1250 windows-1250 x-cp1250",
    "cp1251": "cp1251 windows-1251 x-cp1251",
    "cp1252": "ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 "
    "iso_8859-1 iso_8859-1:1987 l1 latin1 us-ascii windows-1252 x-cp1252",
    "cp1253": "cp1253 windows-1253 x-cp1253",
    "cp1254": "cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5 "
    "latin5 windows-1254 x-cp1254",
    "cp1255": "cp1255 windows-1255 x-cp1255",
    "cp1256": "cp1256 windows-1256 x-cp1256",
    "cp1257": "cp1257 windows-1257 x-cp1257",
    "cp1258": "cp1258 windows-1258 x-cp1258",
    "gb18030": "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030",
    "cp950": "big5 cn-big5 csbig5 x-x-big5",
    "big5hkscs": "big5-hkscs",
    "euc-jp": "cseucpkdfmtjapanese euc-jp x-euc-jp",
    "iso2022_jp_ext": "csiso2022jp iso-2022-jp",
    "cp932": "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    "cp949": "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 "
    "windows-949",
    # browsers refuse these two, because a page could hide markup in them; here nothing is run
    "iso2022_kr": "csiso2022kr iso-2022-kr",
    "hz": "hz-gb-2312",
}
"""By the codec of Python, the labels of the standard; those of UTF-8 and UTF-16 are told by the bytes."""
CODECS: Final = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}
SEVEN_BIT_CODECS: Final = frozenset({"iso2022_jp_ext", "iso2022_kr", "hz"})
"""Text in these is ASCII by its bytes, and so valid UTF-8, too."""
_PYTHONS: Final = re.compile(r"cp\d{3,4}|mac-?[a-z]{4,12}|iso-2022-jp-\d|koi8-t|johab")
"""Charsets of old documents that only Python knows. Its codecs include rot13 and punycode, too."""
_EXTENDED: Final = frozenset({"euc-jp", "cp950"})
"""The codecs that lack letters which browsers know."""
_ERRORS: Final = "services.rss_agg.charsets"
_EUC_PAIR: Final = re.compile(rb"[\xa1-\xfe]{2}")


def find_codec(label: str) -> str | None:
    """Return the name of Python's codec for a label in any case; None if it is no charset."""
    name = label.lower()
    return CODECS.get(name) or (name if _PYTHONS.fullmatch(name) and _is_known(name) else None)


def decode_with(codec: str, body: bytes) -> str:
    """Return the text of a document in a charset; what is no letter becomes U+FFFD, neighbours stay."""
    return body.decode(codec, _ERRORS if codec in _EXTENDED else "replace")


def _is_known(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True


def _decode_extension(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for bytes that a codec does not know, and where it goes on.

    It is the letter of an extension that browsers know, if there is one.
    """
    if not isinstance(error, UnicodeDecodeError):
        raise error
    pair, end = error.object[error.start : error.start + 2], error.start + 2
    letter = ""
    if error.encoding == "euc_jp" and _EUC_PAIR.fullmatch(pair):
        letter = _shift(pair).decode("cp932", "ignore")
    elif error.encoding == "cp950":
        letter = pair.decode("big5hkscs", "ignore") if pair[1:] >= b"\x40" else ""
    return (letter, end) if len(letter) == 1 else ("\ufffd", error.end)


codecs.register_error(_ERRORS, _decode_extension)


def _shift(pair: bytes) -> bytes:
    """Return two bytes of EUC-JP as Shift_JIS has them, which has the same table of 94 by 94 letters."""
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = row // 2 + (0x81 if row < 62 else 0xC1)
    trail = cell + 0x9F if row % 2 else cell + 0x40 + (cell >= 63)
    return bytes((lead, trail))
