"""The notifier's memory on real buses: the same on each, whole where it was away, fenced by the lease."""

import asyncio
import contextlib
import statistics
import time
from itertools import chain

import pytest
import redis

from marketswarm.bus import Bus, BusError
from marketswarm.bus.lease import RENEWALS
from marketswarm.keys import NOTIFIER_LEASE
from marketswarm.tasks import end_tasks
from notifier.lease import NotifierLease
from notifier.store import WITHIN_SEC, RefusedMessage, Store, Transaction
from support.rig import Server
from support.waiting import PATIENT_SEC, auntil


@pytest.fixture
def servers(tmp_path):
    with Server(tmp_path / "a") as a, Server(tmp_path / "b") as b:
        yield {"a": a, "b": b}


@contextlib.asynccontextmanager
async def running(servers, boot="me"):
    """A store over these servers, loaded."""
    buses = {name: Bus(name, server.url) for name, server in servers.items()}
    away: list[str] = []
    store = Store(boot, buses, rejected=away.append, acknowledged=lambda *_: None)
    store.away = away  # type: ignore[attr-defined]
    task = None
    try:
        store.loaded = await store.load()  # type: ignore[attr-defined]
        task = asyncio.create_task(store.run())
        yield store
    finally:
        if task is not None:
            await end_tasks(task)
        for bus in buses.values():
            await bus.aclose()


def state(server):
    try:
        found = server.cmd("HGETALL", "notifier:state")
    except redis.ResponseError:  # what is there is none
        return None
    return {name: value for name, value in found.items() if name not in ("seq", "by", "past")}


async def same(servers, expected):
    for server in servers.values():
        await auntil(lambda server=server: state(server) == expected, what=f"{expected} on {server}")


def refusals(store):
    return {name: each.refusal for name, each in store.writers.items() if each.refusal is not None}


async def test_each_turn_is_on_every_bus_and_a_restart_finds_it(servers):
    async with running(servers) as store:
        assert store.loaded == {}
        assert await store.commit(Transaction({"r:a": b"1", "r:b": b"2"}, records={"e.1": b'{"ts":1}'}))
        assert await store.commit(Transaction({"r:a": None, "r:c": b"\x00\xff"}))
        dead = RefusedMessage(b"{}", "slack", "404", 1.5)
        assert await store.commit(Transaction(dead=[dead], answers={"ask1": [b"one", b"two"]}))
        await store.settle()
    for server in servers.values():
        assert server.cmd("HGET", "notifier:state", "r:b") == "2"
        assert server.cmd("HEXISTS", "notifier:state", "r:a") == 0
        assert server.cmd("GET", "notifier:told:e.1") == '{"ts":1}'
        assert 86_000 < server.cmd("TTL", "notifier:told:e.1") <= 86_400
        [(_, fields)] = server.cmd("XRANGE", "notifier:dead", "-", "+")
        said = ["message", "{}", "channel", "slack", "reason", "404", "ts", "1.500"]
        assert (fields if isinstance(fields, list) else [*chain.from_iterable(fields.items())]) == said
        assert server.cmd("LRANGE", "notifier:answers:ask1", 0, -1) == ["one", "two"]
        assert 0 < server.cmd("TTL", "notifier:answers:ask1") <= 3600
    async with running(servers, "next") as store:
        assert store.loaded == {"r:b": b"2", "r:c": b"\x00\xff"}


async def test_a_bus_that_was_away_has_everything_when_it_is_back(servers):
    async with running(servers) as store:
        await store.commit(Transaction({"r:a": b"1"}))
        servers["b"].kill()
        for n in range(20):
            assert await store.commit(Transaction({f"r:{n}": b"x"}, records={f"e.{n}": b"{}"}))
        assert refusals(store) == {"b": "refused"}
        servers["b"].start()
        await same(servers, {"r:a": "1", **{f"r:{n}": "x" for n in range(20)}})
        assert servers["b"].cmd("EXISTS", *(f"notifier:told:e.{n}" for n in range(20))) == 20
        await auntil(lambda: refusals(store) == {})


async def test_a_frozen_bus_delays_nobody(servers):
    async with running(servers) as store:
        await store.commit(Transaction({"r:a": b"1"}))
        servers["a"].freeze()
        took_sec = []
        for n in range(5):
            begun = time.monotonic()
            assert await store.commit(Transaction({f"r:{n}": b"x"}))
            took_sec.append(time.monotonic() - begun)
        assert statistics.median(took_sec) < WITHIN_SEC / 2
        servers["a"].thaw()
        await same(servers, {"r:a": "1", **{f"r:{n}": "x" for n in range(5)}})


async def test_without_any_bus_nothing_is_stored_and_that_is_said_soon(servers):
    async with running(servers) as store:
        for server in servers.values():
            server.kill()
        assert not await store.commit(Transaction({"r:a": b"1"}))
        took_sec = []
        for _ in range(3):
            begun = time.monotonic()
            assert not await store.commit(Transaction({"r:b": b"1"}))
            took_sec.append(time.monotonic() - begun)
        assert min(took_sec) < 0.5
        servers["a"].start()
        await auntil(lambda: state(servers["a"]) == {"r:a": "1", "r:b": "1"})


