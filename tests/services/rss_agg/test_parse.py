import contextlib
import time
from dataclasses import asdict

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.rss_agg.parse import (
    BARE_AMPERSAND,
    MAX_ENTRIES,
    SUMMARY_LENGTH,
    TITLE_LENGTH,
    FeedEntry,
    NotAFeedError,
    html_to_line,
    make_items,
    parse_entries,
    text_to_line,
)
from services.rss_agg.settings import Feed
from support.examples import examples


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
    assert html_to_line(html, 100) == text


def test_a_long_text_is_cut_and_not_in_the_middle_of_a_tag():
    assert html_to_line("x" * 1000, 10) == "x" * 10
    assert html_to_line("ab<a href='" + "y" * 1000, 10) == "ab"


def test_a_word_keeps_its_signs():
    assert text_to_line("tag:a,<1>&amp;\n2", 100) == "tag:a,<1>&amp; 2"
    assert text_to_line(b"x", 100) == ""


@given(st.text(max_size=300) | st.text("<>!-/ab&;# ", max_size=300), st.integers(1, 50))
@settings(max_examples=examples(500))
def test_whatever_comes_it_is_one_short_line(html, limit):
    found = html_to_line(html, limit)
    assert len(found) <= limit
    assert found.isprintable()
    found.encode()


