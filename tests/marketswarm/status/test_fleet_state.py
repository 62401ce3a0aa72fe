"""What the buses hold is parsed once, and what can't be parsed is skipped."""

import dataclasses

import orjson
import pytest

from marketswarm.bus.stored_values import MAX_COUNT
from marketswarm.cli.exec import CommandRun
from marketswarm.detector import State
from marketswarm.event import Event, Kind, encode_event
from marketswarm.monitor.last_run import LastRun, parse_last_run
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.status import fleet_state
from marketswarm.status.fleet_state import (
    FleetState,
    InstanceCount,
    Leader,
    parse_health,
    parse_instances,
    parse_leader,
    parse_roster,
    read_fleet_state,
)
from marketswarm.testing import MemoryBuses
from marketswarm.truth import parse_truth

NO_OBJECTS = [b"", b"no json", b"[]", b"5", b"null", b"\xff", b"{", b"1e999"]
MISS = Event(Kind.HEARTBEAT_MISS, "a", 1000.0, "id", "healer", reason="silent")
BUS_MISS = Event(Kind.BUS_MISS, "market-redis", 1000.0, "id", "healer", reason="no canary")


def test_the_roster_has_the_entries_that_have_a_verdict():
    assert parse_roster(
        {b"a": b'{"verdict":"down","ts":5,"since":4}', b"b": b'{"verdict":"sideways"}', b"\xff": b"x"}
    ) == {"a": RosterEntry(State.DOWN, 5.0, 4.0)}


@pytest.mark.parametrize("raw", NO_OBJECTS)
def test_what_is_no_object_is_skipped_everywhere(raw):
    assert parse_roster({b"a": raw}) == {}
    assert parse_health({"a": raw}) == {}
    assert parse_instances(raw) == {}
    assert parse_last_run(raw) is None


def test_a_bus_that_the_healer_does_not_hear_has_the_reason_of_its_event():
    event = orjson.loads(encode_event(BUS_MISS))
    down, up = {"verdict": "down", "ts": 1, "event": event}, {"verdict": "up", "ts": 1}
    stored = {b"bus:market-redis": down, b"bus:other": {"verdict": "down"}, b"bus:fine": up, b"a": down}
    state = FleetState(roster=parse_roster({name: orjson.dumps(each) for name, each in stored.items()}))
    assert state.unheard_buses() == {"market-redis": "no canary", "other": "away"}


def test_health_has_the_events_that_are_whole():
    assert parse_health({"a": encode_event(MISS), "b": b'{"type":"heartbeat_miss"}', "c": None}) == {
        "a": MISS
    }


def test_the_instances_of_a_service_and_their_restarts_are_counted():
    services = {
        "a": {
            "instances": [
                {"restarts": 2, "host": "web1"},
                {"restarts": 1, "host": "db1"},
                {"restarts": "x"},
                5,
            ]
        },
        "f": {"instances": [{"host": "db1"}, {"host": "db1"}, {"host": 7}, {"host": "h" * 65}]},
        "b": {"instances": []},
        "c": {"instances": {}},
        "d": [],
        "e": {"instances": [{"restarts": MAX_COUNT}, {"restarts": MAX_COUNT}]},
    }
    assert parse_instances(orjson.dumps({"services": services})) == {
        "a": InstanceCount(3, 3, hosts=("db1", "web1")),
        "f": InstanceCount(4, hosts=("db1",)),
        "b": InstanceCount(0),
        "e": InstanceCount(2, MAX_COUNT),
    }
    assert parse_instances(b'{"services":[]}') == {}
    assert parse_instances(None) == {}


@pytest.mark.parametrize(
    "run",
    [
        CommandRun(0, 12.4, 1000.125),
        CommandRun(143, 1.0, 1000.0, "SIGTERM"),
        CommandRun(124, 2.0, 1000.0, limit_sec=2.0),
    ],
)
def test_a_run_is_read_as_it_was_written(run):
    assert parse_last_run(run.encode("backup", run.said)) == LastRun(
        "backup",
        run.ok,
        run.code,
        run.took_sec,
        run.ended_at,
        run.signal,
        run.limit_sec,
        run.said,
        detail=None if run.ok else run.said,
    )


def test_the_parts_of_a_run_that_are_of_a_wrong_type_are_left_out():
    odd = {"svc": 5, "ok": "no", "code": -1, "took_sec": -1, "ts": 1e300, "limit_sec": True, "signal": ""}
    assert parse_last_run(orjson.dumps(odd | {"said": "exit 3"})) == LastRun(said="exit 3")
    assert parse_last_run(orjson.dumps(odd)) is None
    assert parse_last_run(None) is None


LEASE = {b"boot": b"0f3c", b"epoch": b"7", b"until": b"1000.5", b"renewed": b"9"}


def test_the_lease_names_the_healer_that_leads_and_for_how_long_it_has_been_over():
    assert parse_leader(LEASE, 999.0) == Leader("0f3c", 7, 0.0)
    assert parse_leader(LEASE, 1012.5) == Leader("0f3c", 7, 12.0)


