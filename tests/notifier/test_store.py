"""What waits for a bus that refuses has a bound, and nothing of it is lost."""

import asyncio
import contextlib
from collections import Counter

import pytest

from marketswarm.bus import BusError
from marketswarm.keys import answers_key
from marketswarm.net.retry import Backoff
from marketswarm.operator.requests import REQUESTS_KEPT
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from notifier.inbox import CAPACITY
from notifier.store import (
    DEAD_LENGTH,
    RECORDS_AT_MOST,
    Store,
    Transaction,
    make_delivery_record,
)


def test_a_turn_that_was_not_taken_keeps_no_changes_of_the_state_and_loses_no_acknowledgement():
    turn = Transaction(
        {"o:m:1": None}, log_acks={"a": [b"1-0"]}, request_acks={"a": [b"2-0"]}, records={"e": b"{}"}
    )
    assert turn.shorten() == {}
    expected = Transaction(log_acks={"a": [b"1-0"]}, request_acks={"a": [b"2-0"]}, records={"e": b"{}"})
    assert turn == expected
    assert turn.acks("a") == ([b"1-0"], [b"2-0"])
    assert (sum(map(len, turn.acks("a"))), turn.acks("b")) == (2, ([], []))


def test_the_answers_to_the_latest_asks_are_kept():
    turn = Transaction(answers={f"ask{n}": [b"x"] for n in range(REQUESTS_KEPT + 3)})
    assert turn.shorten() == {"answers": 3}
    assert list(turn.answers) == [f"ask{n}" for n in range(3, REQUESTS_KEPT + 3)]


def test_the_latest_records_of_what_people_were_told_are_kept():
    turn = Transaction(records={f"e{n}": b"{}" for n in range(RECORDS_AT_MOST + 2)})
    assert turn.shorten() == {"told": 2}
    assert turn.shorten() == {}
    assert (len(turn.records), next(iter(turn.records))) == (RECORDS_AT_MOST, "e2")


def test_a_dead_message_that_is_resent_again_and_again_is_deleted_once():
    turn = Transaction()
    entries = [b"%d-0" % n for n in range(3 * DEAD_LENGTH)]
    for _ in range(3):
        turn.add(Transaction(deleted_dead={"a": entries[:DEAD_LENGTH]}))
        turn.shorten()
    assert turn.deleted_dead == {"a": entries[:DEAD_LENGTH]}
    turn.add(Transaction(deleted_dead={"a": entries[DEAD_LENGTH:]}))
    turn.shorten()
    assert turn.deleted_dead == {"a": entries[DEAD_LENGTH:]}


async def test_an_event_counts_as_told_when_any_bus_says_that_people_were_reached():
    one, two = MemoryBus("one"), MemoryBus("two")
    await one.client.set("notifier:told:a", make_delivery_record(1.0, ["slack"], "sentinel"))
    await two.client.set("notifier:told:b", make_delivery_record(1.0, ["slack"], "notifier"))
    await two.client.set("notifier:told:held", make_delivery_record(1.0, (), "notifier", "silenced"))
    for bad, raw in (("c", b"{"), ("d", b"7"), ("e", b"{}")):
        await two.client.set(f"notifier:told:{bad}", raw)
    idents = ["a", "b", "c", "d", "e", "held", "none"]
    store = Store("me", {"one": one, "two": two}, rejected=print, acknowledged=print)
    assert await store.find_delivered(idents) == {"a", "b"}
    two.connected = False
    assert await store.find_delivered(idents) == {"a"}
    one.connected = False
    assert await store.find_delivered(idents) == set()
    for bus in (one, two):
        bus.connected = True
        await bus.aclose()


BATCH = 500


class Bus:
    """A bus that can refuse what is committed; it counts the entries of the log that it acknowledged."""

    def __init__(self, name):
        self.name = name
        self.refuses = False
        self.acked = Counter()
        self.keys = set()

    async def script(self, _script, keys, args, _within_sec):
        await asyncio.sleep(0)
        if self.refuses:
            raise BusError(self.name, "oom")
        self.keys.update(keys)
        rest = list(args)
        assert rest.pop() == 0, "no asks"
        while not isinstance(rest[-1], int):
            self.acked[rest.pop()] += 1
        return 1


@pytest.fixture
def buses(monkeypatch):
    monkeypatch.setattr("notifier.store.PAUSES", Backoff(0.0, 0.0))
    return {name: Bus(name) for name in ("a", "b")}


@contextlib.asynccontextmanager
async def running(buses):
    """A store, and by bus how often each entry was said to be acknowledged."""
    known = {name: Counter() for name in buses}
    store = Store(
        "me",
        buses,
        rejected=lambda _: None,
        acknowledged=lambda bus, entries, _asks: known[bus].update(entries),
    )
    task = asyncio.create_task(store.run())
    try:
        yield store, known
    finally:
        await end_tasks(task)


async def read(store, bus, batches):
    """As a reader and the dispatcher do: wait for room, and acknowledge what was read."""
    for batch in range(batches):
        await store.writers[bus].wait_for_room()
        entries = [b"%d-%d" % (batch, n) for n in range(BATCH)]
        await store.commit(Transaction({f"o:m:{batch}": None}, log_acks={bus: entries}))


@pytest.mark.slow
async def test_a_bus_that_refuses_holds_back_its_own_reader_alone_and_gets_each_acknowledgement_once(buses):
    buses["b"].refuses = True
    batches = 4 * CAPACITY // BATCH
    async with running(buses) as (store, known), asyncio.timeout(20):
        held_back = asyncio.create_task(read(store, "b", batches))
        await read(store, "a", batches)
        await store.writers["a"].wait_for_room()
        for _ in range(1000):
            await asyncio.sleep(0)
            assert store.writers["b"].unacknowledged <= CAPACITY
        assert store.writers["b"].unacknowledged == CAPACITY
        assert not held_back.done()
        assert len(buses["a"].acked) == batches * BATCH
        assert (buses["b"].acked, known["b"]) == (Counter(), Counter())
        assert {name: each.refusal for name, each in store.writers.items()} == {"a": None, "b": "oom"}
        buses["b"].refuses = False
        await held_back
        await store.settle()
        for name, bus in buses.items():
            assert bus.acked == known[name]
            assert (len(bus.acked), max(bus.acked.values())) == (batches * BATCH, 1)
            assert store.writers[name].unacknowledged == 0


async def test_what_a_bus_did_not_take_yet_is_not_known_to_be_acknowledged_though_another_bus_has_the_turn(
    buses,
):
    buses["b"].refuses = True
    async with running(buses) as (store, known), asyncio.timeout(20):
        assert await store.commit(Transaction(log_acks={"a": [b"1-0"], "b": [b"2-0"]}))
        assert (set(known["a"]), set(known["b"])) == ({b"1-0"}, set())
        buses["b"].refuses = False
        for _ in range(100):
            await asyncio.sleep(0)
        assert known["b"] == Counter([b"2-0"])


@pytest.mark.slow
async def test_a_bus_that_refuses_gets_the_answers_to_the_latest_asks_and_another_one_all(buses):
    buses["b"].refuses = True
    async with running(buses) as (store, _), asyncio.timeout(20):
        for n in range(REQUESTS_KEPT + 10):
            await store.commit(Transaction(answers={f"ask{n}": [b"done"]}))
        buses["b"].refuses = False
        for _ in range(100):
            await asyncio.sleep(0)
    assert answers_key("ask0") in buses["a"].keys
    assert answers_key("ask0") not in buses["b"].keys
    assert {answers_key(f"ask{n}") for n in range(10, REQUESTS_KEPT + 10)} <= buses["b"].keys