BASE = "https://site.example/feeds/all.xml"
RSS20 = """<?xml version="1.0"?><rss version="2.0"><channel><title>t</title><item>
<guid isPermaLink="false">g1</guid><title>A &lt;b&gt;bold&lt;/b&gt; claim</title><link>/1</link>
<pubDate>Thu, 20 Nov 2025 13:00:00 +0100</pubDate><description><![CDATA[<p>It <i>is</i>.</p>]]></description>
</item></channel></rss>"""
RSS091 = """<?xml version="1.0"?><!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN"
"http://nowhere.example/rss-0.91.dtd"><rss version="0.91"><channel><item><title>One</title>
<link>https://a/1</link></item></channel></rss>"""
RSS092 = """<rss version="0.92"><channel><item><description>No title</description></item></channel></rss>"""
RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
xmlns:dc="http://purl.org/dc/elements/1.1/"><channel rdf:about="https://a/"><title>t</title></channel>
<item rdf:about="https://a/1"><title>One</title><link>https://a/1</link><dc:date>2025-11-20T12:00:00Z</dc:date>
</item></rdf:RDF>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><entry><id>tag:a,1</id>
<title type="html">A &lt;b&gt;bold&lt;/b&gt; claim</title><link rel="self" href="https://a/self"/>
<link rel="alternate" href="https://a/1"/><updated>2025-11-20T12:00:00Z</updated>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">It <em>is</em>.</div></content>
</entry></feed>"""
JSON = """{"version": "https://jsonfeed.org/version/1.1", "items": [{"id": 7, "url": "/1", "title": "One",
"content_html": "<p>It is.</p>", "date_published": "2025-11-20T13:00:00+01:00"}, "junk", {"id": null}]}"""


def entries(document, kind="text/xml"):
    return parse_entries(document if isinstance(document, bytes) else document.encode(), kind, BASE)


def only(document, kind="text/xml"):
    (entry,) = entries(document, kind)
    return entry


def test_rss_2():
    entry = only(RSS20)
    assert (entry.id, entry.link) == ("g1", "https://site.example/1")
    assert (entry.title, entry.summary) == ("A bold claim", "It is.")
    assert entry.published == "2025-11-20T12:00:00Z"


def test_rss_0_9x_without_ids_dates_or_titles():
    first, second = only(RSS091), only(RSS092)
    assert (first.title, first.link, first.id, first.published) == ("One", "https://a/1", "", "")
    assert (second.title, second.summary) == ("", "No title")


def test_rdf():
    entry = only(RDF)
    assert (entry.id, entry.link, entry.title) == ("https://a/1", "https://a/1", "One")
    assert entry.published == "2025-11-20T12:00:00Z"


def test_atom():
    entry = only(ATOM)
    assert (entry.id, entry.link, entry.title) == ("tag:a,1", "https://a/1", "A bold claim")
    assert entry.summary == "It is."
    assert entry.published == "2025-11-20T12:00:00Z"


@pytest.mark.parametrize("kind", ["application/feed+json", "application/json", "text/plain", ""])
def test_json_feed(kind):
    entry = only(JSON, kind)
    assert (entry.id, entry.link, entry.title) == ("7", "https://site.example/1", "One")
    assert (entry.summary, entry.published) == ("It is.", "2025-11-20T12:00:00Z")


@pytest.mark.parametrize(
    "document",
    [
        RSS20.replace("</item></channel></rss>", ""),
        RSS20.replace("claim", "claim & counterclaim &nbsp; &nosuch;"),
        RSS20.replace("claim", "claim \x0b"),
        "\n\n<br />Warning: it is late<br />" + RSS20,
        RSS20.replace("<rss", "<rss <"),
        RSS20.replace("claim</title>", "claim"),
    ],
)
def test_broken_xml_gives_what_can_be_read(document):
    assert [entry.id for entry in entries(document)] == ["g1"]


def test_an_id_does_not_depend_on_where_the_feed_is():
    document = RSS20.replace("g1", "1")
    elsewhere = parse_entries(document.encode(), "", "http://other.example/")
    assert elsewhere[0].id == only(document).id == "1"


@pytest.mark.parametrize("said", ["never", "Thu, 99 Nov 2025", "", "0000-00-00T00:00:00Z"])
def test_a_date_that_is_none_is_left_out(said):
    assert only(RSS20.replace("Thu, 20 Nov 2025 13:00:00 +0100", said)).published == ""
    assert only(JSON.replace("2025-11-20T13:00:00+01:00", said)).published == ""


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "file:///etc/passwd", "http://[", "", "x" * 3000, "data:,x"]
)
def test_a_link_that_is_no_web_address_is_dropped(link):
    assert only(RSS20.replace("<link>/1<", f"<link>{link}<")).link == ""


def test_the_newest_come_first_wherever_the_feed_has_them():
    def item(day):
        return f"<item><guid>{day}</guid><pubDate>{day} Nov 2025 12:00:00 GMT</pubDate></item>"

    for days in (range(10, 20), range(19, 9, -1)):
        feed = f'<rss version="2.0"><channel>{"".join(map(item, days))}</channel></rss>'
        assert [entry.id for entry in entries(feed)] == [str(day) for day in range(19, 9, -1)]


def test_no_more_than_a_thousand_are_read():
    many = "".join(f"<item><guid>{n}</guid></item>" for n in range(MAX_ENTRIES + 5))
    assert len(entries(f'<rss version="2.0"><channel>{many}</channel></rss>')) == MAX_ENTRIES


def doctype(declarations, reference="&a;"):
    return f'<?xml version="1.0"?><!DOCTYPE rss [{declarations}]>' + RSS20.removeprefix(
        '<?xml version="1.0"?>'
    ).replace("claim", reference)


NESTED = '<!ENTITY z "zz">' + "".join(
    f'<!ENTITY {chr(97 + n)} "{f"&{chr(98 + n)};" * 10}">' for n in range(20)
)


@pytest.mark.parametrize(
    "declarations",
    [
        NESTED,
        NESTED.replace("<!ENTITY", "\n<!ENTITY"),
        f'<!ENTITY a "{"x" * 100_000}">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY a PUBLIC "x" "http://127.0.0.1/">',
        '<!ENTITY % a SYSTEM "http://127.0.0.1/"> %a;',
        "".join(f'<!ENTITY a{n} "x">' for n in range(1000)),
        """<!ENTITY x "]>"> """ + NESTED,
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", "utf-16"])
def test_entities_that_could_go_off_are_refused(declarations, charset):
    with pytest.raises(NotAFeedError, match="entities"):
        entries(doctype(declarations).encode(charset))


def test_a_harmless_entity_does_no_harm():
    assert only(doctype("\n<!ENTITY a 'x'>\n<!ENTITY b \"&#179;\">\n")).id == "g1"


def test_an_article_about_entities_is_an_article():
    assert only(RSS20.replace("<p>It", f"<p>{NESTED}It")).id == "g1"


def test_no_file_is_read(tmp_path):
    (tmp_path / "feed.xml").write_text(RSS20, encoding="utf-8")
    with pytest.raises(NotAFeedError, match="not_a_feed"):
        entries(str(tmp_path / "feed.xml"))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\x00", b"<html></html>", b"{}", b"[]", b'{"version": 5}', b"{" * 5000, b'{"items": [{}]}',
        b'{"version": "https://jsonfeed.org/version/1", "items": {}}', b"<?xml version='1.0'?><rss",
        b"\xff\xfe<", b"<a>" * 5000, b"{\xff", b"<" * 5000, b"&" * 5000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["", "text/xml; charset=nonsense", "\x00", "application/json"])
def test_what_is_no_feed_is_a_failure_or_empty_and_never_a_crash(body, kind):
    with contextlib.suppress(NotAFeedError):
        assert entries(body, kind) == []


PIECES = st.sampled_from(
    ["<item>", "</item>", "<title>", "</title>", "<guid>", "<link>", "<![CDATA[", "]]>", "&amp;", "&x;",
     "<!--", "-->", "<b>", "x", "\x00", "<entry>", "<id>1</id>", "<?p", "?>", "é", "<pubDate>9", "\ud800"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25))
@settings(max_examples=examples(150))
def test_whatever_a_feed_holds_its_entries_are_short_lines(pieces):
    document = f'<rss version="2.0"><channel>{"".join(pieces)}'
    with contextlib.suppress(NotAFeedError):
        for entry in entries(document.encode("utf-8", "replace")):
            for name, limit in (("title", TITLE_LENGTH), ("summary", SUMMARY_LENGTH)):
                assert len(getattr(entry, name)) <= limit
            assert all(text.isprintable() for text in asdict(entry).values())


def test_nothing_much_is_not_brooded_over():
    document = "<?xml version='1.0'?>" + "\n" * 1_000_000 + RSS20.partition("?>")[2]
    assert only(document).id == "g1"


FEED = Feed(url="http://127.0.0.1/feed", name="a", tags=("x", "y"))


def entry(ident="1", link="https://a/1", title="One", summary="It is.", published="2025-11-20T12:00:00Z"):
    return FeedEntry(ident, link, title, summary, published)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("AT&T rises", "AT&T rises"),
        ("S&P 500 up", "S&P 500 up"),
        ("P&L &amp; Q&A", "P&L & Q&A"),
        ("A & B &#38; C &#x26; D", "A & B & C & D"),
        ("AT&amp;amp;T", "AT&T"),
        ("<![CDATA[AT&T & S&P; x]]> & more", "AT&T & S&P; x & more"),
        ("<![CDATA[R&amp;D &copy; x]]>", "R&D \N{COPYRIGHT SIGN} x"),
        ("R&D; &nosuch; x", "R&D; &nosuch; x"),
    ],
)
def test_a_bare_ampersand_stays_one(title, text):
    body = (
        f"<rss version='2.0'><channel><item><title>{title}</title><guid>1</guid>"
        "<link>https://a.example/?a=1&copy=2</link></item></channel></rss>"
    )
    assert (only(body).title, only(body).link) == (text, "https://a.example/?a=1&copy=2")


def test_ampersands_and_text_that_is_not_parsed_take_linear_time():
    for hostile in ("&", "<![CDATA[", "&a", "&#1"):
        least = [min(measure_escaping(hostile * size) for _ in range(3)) for size in (20_000, 160_000)]
        assert least[1] < 8 * 3 * least[0] + 0.05


def measure_escaping(text):
    begun = time.perf_counter()
    BARE_AMPERSAND.sub("", text)
    return time.perf_counter() - begun


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("", "AT&T <NYSE: T> <b>up</b>"),
        (' type="text"', "AT&T <NYSE: T> <b>up</b>"),
        (' type="html"', "AT&T <NYSE: T> up"),
    ],
)
def test_atom_says_what_is_text(kind, text):
    words = "AT&amp;T &lt;NYSE: T&gt; &lt;b&gt;up&lt;/b&gt;"
    if "html" in kind:
        words = "AT&amp;amp;T &amp;lt;NYSE: T&amp;gt; &lt;b&gt;up&lt;/b&gt;"
    body = (
        f'<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>1</id><title{kind}>{words}</title>'
        f"<summary{kind}>{words}</summary></entry></feed>"
    )
    entry = only(body)
    assert (entry.title, entry.summary) == (text, text)


def test_titles_of_a_json_feed_are_text_and_its_numbers_are_dates():
    body = """{"version": "https://jsonfeed.org/version/1.1", "items": [{"id": 7, "title": "AT&T <NYSE: T>",
    "content_text": "a < b", "date_published": 1717408800}]}"""
    entry = only(body)
    assert (entry.title, entry.summary) == ("AT&T <NYSE: T>", "a < b")
    assert entry.published == "2024-06-03T10:00:00Z"


def only_item(one, feed=FEED, scope="s"):
    (item,) = make_items(feed, scope, [one])
    return item


def test_an_entry_becomes_an_item():
    item = only_item(entry())
    assert item.fields == {
        "id": item.id,
        "feed": "a",
        "title": "One",
        "link": "https://a/1",
        "published": "2025-11-20T12:00:00Z",
        "summary": "It is.",
        "tags": '["x","y"]',
    }
    orjson.dumps(dict(item.fields))


def test_an_item_is_known_by_its_id_whatever_it_says():
    edited = entry(link="https://b/", title="Two", summary="", published="")
    assert only_item(entry()).id == only_item(edited).id
    assert only_item(entry("1")).id != only_item(entry("2")).id


def test_without_an_id_it_is_known_by_its_link():
    assert only_item(entry("")).id == only_item(entry("", title="Two", summary="", published="")).id
    assert only_item(entry("")).id != only_item(entry("", "https://a/2")).id


def test_without_both_it_is_known_by_what_it_says():
    assert only_item(entry("", "")).id == only_item(entry("", "", published="")).id
    assert only_item(entry("", "")).id != only_item(entry("", "", title="Two")).id


def test_an_id_is_not_a_link_of_the_same_words():
    assert only_item(entry("x", "")).id != only_item(entry("", "x")).id


def test_a_new_name_or_address_of_the_feed_changes_no_identity_and_another_feed_has_others():
    renamed = Feed(url="https://elsewhere/", name="b")
    assert only_item(entry(), renamed).id == only_item(entry()).id
    assert only_item(entry(), scope="other").id != only_item(entry()).id


def test_an_edit_shows_and_a_new_date_alone_is_none():
    digest = only_item(entry()).digest
    assert only_item(entry(published="")).digest == digest
    for edited in (entry(title="Two"), entry(summary="It was."), entry(link="https://a/one")):
        assert only_item(edited).digest != digest


def test_items_go_oldest_first_each_once():
    items = make_items(FEED, "s", [entry("3"), entry("2"), entry("3"), entry("1")])
    assert [item.id for item in items] == [only_item(entry(n)).id for n in "123"]


def test_an_id_that_a_feed_gives_to_all_its_items_tells_nothing_apart():
    items = make_items(FEED, "s", [entry("same", f"https://a/{n}") for n in range(3)])
    assert len(items) == 3
    assert items[0].id == only_item(entry("", "https://a/2")).id
