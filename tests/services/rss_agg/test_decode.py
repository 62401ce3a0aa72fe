import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.decode import decode_text
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
