"""How long ago a stream or a key was written, by the clock of its bus."""

import time

import pytest

from marketswarm.beat import Beat
from marketswarm.status.fleet_state import FleetState
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.medic.metric import Metric
from services.medic.observer import FleetObservation
from services.medic.rule import MonitorRule
from services.medic.rules.freshness import forget_ages_on_full_buses, read_ages

TRUTH = parse_truth(b"""{"services": {"rss_agg": {}, "own": {"access_points": {"publish_to": [
    {"bus": "market-redis", "key": "own:state"}]}}}}""").truth
STREAM, STATE = "rss:items", "own:state"


@pytest.fixture
def bus():
    return MemoryBus()


async def read(bus, svc, key, state=None):
    """Return the age, and the buses that were asked."""
    rule = MonitorRule.model_validate({"metric": "write_age", "key": key, "above": 60})
    asked = []

    def get_bus(name):
        asked.append(name)
        return bus

    found = await read_ages(
        [(svc, rule)], FleetObservation(TRUTH, state or FleetState(), (), (), None, 1000.0), get_bus
    )
    return found[Metric.WRITE_AGE].get(f"{svc} {key}"), asked


def ago(sec):
    return int((time.time() - sec) * 1000)


async def test_the_age_of_a_stream_is_that_of_the_last_entry_that_was_added(bus):
    assert await read(bus, "rss_agg", STREAM) == (None, ["market-redis"])
    ident = await bus.client.xadd(STREAM, {"a": "b"}, f"{ago(500)}-1")
    assert (await read(bus, "rss_agg", STREAM))[0] == pytest.approx(500, abs=30)
    await bus.client.xdel(STREAM, ident)
    assert (await read(bus, "rss_agg", STREAM))[0] == pytest.approx(500, abs=30)
    await bus.client.xadd(STREAM, {"a": "b"})
    assert (await read(bus, "rss_agg", STREAM))[0] < 30


@pytest.mark.parametrize("ident", ["5-1", "9999999999999-0", "18446744073709551615-1"])
async def test_an_id_that_is_no_time_of_the_past_is_not_known(bus, ident):
    await bus.client.xadd(STREAM, {"a": "b"}, ident)
    assert (await read(bus, "rss_agg", STREAM))[0] is None


async def test_a_json_object_says_in_ts_when_it_was_written(bus):
    await bus.client.set(STATE, f'{{"ts": {ago(100) / 1000}}}')
    assert (await read(bus, "own", STATE))[0] == pytest.approx(100, abs=30)
    for text in ("junk", '{"ts": "1"}', '{"ts": true}', "[]", '{"ts": 5}', '{"ts": 9e9}', "x" * 100_000):
        await bus.client.set(STATE, text)
        assert (await read(bus, "own", STATE))[0] is None, text[:20]
    await bus.client.delete(STATE)
    await bus.client.hset(STATE, "ts", "1")
    assert (await read(bus, "own", STATE))[0] is None


@pytest.mark.parametrize("ahead_sec", [-7200, 0, 7200])
@pytest.mark.parametrize("age", [0, 500])
async def test_what_a_writer_says_is_taken_by_its_own_clock_as_its_last_beat_shows_it(bus, ahead_sec, age):
    await bus.client.set(STATE, f'{{"ts": {ago(age - ahead_sec) / 1000}}}')
    beat = Beat("own", 1, time.time() + ahead_sec - 5)
    state = FleetState(beats={"own": beat}, ttls_sec={"own": 2 * TRUTH.timeout_of("own") - 5})
    assert (await read(bus, "own", STATE, state))[0] == pytest.approx(age, abs=30)
    await bus.client.delete(STATE)
    await bus.client.xadd(STATE, {"a": "b"}, f"{ago(500)}-1")
    assert (await read(bus, "own", STATE, state))[0] == pytest.approx(500, abs=30), "by the clock of the bus"


async def test_a_key_that_the_service_does_not_write_is_not_asked_for(bus):
    assert await read(bus, "own", STREAM) == (None, [])
    assert await read(bus, "gone", STREAM) == (None, [])


async def test_a_bus_that_does_not_answer_is_not_known(bus):
    bus.connected = False
    assert (await read(bus, "rss_agg", STREAM))[0] is None


@pytest.mark.parametrize(("percent", "age"), [(99.9, 500.0), (100.0, None), (None, 500.0)])
def test_on_a_bus_that_refuses_writes_the_age_says_nothing_about_the_writer(percent, age):
    rule = MonitorRule.model_validate({"metric": "write_age", "key": STATE, "above": 60})
    readings = {
        Metric.BUS_MEMORY: {"market-redis": percent, "system-redis": 100.0},
        Metric.WRITE_AGE: {f"own {STATE}": 500.0},
    }
    forget_ages_on_full_buses(readings, [("own", rule)], TRUTH)
    assert readings[Metric.WRITE_AGE] == {f"own {STATE}": age}
