"""What rss_agg remembers on a real bus: each item once, whatever happens to the feed."""

import time

import pytest

from marketswarm.bus import Bus, stream_length
from marketswarm.bus.parser import MIB, BoundedParser
from marketswarm.bus.stored_values import count_unusable
from services.rss_agg import store as store_module
from services.rss_agg.parse import FeedEntry, make_items
from services.rss_agg.settings import Feed, ReadSettings
from services.rss_agg.store import FeedState, FeedStore, KnownFeed, claim_by_name, claim_by_url
from support.fixtures import opened
from support.rig import Server

FEED = Feed(url="https://a.example/feed", name="a")
DAY_SEC = 86_400

server = opened(lambda tmp_path: Server(tmp_path))


@pytest.fixture
async def store(server):
    bus = Bus("market-redis", server.url)
    yield FeedStore(bus, "rss:items")
    await bus.aclose()


class Reader:
    """One instance that reads one feed."""

    def __init__(self, store, feed=FEED, **settings):
        self.store, self.settings = store, ReadSettings(**settings)
        self.one = KnownFeed(feed, claim_by_url(feed.url), "at")

    async def shows(self, *entries, state=None):
        """The feed shows these, newest first; what came of it."""
        if state is None:
            (state,) = await self.store.load_states([self.one])
        found = [
            FeedEntry(one, "", f"Item {one}", "", "") if isinstance(one, str) else one for one in entries
        ]
        items = make_items(self.one.feed, self.one.scope, found)
        return await self.store.publish_items(
            self.one, state.after_success(time.time()), items, self.settings
        )


def stream(server):
    return [dict(zip(f[::2], f[1::2], strict=True)) if isinstance(f, list) else f
            for _, f in server.cmd("XRANGE", "rss:items", "-", "+")]  # fmt: skip


def titles(server):
    return [fields["title"] for fields in stream(server)]


async def test_an_item_goes_on_the_stream_once_with_all_its_fields(server, store):
    reader, before = Reader(store), time.time()
    published = await reader.shows("2", "1")
    assert (len(published.new), published.first) == (2, True)
    again = await reader.shows("3", "2", "1")
    assert (len(again.new), again.edited, again.first) == (1, (), False)
    assert titles(server) == ["Item 1", "Item 2", "Item 3"]
    fields = stream(server)[0]
    assert list(fields) == ["id", "feed", "title", "link", "published", "summary", "tags", "seen"]
    assert before <= float(fields["seen"]) <= time.time()


async def test_an_edited_item_is_a_new_version_of_the_same(server, store):
    reader = Reader(store)
    for title in ("One", "One!", "One!", "One"):
        await reader.shows(FeedEntry("1", "", title, "", ""))
    found = stream(server)
    assert [fields["title"] for fields in found] == ["One", "One!", "One"]
    assert len({fields["id"] for fields in found}) == 1
    assert [(fields.get("version"), fields.get("updates")) for fields in found] == [
        (None, None), ("2", "1"), ("3", "1"),
    ]  # fmt: skip


async def test_what_is_another_one_with_each_reading_is_an_edit_no_more_in_the_end(server, store):
    reader = Reader(store)
    for count in range(30):
        await reader.shows(FeedEntry("1", "", "One", f"seen {count} times", ""))
    assert [fields.get("version", "1") for fields in stream(server)] == [str(n) for n in range(1, 21)]
    assert (await reader.shows("2", FeedEntry("1", "", "One", "", ""))).edited == ()


async def test_what_a_feed_shows_is_never_forgotten_and_what_it_does_not_in_the_end(
    server, store, monkeypatch
):
    monkeypatch.setattr(store_module, "KEEP_UNSHOWN_SEC", 100)
    reader, now = Reader(store), time.time()
    clock = {"now": now}
    monkeypatch.setattr(store_module.time, "time", lambda: clock["now"])
    await reader.shows("2", "1")
    clock["now"] = now + 1000 * DAY_SEC  # unchanged all the while: nobody published
    await reader.shows("3", "1")  # 2 is gone from now on, not since it was last published
    clock["now"] += 99
    assert (await reader.shows("4", "3", "2", "1")).new == (
        make_items(FEED, reader.one.scope, [FeedEntry("4", "", "", "", "")])[0].id,
    )
    clock["now"] += 2
    await reader.shows("4", "3", "1")  # gone again, from now on
    clock["now"] += 99
    assert (await reader.shows("4", "3", "2", "1")).new == ()
    await reader.shows("4", "3", "1")
    clock["now"] += 101
    await reader.shows("5")  # 2 was forgotten with that, 1, 3 and 4 only went
    assert server.cmd("HLEN", f"rss:items:seen:{reader.one.scope}") == 4
    await reader.shows("5", "4", "3", "2", "1")
    assert titles(server) == ["Item 1", "Item 2", "Item 3", "Item 4", "Item 5", "Item 2"]


