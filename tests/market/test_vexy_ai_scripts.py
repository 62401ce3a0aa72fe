"""Each step of the queue by itself, on a real server: what it writes, and what it leaves alone."""

import asyncio
from collections import Counter
from dataclasses import replace

import orjson
import pytest

from marketswarm.bus import BusError
from marketswarm.bus.parser import MIB, BoundedParser
from marketswarm.bus.stored_values import count_unusable
from services.vexy_ai.digest_writer import commit_digest, load_notes, next_due_window
from services.vexy_ai.llm import spend_request
from services.vexy_ai.queue import Consumer, NoteStore
from services.vexy_ai.records import Record
from services.vexy_ai.settings import Source, StreamKind
from support.scenes.vexy_ai import entries
from support.waiting import auntil

ITEMS = Source("market-redis", "rss:items", StreamKind.ITEMS)
LONG = {"window_sec": 86_400, "notes": 1000}
SHORT = {"window_sec": 1, "notes": 1000}


@pytest.fixture
async def queue(bus):
    queue = Consumer(bus, [ITEMS], "group", "me")
    await queue.open()
    return queue


@pytest.fixture
def store(bus):
    return NoteStore(bus, "vexy:notes")


def make_note(entry, whose):
    return Record(
        entry, "note", whose, orjson.dumps(["kind", "note", "id", whose, "title", f"about {whose}"])
    )


def bar(entry, start, open_, close, whose="A"):
    prices = {"open": open_, "close": close, "high": max(open_, close), "low": min(open_, close)}
    return Record(entry, "bar", whose, orjson.dumps({"start": start, **prices}))


def probe(entry, *, ok, why="", whose="site"):
    return Record(entry, "probe", whose, orjson.dumps({"ok": ok, "why": why}))


def add(server, *ids):
    script = "for _, one in ipairs(ARGV) do redis.call('XADD', KEYS[1], '*', 'id', one) end"
    server.cmd("EVAL", script, 1, ITEMS.key, *ids)


async def taken(queue, server, *ids):
    add(server, *ids)
    return [each.id for each in await queue.read_new({ITEMS: 1000}, 0.01)]


def kept(server):
    """The windows' fields, without the windows' names."""
    found = server.cmd("HGETALL", "vexy:notes:windows")
    pairs = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    return {name.partition(" ")[2]: value for name, value in pairs.items()}


async def test_a_note_is_written_once_and_its_entry_is_off_the_list(server, queue, store):
    one, two = await taken(queue, server, "a", "b")
    assert await queue.settle(ITEMS, store, [make_note(one, "x")], **LONG) == 1
    assert await queue.settle(ITEMS, store, [make_note(one, "x"), make_note(two, "x")], **LONG) == 0
    assert [each["id"] for each in entries(server)] == ["x"]
    assert (await queue.read_backlog(ITEMS)).pending == 0
    assert kept(server)["n"] == "1"
    assert server.cmd("TTL", "vexy:notes:seen") > 0


async def test_a_step_that_fails_writes_nothing(server, queue, store):
    (one,) = await taken(queue, server, "a")
    for key in store.keys:
        server.cmd("DEL", *store.keys)
        server.cmd("SET", key, "in the way")
        with pytest.raises(BusError):
            await queue.settle(ITEMS, store, [make_note(one, "x")], **LONG)
        assert (await queue.read_backlog(ITEMS)).pending == 1
    server.cmd("DEL", *store.keys)
    assert await queue.settle(ITEMS, store, [make_note(one, "x")], **LONG) == 1


async def test_bars_are_joined_whatever_order_they_come_in(server, queue, store):
    ids = await taken(queue, server, *"abcd")
    made = [bar(ids[0], 2000, 11, 12), bar(ids[1], 3000, 12, 9), bar(ids[2], 1000, 10, 11)]
    assert await queue.settle(ITEMS, store, made, **LONG) == 3
    await queue.settle(ITEMS, store, [bar(ids[3], 1000, 1, 1, whose="B b")], **LONG)
    assert orjson.loads(kept(server)["bar A"]) == {
        "start": 1000, "last": 3000, "open": 10, "close": 9, "high": 12, "low": 9, "n": 3,
    }  # fmt: skip
    assert orjson.loads(kept(server)["bar B b"])["n"] == 1
    assert kept(server)["n"] == "0"
    assert entries(server) == []


