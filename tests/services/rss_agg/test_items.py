import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.agent.own import own_part
from marketswarm.exit import Exit
from marketswarm.truth import Heartbeat, Service
from services.rss_agg.items import ITEMS_A_READ, TEXT_LIMITS, Feed, Section, items_of

FEED = Feed(url="http://127.0.0.1/feed", name="a", tags=("x", "y"))


def section(*endpoints, **settings):
    return Service(
        heartbeat=Heartbeat(channel="rss_agg:heartbeat"), endpoints=list(endpoints), settings=settings
    )


def test_no_endpoints_are_fine():
    assert own_part(Section, "rss_agg", section()).endpoints == ()


def test_a_feed_is_read_every_poll_sec_unless_it_says_so_itself():
    found = own_part(
        Section,
        "rss_agg",
        section(
            {"url": "http://a", "name": "a"}, {"url": "http://b", "name": "b", "every_sec": 5}, poll_sec=30
        ),
    )
    assert [found.every_sec(feed) for feed in found.endpoints] == [30, 5]


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [
        ({"name": "a"}, "endpoints.0.url"),
        ({"url": "http://a"}, "endpoints.0.name"),
        ({"url": "file:///etc/passwd", "name": "a"}, "endpoints.0.url"),
        ({"url": "/etc/passwd", "name": "a"}, "endpoints.0.url"),
        ({"url": "http://a", "name": "a", "every_sec": 0}, "endpoints.0.every_sec"),
        ("http://a", "endpoints.0"),
    ],
)
def test_a_mistake_in_an_endpoint_is_named(endpoint, path):
    with pytest.raises(Exit, match=rf"services\.rss_agg\.{path.replace('.', '[.]')}") as caught:
        own_part(Section, "rss_agg", section(endpoint))
    assert "passwd" not in caught.value.message


def test_a_url_that_holds_a_secret_stands_in_the_environment():
    assert (
        own_part(Section, "rss_agg", section({"url": "env:FEED", "name": "a"})).endpoints[0].url == "env:FEED"
    )


def test_an_entry_becomes_an_item_of_plain_text():
    (item,) = items_of(
        FEED,
        [
            {
                "id": "1",
                "title": "A <b>bold</b>\n claim\x00",
                "link": "https://a/1",
                "published": "today",
                "junk": 5,
            }
        ],
    )
    assert item.fields == {
        "id": item.id,
        "feed": "a",
        "title": "A bold claim",
        "link": "https://a/1",
        "summary": "",
        "published": "today",
        "tags": '["x","y"]',
    }


def test_the_same_entry_has_the_same_id_and_another_feeds_another():
    entry = {"id": "1", "title": "first"}
    (first,) = items_of(FEED, [entry])
    (again,) = items_of(FEED, [{**entry, "title": "corrected"}])
    (other,) = items_of(FEED.model_copy(update={"name": "b"}), [entry])
    assert first.id == again.id != other.id


def test_items_go_oldest_first_each_once_and_not_without_end():
    entries = [{"id": str(n)} for n in range(500)] + [{"id": "3"}]
    items = items_of(FEED, entries)
    assert len(items) == ITEMS_A_READ
    assert items[-1].id == items_of(FEED, [{"id": "0"}])[0].id


def test_a_link_that_is_no_web_address_is_dropped():
    for link in ("javascript:alert(1)", "file:///etc/passwd", "http://[", ""):
        (item,) = items_of(FEED, [{"id": "1", "link": link}])
        assert item.fields["link"] == ""


def test_an_entry_that_says_nothing_is_no_item():
    assert items_of(FEED, [{}, {"id": ""}, {"title": None}, {"id": 5}]) == []


ANYTHING = st.one_of(
    st.none(),
    st.text(),
    st.integers(),
    st.binary(),
    st.lists(st.text()),
    st.dictionaries(st.text(), st.text()),
)
KEYS = st.sampled_from(["id", "title", "link", "summary", "published", "updated"])


@given(st.lists(st.dictionaries(KEYS, ANYTHING | st.text(st.characters()), max_size=6), max_size=5))
def test_whatever_an_entry_holds_its_item_is_short_text(entries):
    for item in items_of(FEED, entries):
        orjson.dumps(dict(item.fields))
        for name, limit in TEXT_LIMITS.items():
            assert len(item.fields[name]) <= limit
            assert item.fields[name].isprintable()
