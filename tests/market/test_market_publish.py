"""Bars on a real bus: each once, whoever puts it there; what is remembered has a bound and an end."""

import asyncio
from types import SimpleNamespace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.truth import AccessPoint
from services.market.records import MINUTE_MS, Bar
from services.massive.market import publish
from services.massive.market.gaps import NO_MARK, Mark
from services.massive.market.publish import KEPT_SEC, BarStore
from services.massive.market.status import MarketStatus
from support.rig import Server
from support.waiting import PATIENT_SEC, auntil

DAY = 1440 * MINUTE_MS
T0 = 20_700 * DAY


class Me:
    """The part of an agent that a store uses."""

    def __init__(self, bus, key):
        self._bus = bus
        access = SimpleNamespace(
            publish_to=(AccessPoint(bus="b", key="x:heartbeat"), AccessPoint(bus="b", key=key))
        )
        self.section = SimpleNamespace(access_points=access)
        self.log = logs.get("market")

    def bus(self, _name):
        return self._bus


def bar(n, sym="AAPL", close=2.5, vwap=2.25):
    return Bar(sym, "1m", T0 + n * MINUTE_MS, 1, 3, 0.5, close, 100, vwap)


def mark(sym, n=0, was=None):
    return Mark(sym, NO_MARK if was is None else T0 + was * MINUTE_MS, T0 + n * MINUTE_MS)


def entries(server):
    return [fields for _, fields in server.cmd("XRANGE", "market:bars", "-", "+")]


async def test_a_bar_is_there_once_with_all_that_is_known_of_it(server, bus):
    status = MarketStatus()
    store = BarStore(Me(bus, "market:bars"), status)
    assert await store.publish([bar(0), bar(1), bar(0)], [], 1000) == 2
    assert await store.publish([bar(1), bar(2, vwap=None)], [], 1000, "rest") == 1
    assert entries(server)[0] == {
        "sym": "AAPL",
        "open": "1",
        "high": "3",
        "low": "0.5",
        "close": "2.5",
        "volume": "100",
        "vwap": "2.25",
        "start": str(T0),
        "end": str(T0 + MINUTE_MS),
        "source": "ws",
        "volume_kind": "consolidated",
    }
    assert [each["source"] for each in entries(server)] == ["ws", "ws", "rest"]
    assert "vwap" not in entries(server)[2]
    assert status.published == {"ws": 2, "rest": 1}


async def test_a_bar_that_was_corrected_is_there_again_and_what_is_the_same_is_not(server, bus):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    first = [bar(n) for n in (1440, 1441, 1443)]
    await store.publish(first, [], 1000)
    told = [bar(1439), bar(1440), bar(1441, close=2), bar(1442), bar(1443), bar(2880)]
    changed = await store.find_changed("AAPL", told)
    # nothing of the time before the first one that was published, which nobody wanted then
    assert changed == [told[2], told[3], told[5]]
    assert await store.publish(told[1:], [], 1000, "rest") == 3
    assert [(each["start"], each["close"], each["source"]) for each in entries(server)[3:]] == [
        (str(each.start_ms), f"{each.close:g}", "rest") for each in changed
    ]
    assert await store.find_changed("AAPL", told[1:]) == []
    assert await store.publish(told[1:], [], 1000, "rest") == 0
    assert await store.find_changed("MSFT", [bar(1440, "MSFT")]) == []


async def test_what_a_release_without_digests_has_published_is_not_published_again(server, bus):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    for n in (3, 700):
        server.cmd("SETBIT", "market:bars:seen:AAPL:20700", n, 1)
    assert await store.find_changed("AAPL", [bar(2), bar(3), bar(700)]) == [bar(3), bar(700)]
    assert await store.publish([bar(3), bar(700)], [], 1000, "rest") == 0
    assert await store.find_changed("AAPL", [bar(3), bar(700)]) == []
    assert await store.publish([bar(3, close=2)], [], 1000, "rest") == 1


