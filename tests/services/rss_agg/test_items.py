import orjson

from services.rss_agg.documents import Entry
from services.rss_agg.items import items_of
from services.rss_agg.section import Feed

FEED = Feed(url="http://127.0.0.1/feed", name="a", tags=("x", "y"))


def entry(ident="1", link="https://a/1", title="One", summary="It is.", published="2025-11-20T12:00:00Z"):
    return Entry(ident, link, title, summary, published)


def only(one, feed=FEED, scope="s"):
    (item,) = items_of(feed, scope, [one])
    return item


def test_an_entry_becomes_an_item():
    item = only(entry())
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
    assert only(entry()).id == only(entry(link="https://b/", title="Two", summary="", published="")).id
    assert only(entry("1")).id != only(entry("2")).id


def test_without_an_id_it_is_known_by_its_link():
    assert only(entry("")).id == only(entry("", title="Two", summary="", published="")).id
    assert only(entry("")).id != only(entry("", "https://a/2")).id


def test_without_both_it_is_known_by_what_it_says():
    assert only(entry("", "")).id == only(entry("", "", published="")).id
    assert only(entry("", "")).id != only(entry("", "", title="Two")).id


def test_an_id_is_not_a_link_of_the_same_words():
    assert only(entry("x", "")).id != only(entry("", "x")).id


def test_a_new_name_or_address_of_the_feed_changes_no_identity_and_another_feed_has_others():
    renamed = Feed(url="https://elsewhere/", name="b")
    assert only(entry(), renamed).id == only(entry()).id
    assert only(entry(), scope="other").id != only(entry()).id


def test_an_edit_shows_and_a_new_date_alone_is_none():
    digest = only(entry()).digest
    assert only(entry(published="")).digest == digest
    for edited in (entry(title="Two"), entry(summary="It was."), entry(link="https://a/one")):
        assert only(edited).digest != digest


def test_items_go_oldest_first_each_once():
    items = items_of(FEED, "s", [entry("3"), entry("2"), entry("3"), entry("1")])
    assert [item.id for item in items] == [only(entry(n)).id for n in "123"]


def test_an_id_that_a_feed_gives_to_all_its_items_tells_nothing_apart():
    items = items_of(FEED, "s", [entry("same", f"https://a/{n}") for n in range(3)])
    assert len(items) == 3
    assert items[0].id == only(entry("", "https://a/2")).id
