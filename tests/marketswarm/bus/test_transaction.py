"""Transactions on a real server against a model, and what the server may refuse of them, write by write."""

import asyncio
import contextlib

import orjson
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.bus import Bus, BusError
from marketswarm.bus.transaction import TRANSACTION, BusTransaction, commit, commit_each
from support.examples import examples
from support.rig.refusing_servers import Full, Lonely, Replica, Unsaving

HASHES, ENDABLE, RENEWED = ("h1", "h2", "h3"), ("s1", "s2"), "n"
STREAMS = (*ENDABLE, RENEWED)
LAST_ID = "18446744073709551615-18446744073709551615"
KEPT_SEC = 500
COMMANDS = dict.fromkeys(HASHES, ("HGET", "HSET", "HDEL", "EXPIRE")) | dict.fromkeys(
    STREAMS, ("XADD", "TYPE", "DEL")
)

WHOLE = [
    ([], [], [("h1", {"a": "1"}, [], None)]),
    (
        [("h3", "a", "")],
        [("s1", "x"), ("s2", "y"), ("n", "z")],
        [("h1", {"b": "1"}, ["a"], KEPT_SEC), ("h2", {"a": "1"}, ["b"], KEPT_SEC)],
    ),
]
"""A call that writes every key but one, which it compares."""
TROUBLES = [
    *(("type", key) for key in (*HASHES, *STREAMS)),
    *(("ended", key) for key in STREAMS),
    *((command, key) for key, commands in COMMANDS.items() for command in commands),
]

fields = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=2)
guards = st.tuples(st.sampled_from(HASHES), st.sampled_from("abc"), st.sampled_from(["", "", "1", "2"]))
entries = st.tuples(st.sampled_from(STREAMS), st.sampled_from("xyz"))
writes = st.tuples(
    st.sampled_from(HASHES),
    fields,
    st.lists(st.sampled_from("abc"), max_size=2),
    st.sampled_from([None, None, KEPT_SEC]),
)
steps = st.tuples(
    st.lists(guards, max_size=2), st.lists(entries, max_size=3), st.lists(writes, max_size=2)
)  # of one transaction
calls = st.lists(steps, min_size=1, max_size=3)
troubles = st.sampled_from([None, *TROUBLES])


def make(step):
    transaction = BusTransaction()
    for guard in step[0]:
        transaction.require(*guard)
    for stream, value in step[1]:
        transaction.add_entry(stream, {"entry": value}, 1000, begin_anew=stream == RENEWED)
    for key, new, gone, kept_sec in step[2]:
        transaction.write_hash(key, new, gone, kept_sec=kept_sec)
    return transaction


class Model:
    """What the keys of a server hold: hashes as dicts, streams as lists, and which hashes expire."""

    def __init__(self, found=None):
        found = found or {}
        self.hashes = {key: dict(found.get(key, ({}, False))[0]) for key in HASHES}
        self.streams = {key: list(found.get(key, [])) for key in STREAMS}
        self.expiring = {key for key in HASHES if key in found and found[key][1]}
        self.ended = ""

    def commit(self, call):
        """Return the outcome of each transaction; None in the place of one that an ended stream refuses."""
        used = {stream for _, added, _ in call for stream, _ in added}
        if self.ended in used and self.ended != RENEWED and len(used) > 1:
            return [None]
        outcome = []
        for guarded, added, written in call:
            outcome.append(all(self.hashes[key].get(name, "") == value for key, name, value in guarded))
            if outcome[-1] and self.ended in ENDABLE and self.ended in {stream for stream, _ in added}:
                return [*outcome[:-1], None]
            if outcome[-1]:
                self.write(added, written)
        return outcome

    def write(self, added, written):
        for stream, value in added:
            if stream == self.ended:
                self.streams[stream], self.ended = [], ""
            self.streams[stream].append(value)
        for key, new, gone, kept_sec in written:
            self.hashes[key] |= new
            for name in gone:
                self.hashes[key].pop(name, None)
            if kept_sec is not None:
                self.expiring.add(key)
            if not self.hashes[key]:
                self.expiring.discard(key)

    def refuses(self, trouble, call):
        """Return whether a call needs what the server refuses: a key of another type, or a command on it."""
        what, key = trouble or ("", "")
        for guarded, added, written in call:
            guard_keys, streams = {guard[0] for guard in guarded}, {stream for stream, _ in added}
            needed = {("HGET", each) for each in guard_keys} | {("DEL", each) for each in streams & {RENEWED}}
            needed |= {(command, each) for command in ("XADD", "TYPE") for each in streams}
            for hash_key, new, gone, kept_sec in written:
                needed.add(("HGET", hash_key))
                needed |= {("HSET", hash_key)} if new else set()
                needed |= {("HDEL", hash_key)} if gone else set()
                needed |= {("EXPIRE", hash_key)} if kept_sec is not None else set()
            if (what, key) in needed or (what == "type" and key in {each for _, each in needed}):
                return True
        return False