async def test_what_comes_to_nothing_is_off_the_list_and_in_no_window(server, queue, store):
    (one,) = await taken(queue, server, "a")
    assert await queue.settle(ITEMS, store, [Record(one, "none", "A", b"{}")], **LONG) == 0
    assert (await queue.read_backlog(ITEMS)).pending == 0
    assert kept(server) == {}


async def test_what_another_one_settled_adds_nothing_to_a_window(server, queue, store):
    ids = await taken(queue, server, "a", "b")
    made = [probe(ids[0], ok=False, why="refused"), probe(ids[1], ok=True)]
    assert await queue.settle(ITEMS, store, made, **LONG) == 2
    assert await queue.settle(ITEMS, store, made, **LONG) == 0  # frozen meanwhile, and too late
    assert orjson.loads(kept(server)["probe site"]) == {"n": 2, "failed": 1, "why": "refused"}


async def test_a_window_holds_only_so_many_symbols(server, queue, store, monkeypatch):
    monkeypatch.setattr("services.vexy_ai.queue.WINDOW_FIELDS", 3)
    ids = await taken(queue, server, *"abcdef")
    made = [bar(entry, 1000, 1, 1, whose=f"S{n}") for n, entry in enumerate(ids)]
    assert await queue.settle(ITEMS, store, made, **LONG) == 3
    assert (await queue.read_backlog(ITEMS)).pending == 0
    assert len([name for name in kept(server) if name.startswith("bar")]) == 3


async def test_a_window_is_due_once_it_is_over_and_is_told_once(server, queue, store):
    assert await next_due_window(store) is None
    ids = await taken(queue, server, *(f"i{n}" for n in range(700)))
    for at in range(0, 700, 100):
        await queue.settle(
            ITEMS, store, [make_note(each, each.decode()) for each in ids[at : at + 100]], **SHORT
        )
    told = 0
    while told < 700:
        window = await auntil(lambda: next_due_window(store), 5)
        begins, ends = map(int, window.name.split("-"))
        assert ends == begins + 1 <= int(server.cmd("TIME")[0])
        notes = await load_notes(store, window)
        assert len(notes) == window.content.notes
        told += len(notes)
        both = [
            commit_digest(store, window, {"kind": "digest", "id": window.name}, notes=1000) for _ in range(2)
        ]
        assert sorted(await asyncio.gather(*both)) == [False, True]
    assert told == 700
    assert server.cmd("EXISTS", "vexy:notes:windows") == 0
    digests = [each["id"] for each in entries(server) if each["kind"] == "digest"]
    assert len(set(digests)) == len(digests)


async def test_a_window_that_has_grown_since_it_was_read_is_read_again(server, queue, store):
    (one,) = await taken(queue, server, "a")
    await queue.settle(ITEMS, store, [make_note(one, "a")], **SHORT)
    window = await auntil(lambda: next_due_window(store), 5)
    server.cmd("HINCRBY", "vexy:notes:windows", f"{window.name} n", 1)  # as if its clock had been set back
    assert not await commit_digest(store, window, {"kind": "digest"}, notes=1000)
    assert (await next_due_window(store)).content.notes == 2


async def test_what_comes_after_the_digest_of_its_time_is_in_the_next(server, queue, store):
    (one,) = await taken(queue, server, "a")
    now = int(server.cmd("TIME")[0])
    begins = now // 86_400 * 86_400
    server.cmd("ZADD", "vexy:notes:seen", now, f"digest:{begins}-{begins + 86_400}")
    await queue.settle(ITEMS, store, [make_note(one, "a")], **LONG)
    assert entries(server)[0]["window"] == f"{begins + 86_400}-{begins + 2 * 86_400}"


async def test_notes_that_were_trimmed_off_are_missing_and_counted(server, queue, store):
    ids = await taken(queue, server, *"abc")
    await queue.settle(ITEMS, store, [make_note(each, each.decode()) for each in ids], **SHORT)
    window = await auntil(lambda: next_due_window(store), 5)
    server.cmd("XTRIM", "vexy:notes", "MAXLEN", "=", 1)
    assert len(await load_notes(store, window)) < window.content.notes == 3


