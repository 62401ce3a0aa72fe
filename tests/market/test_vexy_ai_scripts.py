"""Each step of the note store by itself, on a real server: what it writes, and what it leaves alone."""

import asyncio
from dataclasses import replace

import orjson
import pytest

from marketswarm.bus import BusError, stream_length
from marketswarm.bus.backlog import read_backlog
from marketswarm.bus.consumer import Consumer
from marketswarm.bus.parser import MIB, BoundedParser
from marketswarm.bus.stored_values import count_unusable
from services.vexy_ai.digest_writer import commit_digest, load_notes, next_due_window
from services.vexy_ai.note_store import NoteStore
from services.vexy_ai.records import Record
from support.scenes.vexy_ai import entries
from support.waiting import auntil

ITEMS = "rss:items"
LONG = {"window_sec": 86_400, "notes": 1000}
SHORT = {"window_sec": 1, "notes": 1000}


@pytest.fixture
async def consumer(bus):
    consumer = Consumer(bus, [ITEMS], "group", "me")
    await consumer.open()
    return consumer


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
    server.cmd("EVAL", script, 1, ITEMS, *ids)


async def taken(consumer, server, *ids):
    add(server, *ids)
    return [each.id for each in await consumer.read_new({ITEMS: 1000}, 0.01)]


async def pending(consumer):
    return (await read_backlog(consumer.bus, ITEMS, "group")).pending


def kept(server):
    """The windows' fields, without the windows' names."""
    found = server.cmd("HGETALL", "vexy:notes:windows")
    pairs = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    return {name.partition(" ")[2]: value for name, value in pairs.items()}


async def test_a_note_is_written_once_and_its_entry_is_off_the_list(server, consumer, store):
    one, two = await taken(consumer, server, "a", "b")
    assert await store.settle(consumer, ITEMS, [make_note(one, "x")], **LONG) == 1
    assert await store.settle(consumer, ITEMS, [make_note(one, "x"), make_note(two, "x")], **LONG) == 0
    assert [each["id"] for each in entries(server)] == ["x"]
    assert await pending(consumer) == 0
    assert kept(server)["n"] == "1"
    assert server.cmd("TTL", "vexy:notes:seen") > 0


async def test_a_step_that_fails_writes_nothing(server, consumer, store):
    (one,) = await taken(consumer, server, "a")
    for key in store.keys:
        server.cmd("DEL", *store.keys)
        server.cmd("SET", key, "in the way")
        with pytest.raises(BusError):
            await store.settle(consumer, ITEMS, [make_note(one, "x")], **LONG)
        assert await pending(consumer) == 1
    server.cmd("DEL", *store.keys)
    assert await store.settle(consumer, ITEMS, [make_note(one, "x")], **LONG) == 1


async def test_bars_are_joined_whatever_order_they_come_in(server, consumer, store):
    ids = await taken(consumer, server, *"abcd")
    made = [bar(ids[0], 2000, 11, 12), bar(ids[1], 3000, 12, 9), bar(ids[2], 1000, 10, 11)]
    assert await store.settle(consumer, ITEMS, made, **LONG) == 3
    await store.settle(consumer, ITEMS, [bar(ids[3], 1000, 1, 1, whose="B b")], **LONG)
    assert orjson.loads(kept(server)["bar A"]) == {
        "start": 1000, "last": 3000, "open": 10, "close": 9, "high": 12, "low": 9, "n": 3,
    }  # fmt: skip
    assert orjson.loads(kept(server)["bar B b"])["n"] == 1
    assert kept(server)["n"] == "0"
    assert entries(server) == []


async def test_what_comes_to_nothing_is_off_the_list_and_in_no_window(server, consumer, store):
    (one,) = await taken(consumer, server, "a")
    assert await store.settle(consumer, ITEMS, [Record(one, "none", "A", b"{}")], **LONG) == 0
    assert await pending(consumer) == 0
    assert kept(server) == {}


async def test_what_another_one_settled_adds_nothing_to_a_window(server, consumer, store):
    ids = await taken(consumer, server, "a", "b")
    made = [probe(ids[0], ok=False, why="refused"), probe(ids[1], ok=True)]
    assert await store.settle(consumer, ITEMS, made, **LONG) == 2
    assert await store.settle(consumer, ITEMS, made, **LONG) == 0  # frozen meanwhile, and too late
    assert orjson.loads(kept(server)["probe site"]) == {"n": 2, "failed": 1, "why": "refused"}