async def test_what_bars_has_lost_is_published_again_when_rest_gives_it(server, bus, monkeypatch):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    told = [bar(n) for n in (1300, 1438, 1439, 1440, 1500)]
    for _ in range(2):
        await store.publish(told, [], 1000)
    monkeypatch.setattr(publish, "now_ms", lambda: float(T0 + 1600 * MINUTE_MS))
    assert not await store.forget_lost(["AAPL"])
    first_ms = T0 + 1438 * MINUTE_MS + publish.PUBLISHED_LATE_MS
    server.cmd("HSET", "bars:lost", "market:bars", f"{first_ms} {first_ms + MINUTE_MS}")
    assert await store.forget_lost(["AAPL", "MSFT"])
    assert await store.find_changed("AAPL", told) == told[1:4]
    assert await store.publish(told, [], 1000, "rest") == 3
    assert not await store.forget_lost(["AAPL"])
    assert server.cmd("TTL", "market:bars:seen:MSFT:20700") > 0


async def test_marks_move_forward_only_and_with_the_bars(server, bus):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    await store.publish([bar(5)], [mark("AAPL", 5)], 1000)
    await store.publish([], [mark("AAPL"), mark("IBM")], 1000)
    assert await store.read_marks(["AAPL", "IBM", "MSFT"]) == {"AAPL": T0 + 5 * MINUTE_MS, "IBM": T0}
    server.cmd("HSET", "market:bars:marks", "MSFT", "nan")
    await store.prune_marks(T0 + 1)
    assert server.cmd("HGETALL", "market:bars:marks") == {"AAPL": str(T0 + 5 * MINUTE_MS)}


async def test_a_mark_that_a_wrong_clock_left_is_put_right_and_one_that_is_none_is_none(
    server, bus, monkeypatch
):
    monkeypatch.setattr(publish, "now_ms", lambda: T0)
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    server.cmd("HSET", "market:bars:marks", "A", T0 + DAY, "B", "nan", "C", "9" * 5000, "D", T0 + MINUTE_MS)
    assert await store.read_marks(["A", "B", "C", "D"]) == {"A": T0 + DAY, "D": T0 + MINUTE_MS}
    await store.publish([], [mark(sym) for sym in "ABCD"], 10)
    assert await store.read_marks(["A", "B", "C", "D"]) == {**dict.fromkeys("ABC", T0), "D": T0 + MINUTE_MS}


async def test_a_bus_that_forgot_is_found_out_and_its_mark_stays(server, bus):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    await store.publish([], [mark("A", 5), mark("B", 5)], 10)
    await store.publish([bar(6, "A")], [mark("A", 6, was=5), mark("B", 6, was=5)], 10)
    assert not store.lost_marks
    server.cmd("HSET", "market:bars:marks", "A", T0 + 3 * MINUTE_MS)
    server.cmd("HDEL", "market:bars:marks", "B")
    assert await store.publish([bar(7, "A")], [mark("A", 7, was=6), mark("B", 7, was=6)], 10) == 1
    assert store.lost_marks
    assert await store.read_marks(["A", "B"]) == {"A": T0 + 3 * MINUTE_MS}


async def test_what_is_remembered_is_small_and_has_an_end(server, bus):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    for day in range(3):
        await store.publish([bar(day * 1440 + n) for n in range(0, 1440, 3)], [mark("AAPL")], 100)
    keys = server.cmd("KEYS", "market:bars:seen:*")
    assert sorted(keys) == [f"market:bars:seen:AAPL:{20_700 + day}" for day in range(3)]
    assert all(server.cmd("STRLEN", key) <= 180 + 4 * 1440 for key in keys)
    assert all(0 < server.cmd("TTL", key) <= KEPT_SEC for key in [*keys, "market:bars:marks"])
    assert 100 <= server.cmd("XLEN", "market:bars") <= 300


async def test_more_bars_than_a_script_takes_are_put_in_several_and_the_mark_moves_with_the_last(server, bus):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    assert await store.publish([bar(n) for n in range(1203)], [mark("AAPL")], 10_000) == 1203
    assert server.cmd("XLEN", "market:bars") == 1203
    assert await store.read_marks(["AAPL"]) == {"AAPL": T0}