class Keys:
    """The keys on the server, as a client that may do everything sees and spoils them."""

    def __init__(self, client):
        self.client = client

    def empty(self):
        self.client.flushall()
        self.client.execute_command("ACL", "SETUSER", "tried", "reset", "on", "nopass", "+@all", "~*", "&*")

    def read(self):
        found = {}
        for key in (*HASHES, *STREAMS):
            kind = self.client.type(key)
            if kind == "hash":
                found[key] = self.client.hgetall(key), self.client.ttl(key) > 0
            elif kind == "stream":
                found[key] = [each["entry"] for _, each in self.client.xrange(key)]
            elif kind != "none":
                found[key] = kind
        return found

    def spoil(self, trouble):
        what, key = trouble or ("", "")
        if what == "type":
            self.client.set(key, "of another type")
        elif what == "ended":
            self.client.xadd(key, {"entry": "last"}, id=LAST_ID)
        elif what:
            others = [f"~{each}" for each in (*HASHES, *STREAMS) if each != key]
            allowed = f"(+{what.lower()} {' '.join(others)})"
            words = ("reset", "on", "nopass", "+@all", f"-{what.lower()}", "~*", "&*", allowed)
            self.client.execute_command("ACL", "SETUSER", "tried", *words)


def as_read(model):
    found = {key: (new, key in model.expiring) for key, new in model.hashes.items() if new}
    return found | {key: added for key, added in model.streams.items() if added}


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def keys(server):
    with contextlib.closing(redis.Redis(port=server.port, decode_responses=True, protocol=2)) as client:
        yield Keys(client)


@pytest.fixture(params=["function", "script"])
def tried(request, server, keys, runner):
    """A bus for the user `tried`, on a server that has the function, and on one that is sent the script."""
    keys.client.execute_command("FUNCTION", "FLUSH")
    if request.param == "function":
        name = TRANSACTION.function
        keys.client.execute_command("FUNCTION", "LOAD", f"#!lua name={name}\n{TRANSACTION.library}")
    keys.empty()
    bus = Bus("market-redis", server.url.replace("//", "//tried:x@"))
    yield bus
    runner.run(bus.aclose())


def play_trouble(tried, keys, runner, first, *then):
    """Make a call, then another one that meets a trouble, and compare with the model what is stored."""
    trouble, second = then
    keys.empty()
    model = Model()
    assert runner.run(commit_each(tried, list(map(make, first)))) == model.commit(first)
    assert keys.read() == as_read(model)
    keys.spoil(trouble)
    spoiled = keys.read()
    what, key = trouble or ("", "")
    if what == "ended":
        model.ended = key
        model.streams[key].append("last")
    expected = [None] if model.refuses(trouble, second) else model.commit(second)
    if None in expected:
        with pytest.raises(BusError, match="exhausted the last" if what == "ended" else None):
            runner.run(commit_each(tried, list(map(make, second))))
    else:
        assert runner.run(commit_each(tried, list(map(make, second)))) == expected
    found = keys.read()
    if what == "type":
        assert found.pop(key) == spoiled[key]
    assert found == {each: value for each, value in as_read(model).items() if (what, each) != ("type", key)}


@pytest.mark.parametrize("trouble", TROUBLES, ids=" ".join)
def test_a_call_that_the_server_refuses_a_part_of_writes_nothing(tried, keys, runner, trouble):
    is_refused = Model().refuses(trouble, WHOLE) or (trouble[0] == "ended" and trouble[1] != RENEWED)
    assert is_refused == (
        trouble
        not in {("ended", "n"), ("HSET", "h3"), ("HDEL", "h3"), ("EXPIRE", "h3")}
        | {("DEL", key) for key in ENDABLE}
    )
    play_trouble(tried, keys, runner, [], trouble, WHOLE)
    play_trouble(tried, keys, runner, WHOLE, trouble, WHOLE)


