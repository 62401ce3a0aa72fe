import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.charsets import CODECS, decode_with
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


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("Shift_JIS", "cp932", "日経平均①"),
        ("x-sjis", "cp932", "日経平均①"),
        ("windows-31j", "cp932", "日経平均"),
        ("MS_Kanji", "cp932", "日経平均"),
        ("EUC-KR", "cp949", "코스피 똠"),
        ("ks_c_5601-1987", "cp949", "코스피"),
        ("windows-949", "cp949", "코스피 똠"),
        ("Big5", "cp950", "台股€"),
        ("x-x-big5", "big5hkscs", "啫喱"),
        ("x-gbk", "gb18030", "中国股市镕"),
        ("x-euc-jp", "euc-jp", "日経平均"),
        ("x-mac-roman", "mac-roman", "Zürich “Größe”"),
        ("iso_8859-1:1987", "cp1252", "Zürich “Größe”"),
        ("iso-8859-9", "cp1254", "Türkiye İş “Bankas”"),
        ("cp437", "cp437", "Zürich"),
        ("iso-2022-kr", "iso2022_kr", "코스피"),
    ],
)
def test_a_label_stands_for_what_browsers_read_under_it(label, codec, text):
    for name in (label, label.upper(), label.lower()):
        assert decode_text(text.encode(codec), f"text/xml; charset={name}") == text
        assert decode_text(declared(name, text).encode(codec), "") == declared(name, text)


def test_euc_jp_is_read_with_the_letters_that_shift_jis_has():
    # NEC's circled one, and a kanji of IBM; then what both lack, in which the markup after it stays
    body = b"\xad\xa1\xf9\xa5 \xfe\xfe\xff<b>" + "東京".encode("euc-jp")
    assert decode_text(body, "text/xml; charset=euc-jp") == "①蓜 \ufffd\ufffd\ufffd<b>東京"


@pytest.mark.parametrize(
    ("label", "body", "text"),
    [
        ("shift_jis", "東京".encode("cp932") + b"\x81<a>", "東京\ufffd<a>"),
        ("euc-kr", b"\xff" + "코스피".encode("cp949"), "\ufffd코스피"),
        ("big5", "台股".encode("cp950") + b"\xff<a>", "台股\ufffd<a>"),
        ("euc-jp", "日経".encode("euc-jp") + b"\xff<a>", "日経\ufffd<a>"),
        ("windows-1253", "Αθήνα".encode("cp1253") + b"\xff", "Αθήνα\ufffd"),
    ],
)
def test_a_bad_byte_costs_one_letter_in_any_charset(label, body, text):
    assert decode_text(body, f"text/xml; charset={label}") == text


def test_what_is_hardly_text_in_the_declared_charset_is_in_another():
    body = "<a>é è “ü”</a>".encode("cp1252")
    assert decode_text(body, "text/xml; charset=euc-kr") == "<a>é è “ü”</a>"


@pytest.mark.parametrize("codec", sorted(set(CODECS.values())))
def test_decoding_takes_linear_time(codec):
    for hostile in (b"\xff", b"\xad\xa1", b"\xa1<"):
        least = [min(measure_decoding(codec, hostile * size) for _ in range(3)) for size in (20_000, 160_000)]
        assert least[1] < 8 * 3 * least[0] + 0.05


def measure_decoding(codec, body):
    begun = time.perf_counter()
    decode_with(codec, body)
    return time.perf_counter() - begun