async def test_a_mark_does_not_move_before_all_that_it_stands_for_is_there(server, bus, monkeypatch):
    store = BarStore(Me(bus, "market:bars"), MarketStatus())
    script, times = bus.script, 0

    async def once(*words):
        nonlocal times
        times += 1
        if times > 1:
            await asyncio.Event().wait()
        return await script(*words)

    monkeypatch.setattr(bus, "script", once)
    putting = asyncio.create_task(store.publish([bar(n) for n in range(900)], [mark("AAPL")], 10_000))
    await auntil(lambda: times == 2)
    putting.cancel()
    assert await store.read_marks(["AAPL"]) == {}
    assert server.cmd("XLEN", "market:bars") == 500


async def test_the_stream_is_the_one_that_the_truth_names(server, bus):
    await BarStore(Me(bus, "team:bars"), MarketStatus()).publish([bar(0)], [mark("AAPL")], 10)
    assert sorted(server.cmd("KEYS", "*")) == ["team:bars", "team:bars:marks", "team:bars:seen:AAPL:20700"]


async def test_a_bus_that_is_away_is_waited_for_and_said(tmp_path):
    with Server(tmp_path / "bus") as server:
        bus = Bus("market-redis", server.url)
        me, status = Me(bus, "market:bars"), MarketStatus()
        server.stop()
        putting = asyncio.create_task(BarStore(me, status).publish([bar(0)], [], 10))
        await auntil(lambda: status.problem() == "bars not published: market-redis refused")
        server.start()
        assert await asyncio.wait_for(putting, PATIENT_SEC) == 1
        assert status.problem() is None
        await bus.aclose()


async def test_a_full_bus_takes_no_bar_and_forgets_none(server, bus):
    status = MarketStatus()
    store = BarStore(Me(bus, "market:bars"), status)
    server.cmd("CONFIG", "SET", "maxmemory", "1")
    putting = asyncio.create_task(store.publish([bar(0), bar(1)], [mark("AAPL")], 10))
    await auntil(lambda: status.problem() == "bars not published: market-redis oom")
    assert server.cmd("KEYS", "*") == []
    server.cmd("CONFIG", "SET", "maxmemory", "0")
    assert await asyncio.wait_for(putting, PATIENT_SEC) == 2


async def test_strangers_keys_in_the_way_are_a_trouble_and_no_end(server, bus):
    server.cmd("SET", "market:bars", "mine")
    status = MarketStatus()
    putting = asyncio.create_task(BarStore(Me(bus, "market:bars"), status).publish([bar(0)], [], 10))
    await auntil(lambda: status.problem() == "bars not published: market-redis error")
    server.cmd("DEL", "market:bars")
    assert await asyncio.wait_for(putting, PATIENT_SEC) == 1


puts = st.lists(st.tuples(st.sampled_from("AB"), st.integers(1438, 1443)), max_size=6)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(puts, max_size=5))
def test_each_bar_once_in_whatever_order_and_company(server, some):
    server.cmd("FLUSHALL")

    async def put():
        bus = Bus("market-redis", server.url)
        store = BarStore(Me(bus, "market:bars"), MarketStatus())
        for each in some:
            await store.publish([bar(n, sym) for sym, n in each], [], 1000)
        await bus.aclose()

    asyncio.run(put())
    there = [(each["sym"], (int(each["start"]) - T0) // MINUTE_MS) for each in entries(server)]
    assert sorted(there) == sorted({one for each in some for one in each})


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(st.tuples(st.integers(1438, 1441), st.sampled_from([1.0, 2.0])), max_size=12))
def test_the_last_entry_of_a_minute_has_its_last_values_and_none_says_what_was_said(server, some):
    server.cmd("FLUSHALL")

    async def put():
        bus = Bus("market-redis", server.url)
        store = BarStore(Me(bus, "market:bars"), MarketStatus())
        for n, close in some:
            await store.publish([bar(n, close=close)], [], 1000)
        await bus.aclose()

    asyncio.run(put())
    expected, held = [], {}
    for n, close in some:
        if held.get(n) != close:
            expected.append((T0 + n * MINUTE_MS, close))
        held[n] = close
    assert [(int(each["start"]), float(each["close"])) for each in entries(server)] == expected