async def test_a_window_holds_only_so_many_symbols(server, consumer, store, monkeypatch):
    monkeypatch.setattr("services.vexy_ai.note_store.WINDOW_FIELDS", 3)
    ids = await taken(consumer, server, *"abcdef")
    made = [bar(entry, 1000, 1, 1, whose=f"S{n}") for n, entry in enumerate(ids)]
    assert await store.settle(consumer, ITEMS, made, **LONG) == 3
    assert await pending(consumer) == 0
    assert len([name for name in kept(server) if name.startswith("bar")]) == 3


async def test_a_window_is_due_once_it_is_over_and_is_told_once(server, consumer, store):
    assert await next_due_window(store) is None
    ids = await taken(consumer, server, *(f"i{n}" for n in range(700)))
    for at in range(0, 700, 100):
        await store.settle(
            consumer, ITEMS, [make_note(each, each.decode()) for each in ids[at : at + 100]], **SHORT
        )
    told = 0
    while told < 700:
        window = await auntil(lambda: next_due_window(store))
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


async def test_a_window_that_has_grown_since_it_was_read_is_read_again(server, consumer, store):
    (one,) = await taken(consumer, server, "a")
    await store.settle(consumer, ITEMS, [make_note(one, "a")], **SHORT)
    window = await auntil(lambda: next_due_window(store))
    server.cmd("HINCRBY", "vexy:notes:windows", f"{window.name} n", 1)  # as if its clock had been set back
    assert not await commit_digest(store, window, {"kind": "digest"}, notes=1000)
    assert (await next_due_window(store)).content.notes == 2


async def test_what_comes_after_the_digest_of_its_time_is_in_the_next(server, consumer, store):
    (one,) = await taken(consumer, server, "a")
    now = int(server.cmd("TIME")[0])
    begins = now // 86_400 * 86_400
    server.cmd("ZADD", "vexy:notes:seen", now, f"digest:{begins}-{begins + 86_400}")
    await store.settle(consumer, ITEMS, [make_note(one, "a")], **LONG)
    assert entries(server)[0]["window"] == f"{begins + 86_400}-{begins + 2 * 86_400}"


async def test_notes_that_were_trimmed_off_are_missing_and_counted(server, consumer, store):
    ids = await taken(consumer, server, *"abc")
    await store.settle(consumer, ITEMS, [make_note(each, each.decode()) for each in ids], **SHORT)
    window = await auntil(lambda: next_due_window(store))
    server.cmd("XTRIM", "vexy:notes", "MAXLEN", "=", 1)
    assert len(await load_notes(store, window)) < window.content.notes == 3


async def test_a_huge_entry_among_the_notes_is_skipped_and_counted(server, consumer, store, monkeypatch):
    ids = await taken(consumer, server, *"ab")
    monkeypatch.setattr(BoundedParser, "max_reply_bytes", MIB)
    await store.settle(consumer, ITEMS, [make_note(ids[0], "a")], **SHORT)
    server.cmd("XADD", "vexy:notes", "*", "kind", "note", "title", "x" * 5 * MIB)
    await store.settle(consumer, ITEMS, [make_note(ids[1], "b")], **SHORT)
    window = await auntil(lambda: next_due_window(store))
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


async def test_notes_that_a_group_has_not_acknowledged_are_kept_and_a_digest_takes_none_of_them(
    server, consumer, store, monkeypatch
):
    monkeypatch.setattr(stream_length, "READ_EVERY_SEC", 0.0)
    limits = {"window_sec": 1, "notes": 100}

    async def note(*names):
        found = await taken(consumer, server, *names)
        records = [make_note(entry, name) for entry, name in zip(found, names, strict=True)]
        await store.settle(consumer, ITEMS, records, **limits)

    await note("first")
    server.cmd("XGROUP", "CREATE", "vexy:notes", "mine", "0")
    for start in range(0, 300, 60):
        await note(*(f"n{number}" for number in range(start, start + 60)))
        if start == 60:
            assert server.cmd("XLEN", "vexy:notes") == 121
    assert 200 <= server.cmd("XLEN", "vexy:notes") < 301
    window = await auntil(lambda: next_due_window(store))
    assert await commit_digest(store, window, {"kind": "digest"}, notes=100)
    assert server.cmd("XLEN", "vexy:notes") >= 200, "its group has read none of them"