async def test_a_huge_entry_among_the_notes_is_skipped_and_counted(server, queue, store, monkeypatch):
    ids = await taken(queue, server, *"ab")
    monkeypatch.setattr(BoundedParser, "max_reply_bytes", MIB)
    await queue.settle(ITEMS, store, [make_note(ids[0], "a")], **SHORT)
    server.cmd("XADD", "vexy:notes", "*", "kind", "note", "title", "x" * 5 * MIB)
    await queue.settle(ITEMS, store, [make_note(ids[1], "b")], **SHORT)
    window = await auntil(lambda: next_due_window(store), 5)
    first, last = (
        server.cmd("XINFO", "STREAM", "vexy:notes")[f"{which}-entry"][0] for which in ("first", "last")
    )
    window = replace(window, content=replace(window.content, first=first, last=last))
    before = count_unusable()
    found = await load_notes(store, window)
    assert [one.id for one in found if one.id in ("a", "b")]
    assert count_unusable() == before + 1


@pytest.mark.parametrize("where", ["bar A", "n", "first"])
async def test_a_huge_field_of_a_window_is_taken_away_and_counted(server, bus, store, monkeypatch, where):
    monkeypatch.setattr(BoundedParser, "max_reply_bytes", MIB)
    windows = "vexy:notes:windows"
    for name in ("0-60", "60-120"):
        for field, value in {"n": 1, "first": "1-1", "last": "2-1", "probe site": "{}"}.items():
            server.cmd("HSET", windows, f"{name} {field}", value)
    server.cmd("HSET", windows, f"0-60 {where}", "x" * 5 * MIB)
    before = count_unusable()
    window = await next_due_window(store)
    assert window is not None
    assert window.name == ("60-120" if where == "n" else "0-60")
    assert await load_notes(store, window) == []
    assert count_unusable() >= before + 1
    assert server.cmd("HEXISTS", windows, f"0-60 {where}") == 0
    assert (await next_due_window(store)).name == window.name
    assert await commit_digest(store, window, {"kind": "digest"}, notes=1000)


async def test_windows_that_are_too_many_or_of_another_type_are_taken_away(server, bus, store, monkeypatch):
    monkeypatch.setattr("services.vexy_ai.digest_writer.MAX_FIELDS", 10)
    windows, before = "vexy:notes:windows", count_unusable()
    for n in range(11):
        server.cmd("HSET", windows, f"{n}-{n + 1} n", 1)
    assert await next_due_window(store) is None
    assert server.cmd("EXISTS", windows) == 0
    server.cmd("SET", windows, "x")
    assert await next_due_window(store) is None
    assert server.cmd("EXISTS", windows) == 0
    assert count_unusable() == before + 2


@pytest.mark.parametrize("odd", ["x", "9" * 5000, "-1", ""])
async def test_a_window_whose_numbers_are_none_is_closed_all_the_same(server, bus, store, odd):
    for field, value in {"n": 1, "first": "1-1", "last": odd}.items():
        server.cmd("HSET", "vexy:notes:windows", f"0-60 {field}", value)
    before = count_unusable()
    window = await next_due_window(store)
    assert await load_notes(store, window) == []
    assert count_unusable() > before
    assert await commit_digest(store, window, {"kind": "digest"}, notes=1000)
    assert await next_due_window(store) is None


async def test_an_entry_is_buried_once_and_only_by_who_still_has_it(server, queue, store):
    add(server, "a", "b")
    first, second = await queue.read_new({ITEMS: 10}, 0.01)
    assert await queue.dead_letter(first, "vexy:dead", "bad", 5.0)
    assert not await queue.dead_letter(first, "vexy:dead", "bad", 5.0)
    await queue.settle(ITEMS, store, [make_note(second.id, "b")], **LONG)
    assert not await queue.dead_letter(second, "vexy:dead", "bad", 5.0)
    (dead,) = entries(server, "vexy:dead")
    assert dead == {
        "stream": "rss:items",
        "entry": first.id.decode(),
        "group": "group",
        "reason": "bad",
        "tries": "1",
        "ts": "5.000",
        "item": '{"id":"a"}',
    }


async def test_what_is_taken_over_is_one_entry_and_tells_how_often_it_was_taken(server, bus, queue):
    await taken(queue, server, "a", "b")
    another = Consumer(bus, [ITEMS], "group", "another")
    assert await another.claim(ITEMS, 60) == (None, 0)
    entry, gone = await another.claim(ITEMS, 0)
    assert (entry.fields, entry.deliveries, gone) == ({b"id": b"a"}, 2, 0)
    pending = await bus.ask(bus.client.xpending_range("rss:items", "group", "-", "+", 10))
    assert [(one["consumer"], one["times_delivered"]) for one in pending] == [(b"another", 2), (b"me", 1)]
    server.cmd("XTRIM", "rss:items", "MAXLEN", "=", 0)
    entry, gone = await another.claim(ITEMS, 0)
    assert (entry, gone) == (None, 2)
    assert (await queue.read_backlog(ITEMS)).pending == 0


