import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.plain import line, word


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("A <b>bold</b>\n claim\x00", "A bold claim"),
        ("<p>One</p><p>two</p>", "One two"),
        ("half<i>way</i>", "halfway"),
        ("5 < 6 and 7 > 3", "5 < 6 and 7 > 3"),
        ("AT&amp;T &#8211; caf&eacute;", "AT&T \u2013 café"),
        ("&lt;b&gt; is a tag", "<b> is a tag"),
        ("a<!-- no -->b <script>alert(1)</script>c<style>x{}</style>", "a b c"),
        ('<a href="x>y">z</a>', 'y">z'),
        ("<img src='x' onerror='alert(1)'>", ""),
        ("x<br/>y", "x y"),
        ("\ud800", "?"),
        (None, ""),
        (5, ""),
        (["a"], ""),
    ],
)
def test_markup_goes_and_what_it_says_stays(html, text):
    assert line(html, 100) == text


def test_a_long_text_is_cut_and_not_in_the_middle_of_a_tag():
    assert line("x" * 1000, 10) == "x" * 10
    assert line("ab<a href='" + "y" * 1000, 10) == "ab"


def test_a_word_keeps_its_signs():
    assert word("tag:a,<1>&amp;\n2", 100) == "tag:a,<1>&amp; 2"
    assert word(b"x", 100) == ""


@given(st.text(max_size=300) | st.text("<>!-/ab&;# ", max_size=300), st.integers(1, 50))
@settings(max_examples=200)
def test_whatever_comes_it_is_one_short_line(html, limit):
    found = line(html, limit)
    assert len(found) <= limit
    assert found.isprintable()
    found.encode()
