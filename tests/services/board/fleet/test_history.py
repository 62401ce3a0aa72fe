"""What a snapshot shows of the past: right, and the same object while nothing changes."""

import asyncio

import pytest

from marketswarm.event import Event, Kind
from marketswarm.history.fleet_history import FleetHistory
from marketswarm.history.listening import Heard, Listening
from marketswarm.history.rollup import HOUR_SEC
from marketswarm.history.spans import KnownState
from marketswarm.time_slice import TimeSlice
from services.board.fleet import history as module
from services.board.fleet.history import HistoryBuilder
from services.board.fleet.snapshot import BarSpan, Uptime
from services.board.fleet.snapshot_builder import HistoryExtract

T0 = 497_000 * HOUR_SEC


def make_history(services=("a", "b")):
    history = FleetHistory(T0 // HOUR_SEC, Listening(T0 + 7200, (Heard("one", 1, T0 + 7200),)))
    history.follow(dict.fromkeys(services, "system"), 30.0, T0)
    for svc in services:
        history.adopt(svc, KnownState.UP, T0 - 10)
    return history


def add_miss(history, svc, since):
    history.apply_event(Event(Kind.HEARTBEAT_MISS, svc, since + 30.0, "x", "healer", since=float(since)))


async def test_without_a_history_nothing_is_shown():
    assert await HistoryBuilder().build(None, T0) == HistoryExtract()


async def test_a_span_that_lasts_has_no_end():
    history = make_history()
    add_miss(history, "a", T0 + 4000)
    found = await HistoryBuilder().build(history, T0 + 5000.5)
    assert found.recent["a"] == (BarSpan("up", T0, T0 + 4000.0), BarSpan("down", T0 + 4000.0, None))
    assert found.recent["b"] == (BarSpan("up", T0, None),)
    assert found.uptime["b"]["24h"] == Uptime(1.0, 0.0, float(T0))


async def test_while_nothing_happens_nothing_is_made_anew():
    history, builder = make_history(), HistoryBuilder()
    add_miss(history, "a", T0 + 4000)
    one, two = [await builder.build(history, T0 + 5000.0 + sec) for sec in (0, 4)]
    assert one.recent == two.recent
    assert all(one.recent[svc] is two.recent[svc] for svc in one.recent)
    assert one.uptime is two.uptime


async def test_uptime_is_made_anew_once_a_minute():
    history, builder = make_history(), HistoryBuilder()
    made = [(await builder.build(history, T0 + 5000.0 + sec)).uptime for sec in range(240)]
    assert len({id(each) for each in made}) == 13 + 2


async def test_a_service_that_is_up_since_this_very_second_is_shown_as_up():
    history, builder = make_history(()), HistoryBuilder()
    history.follow({"a": "system"}, 30.0, T0 + 5000)
    history.adopt("a", KnownState.UP, T0 + 5000)
    await builder.build(history, T0 + 5000.4)
    for now in (T0 + 5001.0, T0 + 5100.0):
        assert (await builder.build(history, now)).recent["a"][-1] == BarSpan("up", T0 + 5000.0, None)


async def test_a_service_that_is_up_since_the_next_second_if_rounded_is_shown_as_up():
    history, builder = make_history(()), HistoryBuilder()
    history.follow({"a": "system"}, 30.0, T0 + 5000)
    history.adopt("a", KnownState.UP, T0 + 5000.7)
    for now in (5000.8, 5001.2, 5001.9):
        assert (await builder.build(history, T0 + now)).recent["a"][-1].state == "unknown"
    for now in (5002.0, 5100.0):
        assert (await builder.build(history, T0 + now)).recent["a"][-1] == BarSpan("up", T0 + 5001.0, None)


async def test_a_window_that_began_before_the_history_says_when_that_begins():
    history = make_history()
    found = (await HistoryBuilder().build(history, T0 + 90_001.0)).uptime["a"]
    assert (found["24h"].begins_at, found["7d"].begins_at) == (None, T0)


async def test_what_happens_is_shown_at_once():
    history, builder = make_history(), HistoryBuilder()
    await builder.build(history, T0 + 5000.0)
    add_miss(history, "a", T0 + 4990)
    assert (await builder.build(history, T0 + 5021.0)).recent["a"][-1] == BarSpan("down", T0 + 4990.0, None)


async def test_a_healer_that_is_silent_is_shown_as_unknown_in_time():
    history, builder = make_history(), HistoryBuilder()
    assert (await builder.build(history, T0 + 7230.0)).recent["a"][-1].state == "up"
    assert (await builder.build(history, T0 + 7231.0)).recent["a"][-1] == BarSpan(
        "unknown", T0 + 7200.0, None
    )


async def test_a_history_that_was_read_again_is_shown():
    history, again, builder = make_history(), make_history(), HistoryBuilder()
    await builder.build(history, T0 + 5000.0)
    add_miss(again, "a", T0 + 4000)
    assert (await builder.build(again, T0 + 5001.0)).recent["a"][-1].state == "down"


async def test_services_that_are_gone_are_not_kept():
    history, builder = make_history(), HistoryBuilder()
    await builder.build(history, T0 + 5000.0)
    del history.services["a"]
    assert set((await builder.build(history, T0 + 5000.0)).recent) == {"b"}


@pytest.mark.slow
async def test_ten_thousand_quiet_services_share_what_they_have():
    names = [f"svc{n}" for n in range(10_000)]
    found = await HistoryBuilder().build(make_history(names), T0 + 5000.0)
    assert len({id(each) for each in found.recent.values()}) == 1
    assert len({id(each["1y"]) for each in found.uptime.values()}) == 1


@pytest.mark.parametrize("noisy", [False, True])
async def test_while_a_long_history_is_built_others_run_and_may_change_it(monkeypatch, noisy):
    monkeypatch.setattr(module, "TimeSlice", lambda: TimeSlice(0.0))
    names = [f"svc{n}" for n in range(50)]
    history, turns, builder = make_history(names), 0, HistoryBuilder()
    building = asyncio.create_task(builder.build(history, T0 + 5000.0))
    while not building.done():
        await asyncio.sleep(0)
        turns += 1
        if turns == 10 and noisy:
            add_miss(history, "svc40", T0 + 4000)
            for gone in ("svc2", "svc30"):
                history.services.pop(gone)
    found = building.result()
    assert turns > 1.9 * len(names)
    assert set(found.recent) == set(names) - ({"svc2", "svc30"} if noisy else set())
    assert found.recent["svc40"][-1].state == ("down" if noisy else "up")