async def test_a_feed_that_never_shows_an_item_twice_fills_no_memory(server, store, monkeypatch):
    monkeypatch.setattr(store_module, "MAX_UNSHOWN", 50)
    reader = Reader(store)
    for turn in range(10):
        await reader.shows(*(f"{turn}-{n}" for n in range(20)))
    assert server.cmd("HLEN", f"rss:items:seen:{reader.one.scope}") == 70
    assert (await reader.shows(*(f"9-{n}" for n in range(20)))).new == ()
    assert (await reader.shows(*(f"8-{n}" for n in range(20)))).new == ()


async def test_many_items_are_published_in_steps_and_all_of_them(server, store):
    reader = Reader(store)
    many = [str(n) for n in range(250)]
    assert len((await reader.shows(*many)).new) == 250
    assert (await reader.shows(*many)).new == ()
    assert titles(server) == [f"Item {n}" for n in reversed(range(250))]


async def test_the_stream_is_trimmed_and_that_forgets_nothing(server, store):
    reader = Reader(store, stream_length=100)
    many = [str(n) for n in range(500)]
    await reader.shows(*many)
    assert server.cmd("XLEN", "rss:items") <= 300
    assert (await reader.shows(*many)).new == ()


async def test_everything_has_an_end(server, store):
    await Reader(store, remember_days=3).shows("1")
    kept = [key for key in server.cmd("KEYS", "*") if key != "rss:items"]
    assert len(kept) == 5
    assert all(2 * DAY_SEC < server.cmd("TTL", key) <= 3 * DAY_SEC for key in kept)


async def test_that_end_is_put_off_with_each_reading_also_of_one_that_finds_nothing(server, store):
    reader = Reader(store)
    await reader.shows("1")
    for key in server.cmd("KEYS", "rss:items:*"):
        server.cmd("EXPIRE", key, 60)
    failed = FeedState().after_failure("404", time.time(), None, gone=False)
    await store.save_state(reader.one, failed, reader.settings)
    assert all(server.cmd("TTL", key) > 60 for key in server.cmd("KEYS", "rss:items:*"))


async def test_of_two_that_read_at_once_each_publishes_what_the_other_has_not(server, store):
    reader = Reader(store)
    await reader.shows(FeedEntry("1", "", "One", "", ""))
    (before,) = await store.load_states([reader.one])
    await reader.shows(FeedEntry("2", "", "Two", "", ""), FeedEntry("1", "", "One!", "", ""), state=before)
    # the slower of the two has an older document: what it knows alone counts, what it contradicts does not
    late = await reader.shows(
        FeedEntry("3", "", "Three", "", ""), FeedEntry("1", "", "One", "", ""), state=before
    )
    assert (len(late.new), late.edited) == (1, ())
    assert titles(server) == ["One", "One!", "Two", "Three"]
    (after,) = await store.load_states([reader.one])
    assert after.turn == "2"  # nor does it say how the feed stands


async def test_a_feed_is_the_same_by_another_name_or_at_another_address(server, store):
    await Reader(store).shows("1")
    for changed in ({"name": "b"}, {"url": "http://a.example/feed/"}, {"url": "https://new.example/"}):
        feed = FEED.model_copy(update=changed)
        assert (await store.load_scopes([feed]))[feed.url] == claim_by_url(FEED.url)
    other = Feed(url="https://new.example/", name="b")
    assert (await store.load_scopes([other]))[other.url] == claim_by_url(other.url)


async def test_where_it_moved_to_it_is_the_same_unless_that_is_another_feed(server, store):
    reader, there, taken = Reader(store), "https://new.example/x", "https://b.example/feed"
    await Reader(store, Feed(url=taken, name="b")).shows("1")
    for moved in (there, taken):
        await store.save_state(reader.one, FeedState(read_at=time.time(), moved_to=moved), reader.settings)
    feeds = [Feed(url=there, name="x"), Feed(url=taken, name="b")]
    assert await store.load_scopes(feeds) == {there: claim_by_url(FEED.url), taken: claim_by_url(taken)}