async def test_what_is_too_large_to_be_looked_at_again_is_not(server, bus, queue, monkeypatch):
    server.cmd("XADD", "rss:items", "*", "id", "a", "title", "x" * 1000)
    await queue.read_new({ITEMS: 10}, 0.01)
    monkeypatch.setattr("services.vexy_ai.queue.MAX_ENTRY_BYTES", 1000)
    entry, _ = await queue.claim(ITEMS, 0)
    assert (entry.fields, entry.is_complete, entry.deliveries) == ({}, False, 2)
    monkeypatch.setattr("services.vexy_ai.queue.MAX_ENTRY_BYTES", 1008)
    entry, _ = await queue.claim(ITEMS, 0)
    assert (entry.size, entry.is_complete) == (1008, True)


async def test_of_each_stream_so_many_are_read_and_of_one_without_room_none(server, bus):
    streams = [Source("market-redis", f"s{n}", StreamKind.ITEMS) for n in range(4)]
    queue = Consumer(bus, streams, "group", "me")
    await queue.open()
    for stream in streams:
        for _ in range(5):
            server.cmd("XADD", stream.key, "*", "id", 1)
    found = await queue.read_new(dict(zip(streams, (1, 3, 0, 3), strict=True)), 0.01)
    assert Counter(entry.source.key for entry in found) == {"s0": 1, "s1": 3, "s3": 3}
    assert await queue.read_new({}, 0.01) == []


async def test_who_leaves_gives_back_what_he_has_at_once(server, bus, queue):
    await taken(queue, server, "a")
    await queue.close()
    another = Consumer(bus, [ITEMS], "group", "another")
    entry, _ = await another.claim(ITEMS, 86_400)
    assert entry.deliveries == 2  # taken by two, and by nobody else


async def test_how_far_a_group_has_come(server, queue):
    found = await queue.read_backlog(ITEMS)
    assert (found.pending, found.unread, found.oldest_sec, found.lost) == (0, 0, 0.0, 0)
    old = int(server.cmd("TIME")[0]) * 1000 - 10_000
    for n in range(5):
        server.cmd("XADD", "rss:items", f"{old + n}-1", "id", n)
    found = await queue.read_backlog(ITEMS)
    assert (found.unread, found.lost) == (5, 0)
    assert 9 < found.oldest_sec < 60
    await queue.read_new({ITEMS: 1}, 0.01)
    server.cmd("XTRIM", "rss:items", "MAXLEN", "=", 2)
    found = await queue.read_backlog(ITEMS)
    assert (found.pending, found.unread, found.lost) == (1, 2, 2)
    await queue.read_new({ITEMS: 1}, 0.01)
    found = await queue.read_backlog(ITEMS)
    assert (found.pending, found.unread, found.lost) == (2, 1, 2)


async def test_many_that_wait_are_as_many_as_the_server_says_unless_it_lost_count(server, queue):
    add(server, *(f"i{n}" for n in range(500)))
    assert (await queue.read_backlog(ITEMS)).unread == 500
    await queue.read_new({ITEMS: 1}, 0.01)
    assert (await queue.read_backlog(ITEMS)).unread == 499
    ids = [entry for entry, _ in server.cmd("XRANGE", "rss:items", "-", "+")]
    server.cmd("XDEL", "rss:items", ids[250])
    found = await queue.read_backlog(ITEMS)
    assert (found.unread, found.lost) == (-1, 0)
    server.cmd("XDEL", "rss:items", *ids[251:450])
    await queue.read_new({ITEMS: 200}, 0.01)
    assert (await queue.read_backlog(ITEMS)).unread == 99


async def test_a_group_that_is_gone_is_an_error(server, queue):
    server.cmd("XGROUP", "DESTROY", "rss:items", "group")
    with pytest.raises(BusError, match="NOGROUP"):
        await queue.read_backlog(ITEMS)


async def test_no_more_is_spent_than_there_is_and_no_less(server, store):
    spent = await asyncio.gather(*(spend_request(store, 5) for _ in range(20)))
    assert sum(spent) == 5
    hour = int(server.cmd("HGET", "vexy:notes:llm", "hour"))
    server.cmd("HSET", "vexy:notes:llm", "hour", hour - 1)
    assert await spend_request(store, 5)
    assert not await spend_request(store, 0)