async def test_a_state_that_somebody_deleted_is_written_anew(servers):
    async with running(servers) as store:
        await store.commit(Transaction({"r:a": b"1"}))
        await store.settle()
        servers["a"].cmd("FLUSHALL")
        store.writers["a"].check_seq(None)
        await auntil(lambda: state(servers["a"]) == {"r:a": "1"})
        servers["b"].cmd("SET", "notifier:state", "a string")
        servers["b"].cmd("SET", "notifier:dead", "a string")
        servers["b"].cmd("LPUSH", NOTIFIER_LEASE, "no lease")
        await store.commit(Transaction({"r:b": b"1"}, dead=[RefusedMessage(b"{}", "c", "404", 1.0)]))
        await same(servers, {"r:a": "1", "r:b": "1"})
        assert servers["b"].cmd("XLEN", "notifier:dead") == 1


def ooms(server):
    return server.cmd("INFO", "errorstats").get("errorstat_OOM", {}).get("count", 0)


async def test_a_full_bus_takes_nothing_and_then_everything(servers, tmp_path):
    async with running(servers) as store:
        await store.commit(Transaction({"r:a": b"1"}))
        await store.settle()
        servers["a"].cmd("CONFIG", "SET", "maxmemory", "1")
        assert await store.commit(Transaction({"r:b": b"1"}, records={"e.1": b"{}"}))
        await auntil(lambda: refusals(store) == {"a": "oom"})
        refused = ooms(servers["a"])
        await auntil(lambda: ooms(servers["a"]) > refused + 1, what="the whole state to be offered again")
        assert state(servers["a"]) == {"r:a": "1"}, "what it had is there as long as it takes nothing else"
        servers["a"].cmd("CONFIG", "SET", "maxmemory", "0")
        await same(servers, {"r:a": "1", "r:b": "1"})
        assert servers["a"].cmd("EXISTS", "notifier:told:e.1") == 1


async def test_who_does_not_hold_the_lease_changes_nothing(servers):
    for server in servers.values():
        server.cmd("SET", NOTIFIER_LEASE, "another")
    async with running(servers) as store:
        assert not await store.commit(Transaction({"r:a": b"1"}, records={"e.1": b"{}"}))
        assert set(store.away) == {"a", "b"}
        for server in servers.values():
            assert server.cmd("EXISTS", "notifier:state", "notifier:told:e.1") == 0
            server.cmd("SET", NOTIFIER_LEASE, "me")
        await same(servers, {"r:a": "1"})


async def test_entries_of_the_log_are_acknowledged_with_the_turn(servers):
    ids = {}
    for name, server in servers.items():
        server.cmd("XGROUP", "CREATE", "healer:alerts:log", "notifier", "0", "MKSTREAM")
        ids[name] = [server.cmd("XADD", "healer:alerts:log", "*", "event", str(n)) for n in range(3)]
        server.cmd("XREADGROUP", "GROUP", "notifier", "me", "STREAMS", "healer:alerts:log", ">")
    async with running(servers) as store:
        acks = {name: [ids[name][0].encode(), ids[name][2].encode()] for name in servers}
        await store.commit(Transaction(log_acks=acks))
        await store.settle()
    for name, server in servers.items():
        left = server.cmd("XPENDING", "healer:alerts:log", "notifier")
        assert (left["pending"], left["min"]) == (1, ids[name][1])


async def test_no_state_to_be_read_is_an_error(servers):
    for server in servers.values():
        server.kill()
    with pytest.raises(BusError):
        async with running(servers):
            pass


class Candidate:
    """A notifier as far as its lease goes; ends as by a kill."""

    def __init__(self, servers, boot, lease_sec=1.5):
        self.buses = {name: Bus(name, server.url) for name, server in servers.items()}
        self.lease = NotifierLease(boot, self.buses, lease_sec)
        self.task = asyncio.create_task(self.lease.run())

    async def __aenter__(self):
        return self.lease

    async def __aexit__(self, *_error):
        await end_tasks(self.task)
        for bus in self.buses.values():
            await bus.aclose()


async def outlive_a_lease(server):
    """Wait until somebody has renewed the lease on this server so often that its life is over otherwise."""
    seen = [0, server.cmd("PTTL", NOTIFIER_LEASE)]

    def renewed():
        left_ms = server.cmd("PTTL", NOTIFIER_LEASE)
        seen[:] = seen[0] + (left_ms > seen[1]), left_ms
        return seen[0] > RENEWALS

    await auntil(renewed, what="renewals")


async def test_who_is_cut_off_from_the_first_bus_does_not_lead_beside_another(servers):
    async with Candidate(servers, "first") as first:
        await asyncio.wait_for(first.wait_until(is_leader=True), PATIENT_SEC)
        async with Candidate({"b": servers["b"]}, "elsewhere") as elsewhere:
            await outlive_a_lease(servers["b"])
            assert first.is_leader
            assert not elsewhere.is_leader
        servers["a"].kill()
        await outlive_a_lease(servers["b"])
        assert first.is_leader, "the other bus decides"
        assert servers["b"].cmd("GET", NOTIFIER_LEASE) == "first"