async def test_whatever_lies_in_the_memory_is_no_crash(server, store):
    reader = Reader(store)
    await reader.shows("1")
    seen, state = f"rss:items:seen:{reader.one.scope}", f"rss:items:feed:{reader.one.scope}"
    ident = server.cmd("HKEYS", seen)[0]
    server.cmd("HSET", seen, ident, "nonsense", "x", "y", "z", "1:abc:1:2")
    server.cmd("HSET", state, "read_at", "nan", "turn", "x" * 50)
    server.cmd("SET", f"rss:items:scope:{claim_by_name('a')}", b"\xff" * 100)
    await store.load_scopes([FEED])
    await reader.shows("2", "1")
    assert titles(server)[-1] == "Item 2"


async def test_huge_values_in_the_memory_are_left_out_and_counted(server, store, monkeypatch):
    monkeypatch.setattr(BoundedParser, "max_reply_bytes", MIB)
    reader = Reader(store)
    await reader.shows("1")
    state, alias = f"rss:items:feed:{reader.one.scope}", f"rss:items:scope:{claim_by_name('a')}"
    server.cmd("HSET", state, "etag", "x" * 5 * MIB)
    server.cmd("HSET", state, "nobody's", "x" * 5 * MIB)
    server.cmd("SET", alias, "x" * 5 * MIB)
    before = count_unusable()
    assert (await store.load_scopes([FEED]))[FEED.url] == reader.one.scope
    (state,) = await store.load_states([reader.one])
    assert (state.validators.etag, state.turn) == ("", "1")
    assert count_unusable() == before + 2
    await reader.shows("2", "1")
    assert titles(server) == ["Item 1", "Item 2"]


async def test_a_state_of_another_type_is_no_state_and_counted(server, store):
    reader = Reader(store)
    server.cmd("SET", f"rss:items:feed:{reader.one.scope}", "x")
    server.cmd("RPUSH", f"rss:items:scope:{claim_by_name('a')}", "x")
    before = count_unusable()
    await store.load_scopes([FEED])
    assert (await store.load_states([reader.one]))[0].read_at == 0.0
    assert count_unusable() == before + 2


async def test_what_is_known_of_an_item_is_not_looked_at_when_it_is_huge(server, store):
    reader, seen = Reader(store), f"rss:items:seen:{claim_by_url(FEED.url)}"
    await reader.shows("2", "1")
    shown = server.cmd("HKEYS", seen)[0]
    server.cmd("HSET", seen, shown, "1:" + "a" * MIB + ":0")
    server.cmd("HSET", seen, "nobody's", "1:" + "a" * MIB + ":0")
    before = count_unusable()
    await reader.shows("2", "1")
    assert count_unusable() == before + 2
    assert sum(server.cmd("HSTRLEN", seen, ident) for ident in server.cmd("HKEYS", seen)) < 1000


async def test_a_memory_of_too_many_items_is_of_what_the_feed_shows_alone(server, store):
    reader, seen = Reader(store), f"rss:items:seen:{claim_by_url(FEED.url)}"
    await reader.shows("2", "1")
    fill = "for n = 1, 100000 do redis.call('HSET', KEYS[1], n, '1::1') end"
    server.cmd("EVAL", fill, 1, seen, within=20)
    before = count_unusable()
    assert (await reader.shows("2", "1")).new == ()
    assert server.cmd("HLEN", seen) == 2
    assert count_unusable() == before + 1
    assert titles(server) == ["Item 1", "Item 2"]


async def test_items_that_a_group_has_not_acknowledged_are_kept_up_to_twice_as_many(
    server, store, monkeypatch
):
    monkeypatch.setattr(stream_length, "READ_EVERY_SEC", 0.0)
    reader, shown = Reader(store, stream_length=200), [str(number) for number in range(700)]
    await reader.shows(shown[0])
    server.cmd("XGROUP", "CREATE", "rss:items", "slow", "0")
    for end in range(100, 400, 100):
        await reader.shows(*shown[end - 100 : end])
    assert len(stream(server)) == 300, "none of these is acknowledged"
    await reader.shows(*shown[300:])
    assert 400 <= len(stream(server)) < 500, "an absent reader must not fill the bus"
    server.cmd("XGROUP", "DESTROY", "rss:items", "slow")
    await reader.shows("more")
    assert len(stream(server)) <= 300