@pytest.mark.parametrize(
    "lease",
    [
        {},
        {b"boot": b"a"},
        *(
            LEASE | odd
            for odd in (
                {b"boot": b""},
                {b"boot": b"x" * 65},
                {b"epoch": b"x"},
                {b"epoch": b"-1"},
                {b"epoch": b"9" * 30},
                {b"until": b"\xff"},
                {b"until": b"nan"},
                {b"until": b"-inf"},
            )
        ),
    ],
)
def test_a_lease_that_is_free_or_that_nobody_can_read_has_no_leader(lease):
    assert parse_leader(lease, 0.0) is None


TRUTH = parse_truth(
    orjson.dumps(
        {"services": {"a": {}, "b": {"heartbeat": {"redis_url": "redis://market-redis:6379"}}, "c": {}}}
    )
).truth


async def test_the_beats_of_each_service_are_read_from_its_own_bus():
    buses = {name: MemoryBuses()(name) for name in ("system-redis", "market-redis")}
    system, market = (bus.client for bus in buses.values())
    await system.set("beat:a", b'{"svc":"a","i":1,"ts":5,"boot":"0f3c"}', px=20_000)
    await system.set("beat:b", b'{"svc":"b","i":1,"ts":5}', px=20_000)
    await system.set("beat:c", b"no beat", px=20_000)
    await market.set("run:b", b'{"ok":false,"ts":5}')
    await system.hset("healer:roster", "b", b'{"verdict":"down","ts":5}')
    state, failed = await read_fleet_state(TRUTH, buses.__getitem__)
    assert failed == {}
    assert {svc: beat.boot for svc, beat in state.beats.items()} == {"a": "0f3c"}
    assert state.ttls_sec.keys() == {"a", "c"}
    assert 19 < state.ttls_sec["a"] <= 20
    assert state.runs == {"b": LastRun(ok=False, ts=5.0)}
    assert state.roster == {"b": RosterEntry(State.DOWN, 5.0)}
    fewer, _ = await read_fleet_state(TRUTH, buses.__getitem__, with_runs=False)
    assert fewer == dataclasses.replace(state, runs={}, ttls_sec=fewer.ttls_sec)
    long = b'{"verdict":"up","ts":6,"x":"%s"}' % (b"x" * 2000)
    await system.hset("healer:roster", mapping={"b": b'{"verdict":"up","ts":6}', "c": long})
    found, _ = await read_fleet_state(TRUTH, buses.__getitem__)
    assert found.roster == dict.fromkeys("bc", RosterEntry(State.UP, 6.0)), (
        "what was parsed before is another entry"
    )


async def test_many_services_are_read_in_batches(monkeypatch):
    monkeypatch.setattr(fleet_state, "_AT_ONCE", 2)
    names = [f"s{number}" for number in range(5)]
    truth = parse_truth(orjson.dumps({"services": {svc: {} for svc in names}})).truth
    buses = MemoryBuses()
    for svc in names:
        await buses("system-redis").client.set(f"beat:{svc}", b'{"svc":"%s","i":1,"ts":5}' % svc.encode())
    state, failed = await read_fleet_state(truth, buses)
    assert (failed, list(state.beats)) == ({}, names)


async def test_the_latest_event_is_read_of_services_of_which_the_roster_does_not_tell_all():
    buses = {name: MemoryBuses()(name) for name in ("system-redis", "market-redis")}
    system = buses["system-redis"].client
    for svc in ("a", "b", "c"):
        await system.set(f"health:{svc}", encode_event(MISS))
    for told, read in (
        ({"a": b'{"verdict":"up","ts":5}', "b": b'{"verdict":"down","ts":5}'}, {"b", "c"}),
        ({"b": b'{"verdict":"down","ts":5,"since":4}', "c": b'{"verdict":"none"}'}, {"c"}),
    ):
        await system.hset("healer:roster", mapping=told)
        state, _ = await read_fleet_state(TRUTH, buses.__getitem__)
        assert state.health == dict.fromkeys(read, MISS)


async def test_a_topology_of_another_type_hides_nothing_else():
    buses = {name: MemoryBuses()(name) for name in ("system-redis", "market-redis")}
    system = buses["system-redis"].client
    await system.lpush("mesh:topology", "x")
    await system.hset("healer:roster", "a", b'{"verdict":"up","ts":5}')
    state, failed = await read_fleet_state(TRUTH, buses.__getitem__)
    assert (failed, state.roster.keys(), state.instances) == ({}, {"a"}, {})


async def test_a_bus_that_fails_is_named_and_the_other_one_is_read():
    buses = {name: MemoryBuses()(name) for name in ("system-redis", "market-redis")}
    await buses["system-redis"].client.hset("healer:roster", "a", b'{"verdict":"up","ts":5}')
    buses["market-redis"].connected = False
    state, failed = await read_fleet_state(TRUTH, buses.__getitem__)
    assert failed.keys() == {"market-redis"}
    assert state.roster.keys() == {"a"}
    buses["system-redis"].connected = False
    state, failed = await read_fleet_state(TRUTH, buses.__getitem__)
    assert (state, failed.keys()) == (FleetState(), {"system-redis", "market-redis"})
