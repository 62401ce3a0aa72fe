"""What waits for a bus that refuses has a bound, and nothing of it is lost."""

import asyncio
import contextlib
from collections import Counter

import pytest

from marketswarm.attention import answers_key
from marketswarm.attention.keys import ASKS_KEPT
from marketswarm.bus import BusError
from notifier.intake import ROOM
from notifier.store import Store
from notifier.turn import Turn

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
    monkeypatch.setattr("notifier.store.FIRST_PAUSE_SEC", 0.0)
    return {name: Bus(name) for name in ("a", "b")}


@contextlib.asynccontextmanager
async def running(buses):
    """A store, and by bus how often each entry was said to be acknowledged."""
    known = {name: Counter() for name in buses}
    store = Store(
        "me",
        buses,
        turned_away=lambda _: None,
        acknowledged=lambda bus, entries, _asks: known[bus].update(entries),
    )
    task = asyncio.create_task(store.run())
    try:
        yield store, known
    finally:
        task.cancel()
        await asyncio.wait([task])


async def read(store, bus, batches):
    """As a reader and the desk do: wait for room, and acknowledge what was read."""
    for batch in range(batches):
        await store.room(bus)
        entries = [b"%d-%d" % (batch, n) for n in range(BATCH)]
        await store.commit(Turn({f"o:m:{batch}": None}, log_acks={bus: entries}))


async def test_a_bus_that_refuses_holds_back_its_own_reader_alone_and_gets_each_acknowledgement_once(buses):
    buses["b"].refuses = True
    batches = 4 * ROOM // BATCH
    async with running(buses) as (store, known), asyncio.timeout(20):
        held_back = asyncio.create_task(read(store, "b", batches))
        await read(store, "a", batches)
        await store.room("a")
        for _ in range(1000):
            await asyncio.sleep(0)
            assert store.unacknowledged("b") <= ROOM
        assert store.unacknowledged("b") == ROOM
        assert not held_back.done()
        assert len(buses["a"].acked) == batches * BATCH
        assert (buses["b"].acked, known["b"]) == (Counter(), Counter())
        assert store.refusals() == {"b": "oom"}
        buses["b"].refuses = False
        await held_back
        await store.settle()
        for name, bus in buses.items():
            assert bus.acked == known[name]
            assert (len(bus.acked), max(bus.acked.values())) == (batches * BATCH, 1)
            assert store.unacknowledged(name) == 0


async def test_what_a_bus_did_not_take_yet_is_not_known_to_be_acknowledged_though_another_bus_has_the_turn(
    buses,
):
    buses["b"].refuses = True
    async with running(buses) as (store, known), asyncio.timeout(20):
        assert await store.commit(Turn(log_acks={"a": [b"1-0"], "b": [b"2-0"]}))
        assert (set(known["a"]), set(known["b"])) == ({b"1-0"}, set())
        buses["b"].refuses = False
        for _ in range(100):
            await asyncio.sleep(0)
        assert known["b"] == Counter([b"2-0"])


async def test_a_bus_that_refuses_gets_the_answers_to_the_latest_asks_and_another_one_all(buses):
    buses["b"].refuses = True
    async with running(buses) as (store, _), asyncio.timeout(20):
        for n in range(ASKS_KEPT + 10):
            await store.commit(Turn(answers={f"ask{n}": [b"done"]}))
        buses["b"].refuses = False
        for _ in range(100):
            await asyncio.sleep(0)
    assert answers_key("ask0") in buses["a"].keys
    assert answers_key("ask0") not in buses["b"].keys
    assert {answers_key(f"ask{n}") for n in range(10, ASKS_KEPT + 10)} <= buses["b"].keys