def test_each_transaction_is_written_as_a_whole_or_not_at_all(tried, keys, runner):
    @settings(max_examples=examples(250), deadline=None)
    @given(calls, troubles, calls)
    def play(first, trouble, second):
        play_trouble(tried, keys, runner, first, trouble, second)

    play()


@pytest.mark.parametrize("refusal", [Full, Replica, Lonely, Unsaving])
def test_a_server_that_takes_no_writes_takes_none_of_a_transaction(server, tried, keys, runner, refusal):
    whole = ([], [("s1", "x"), ("s2", "y"), ("n", "z")], [("h1", {"a": "1"}, ["b"], KEPT_SEC)])
    before, refusing = ([], [("s1", "w")], [("h1", {"b": "2"}, [], None)]), refusal(server)

    @settings(max_examples=examples(100), deadline=None)
    @given(calls)
    def play(call):
        stored = keys.read()
        model = Model(stored)
        expected = model.commit(call)
        try:
            outcome = runner.run(commit_each(tried, list(map(make, call))))
        except BusError as error:
            outcome, reason = None, error.reason
        if outcome is None:
            assert (reason, keys.read()) == (refusal.reason, stored)
        else:  # nothing was to be written, or there is memory enough to delete
            assert (outcome, keys.read()) == (expected, as_read(model))
            assert refusal is Full or keys.read() == stored

    runner.run(commit(tried, make(before)))
    stored = keys.read()
    refusing.begin()
    try:
        with pytest.raises(BusError):
            runner.run(commit(tried, make(whole)))
        assert keys.read() == stored
        play()
    finally:
        refusing.end()
    assert runner.run(commit(tried, make(whole)))


async def test_more_fields_than_lua_can_pass_at_once_are_set_and_deleted(bus):
    many = {f"f{n}": "x" * 10 for n in range(20_000)}
    transaction = BusTransaction()
    transaction.write_hash("h1", many)
    assert await commit(bus, transaction)
    assert await bus.client.hlen("h1") == len(many)
    transaction.write_hash("h1", {}, list(many)[1:], expires_at=4_000_000_000)
    assert await commit(bus, transaction)
    assert await bus.client.hgetall("h1") == {b"f0": b"x" * 10}
    assert await bus.client.expiretime("h1") == 4_000_000_000


async def test_an_entry_of_more_fields_than_lua_can_pass_writes_nothing(bus):
    transaction = BusTransaction()
    transaction.add_entry("s1", {"entry": "x"}, 10)
    transaction.add_entry("s1", {f"f{n}": "x" for n in range(5000)}, 10)
    with pytest.raises(BusError, match="names and values"):
        await commit(bus, transaction)
    assert not await bus.client.exists("s1")


async def test_values_are_kept_byte_by_byte_and_a_stream_keeps_its_length(bus):
    raw, text = bytes(range(256)), orjson.dumps({"a": 'ü"\\\n\x00'}).decode()
    transaction = BusTransaction()
    transaction.write_hash("h1", {"a": raw, "b": ""})
    for _ in range(500):
        transaction.add_entry("s1", {"entry": text}, 100)
    assert await commit(bus, transaction)
    assert await bus.client.hgetall("h1") == {b"a": raw, b"b": b""}
    assert 100 <= await bus.client.xlen("s1") < 300
    assert (await bus.client.xrevrange("s1", count=1))[0][1] == {b"entry": text.encode()}


@pytest.mark.parametrize(
    ("ahead_ms", "is_done"), [(None, True), (0, True), (1, False), (299_000, False), (301_000, True)]
)
async def test_a_higher_epoch_keeps_a_lower_one_out_unless_no_lease_can_have_it(bus, ahead_ms, is_done):
    now_ms = (await bus.client.time())[0] * 1000
    if ahead_ms is not None:
        await bus.client.hset("h1", "epoch", str(now_ms + ahead_ms))
    transaction = BusTransaction()
    transaction.require_epoch("h1", "epoch", now_ms)
    transaction.write_hash("h1", {"a": "1"})
    assert await commit(bus, transaction) is is_done
    assert await bus.client.hget("h1", "a") == (b"1" if is_done else None)


async def test_the_transactions_of_one_request_see_what_those_before_them_wrote(bus):
    first, second, third = BusTransaction(), BusTransaction(), BusTransaction()
    for transaction, old, new in ((first, "", "1"), (second, "", "2"), (third, "1", "3")):
        transaction.require("h1", "version", old)
        transaction.write_hash("h1", {"version": new})
    assert await commit_each(bus, [first, second, third]) == [True, False, True]
    assert await commit_each(bus, []) == []
