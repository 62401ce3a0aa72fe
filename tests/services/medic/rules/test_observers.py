"""What is measured of hosts, processes, buses, beats and the market; what can't be measured is not known."""

import asyncio
import contextlib
import dataclasses
import os
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.beat import Beat
from marketswarm.bus import BusError
from marketswarm.detector import State
from marketswarm.fleet_control import FleetProcess, ProcessState
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.operator.approval_request import ApprovalRequest
from marketswarm.status.fleet_state import FleetState, InstanceCount
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.medic.facts import ProcessFacts, RestartOwner
from services.medic.metric import FLEET, HOST, Metric
from services.medic.observer import FleetObservation
from services.medic.owners.embedded_fleet import make_owned
from services.medic.owners.owner import OwnedProcess
from services.medic.refusal import Refusal
from services.medic.rule import MonitorRule, list_pairs
from services.medic.rules.buses import read_buses
from services.medic.rules.evaluation import RuleEvaluator
from services.medic.rules.fleet import MedicWork, list_pids, read_fleet, read_work
from services.medic.rules.host import HostObserver
from services.medic.rules.market import read_market
from services.medic.rules.measurement import BlockingMeasurement
from services.medic.source_rejects import MAX_SOURCES
from support.waiting import auntil

TRUTH = parse_truth(b'{"services": {"feed": {}, "mesh": {}, "sources": {}, "bars": {}, "archive": {}}}').truth
UP, DOWN = RosterEntry(State.UP), RosterEntry(State.DOWN)


def observation(processes=None, **state):
    return FleetObservation(TRUTH, FleetState(**state), (), (), processes, 1000.0)


def beat(svc, status):
    return Beat(svc, 1, 1000.0, status=status)


def process(name, restarts=0, pid=None):
    return make_owned(FleetProcess(name, ProcessState.RUNNING, True, "1", 5.0, restarts, pid))


def test_only_the_beat_of_a_service_that_is_up_says_whether_it_is_degraded():
    def degraded(entry, found):
        seen = observation(
            roster={} if entry is None else {"feed": entry}, beats={"feed": found} if found else {}
        )
        return read_fleet(seen)[Metric.DEGRADED]["feed"]

    assert [degraded(UP, beat("feed", status)) for status in ("ok", "degraded", "stopping")] == [0, 1, None]
    assert degraded(DOWN, beat("feed", "degraded")) is None
    assert degraded(None, beat("feed", "degraded")) is None
    assert degraded(UP, None) is None


def test_restarts_are_counted_by_the_fleet_otherwise_by_mesh():
    seen = observation(
        (process("feed", 2), process("feed/2", 3)),
        instances={"feed": InstanceCount(2, 99), "mesh": InstanceCount(1, 7)},
    )
    found = read_fleet(seen)[Metric.RESTARTS]
    assert found == {"feed": 5, "mesh": 7, "sources": None, "bars": None, "archive": None}


def test_restarts_of_a_container_are_counted_by_its_engine():
    container = OwnedProcess("feed", RestartOwner.ENGINE, ProcessFacts("c1@t1"), 4)
    seen = observation((container,), instances={"feed": InstanceCount(1, 99)})
    assert read_fleet(seen)[Metric.RESTARTS]["feed"] == 4
    assert list_pids(seen) == {}, "its pid may be one of another namespace"


def test_while_the_fleet_does_not_answer_what_mesh_counts_is_no_restart():
    seen = observation(instances={"feed": InstanceCount(2, 99)})
    assert read_fleet(seen)[Metric.RESTARTS]["feed"] == 99, "no fleet is known"
    seen = dataclasses.replace(seen, owned_by_silent={"feed": RestartOwner.UP})
    assert read_fleet(seen)[Metric.RESTARTS]["feed"] is None


def test_the_medics_own_work_is_measured_too():
    work = MedicWork(
        frozenset({"feed"}), {"mesh": ApprovalRequest("restart", "a", 9.0)}, stopped=Refusal.CUT_OFF
    )
    assert read_work(work, ["feed", "mesh"]) == {
        Metric.ESCALATED: {"feed": 1, "mesh": 0},
        Metric.PROPOSED: {"feed": 0, "mesh": 1},
        Metric.STOPPED: {FLEET: 1},
        Metric.FUSE: {FLEET: 0},
    }
    assert read_work(MedicWork(is_fuse_blown=True), [])[Metric.FUSE] == {FLEET: 1}


def test_a_conflict_is_what_mesh_says_of_a_service_that_it_saw():
    counts = {"feed": InstanceCount(3, is_conflict=True), "mesh": InstanceCount(2)}
    found = read_fleet(observation(instances=counts))[Metric.CONFLICT]
    assert found == {"feed": 1, "mesh": 0, "sources": None, "bars": None, "archive": None}


def test_processes_are_found_by_their_service():
    seen = observation((process("feed", pid=7), process("feed/2", pid=8), process("mesh")))
    assert list_pids(seen) == {"feed": [7, 8]}
    assert list_pids(observation()) == {}


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_the_disk_of_a_service_is_another_one_than_those_of_the_machine(monkeypatch, tmp_path):
    with contextlib.ExitStack() as ends:

        def work_in(folder):
            process = subprocess.Popen(["sleep", "300"], cwd=folder)
            ends.callback(process.wait)
            ends.callback(process.kill)
            return process.pid

        here, other = work_in("."), work_in("/proc")
        monkeypatch.setattr("psutil.disk_usage", lambda _folder: SimpleNamespace(percent=40.0))
        pids = {"here": [here], "gone": [here, 2**22 + 1], "none": []}
        found = HostObserver().measure(pids)[Metric.PROCESS_DISK_FREE]
        assert found == {"here": 100, "gone": None, "none": None}
        monkeypatch.setattr("psutil.disk_usage", lambda _folder: SimpleNamespace(percent=96.5))
        found = HostObserver().measure({"both": [here, other]})[Metric.PROCESS_DISK_FREE]
        assert found == {"both": 3.5}


def test_the_host_and_a_process_are_measured_and_one_that_has_ended_is_not_known():
    host, own = HostObserver(), os.getpid()
    first = host.measure({"feed": [own], "gone": [own, 2**22 + 1], "none": []})
    assert first[Metric.HOST_CPU] == {HOST: None}, "the first one has nothing to compare"
    assert 0 < first[Metric.HOST_MEMORY][HOST] < 100
    assert 0 <= first[Metric.HOST_DISK_FREE][HOST] <= 100
    assert 0 < first[Metric.PROCESS_MEMORY]["feed"] < 100
    assert first[Metric.PROCESS_MEMORY]["gone"] is None
    assert first[Metric.PROCESS_MEMORY]["none"] is None
    assert first[Metric.PROCESS_CPU]["feed"] is None
    until_cpu = time.process_time() + 0.05
    while time.process_time() < until_cpu:
        pass
    second = host.measure({"feed": [own]})
    assert second[Metric.HOST_CPU][HOST] >= 0
    assert second[Metric.PROCESS_CPU]["feed"] > 0


def test_what_proc_hides_is_not_known_said_once_and_ends_nothing(monkeypatch, capsys):
    """As where systemd shows an agent the processes alone: ProcSubset=pid."""

    def hide(*_args):
        raise FileNotFoundError(2, "No such file or directory", "/proc/stat")

    monkeypatch.setattr("services.medic.rules.host.psutil.cpu_percent", hide)
    monkeypatch.setattr("services.medic.rules.host.psutil.virtual_memory", hide)
    host = HostObserver()
    for _ in range(2):
        found = host.measure({"feed": [os.getpid()]})
        assert found[Metric.HOST_CPU] == found[Metric.HOST_MEMORY] == {HOST: None}
        assert 0 <= found[Metric.HOST_DISK_FREE][HOST] <= 100
    said = "".join(capsys.readouterr())
    assert said.count("medic.host_unreadable") == 1
    assert "/proc/stat" in said


async def test_each_measurement_runs_in_the_same_thread_since_psutil_compares_with_the_last_call_of_one():
    measurement = BlockingMeasurement()
    threads = []
    await asyncio.to_thread(lambda: None)
    for _ in range(5):
        await measurement.run(lambda: threads.append(threading.get_ident()) or {}, 60)
        await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.01) for _ in range(3)))
    assert len(set(threads)) == 1


def test_the_fullest_disk_counts_and_one_that_can_not_be_read_does_not(monkeypatch):
    monkeypatch.setattr("services.medic.rules.host.DISKS", ("/full", "/empty", "/away"))

    def usage(folder):
        if folder == "/away":
            raise OSError
        return SimpleNamespace(percent={"/full": 97.5, "/empty": 3.0}[folder])

    monkeypatch.setattr("services.medic.rules.host.psutil.disk_usage", usage)
    assert HostObserver().measure({})[Metric.HOST_DISK_FREE] == {HOST: 2.5}
    monkeypatch.setattr("services.medic.rules.host.DISKS", ("/away",))
    assert HostObserver().measure({})[Metric.HOST_DISK_FREE] == {HOST: None}


async def test_a_measurement_that_hangs_is_not_known_and_no_second_one_is_begun(monkeypatch):
    monkeypatch.setattr("services.medic.rules.host.WITHIN_SEC", 0.05)
    host, may_end, begun = HostObserver(), threading.Event(), []

    def measure(pids):
        begun.append(pids)
        may_end.wait(60)
        return {Metric.HOST_CPU: {HOST: 1.0}}

    host.measure = measure
    assert await host.read({"feed": [1]}) == {}
    assert await host.read({"feed": [1]}) == {}
    assert len(begun) == 1
    may_end.set()
    monkeypatch.setattr("services.medic.rules.host.WITHIN_SEC", 60)
    assert await auntil(lambda: host.read({})) == {Metric.HOST_CPU: {HOST: 1.0}}


class InfoBus:
    """A bus that answers INFO, or fails."""

    def __init__(self, **info):
        self.client = SimpleNamespace(info=str, hlen=str, exists=str)
        self._info = info

    async def ask(self, section):
        if section not in self._info:
            raise BusError("b", "away", "")
        return self._info[section]


async def test_a_bus_is_as_full_as_it_says_and_without_a_limit_that_is_not_known():
    alone = {"role": "master", "connected_slaves": 0}
    limited = {"connected_clients": 50, "maxclients": 10_000}
    buses = {
        "full": InfoBus(memory={"used_memory": 90, "maxmemory": 100}, clients=limited, replication=alone),
        "open": InfoBus(
            memory={"used_memory": 90, "maxmemory": 0}, clients={"connected_clients": 5}, replication=alone
        ),
        "odd": InfoBus(memory=[], clients={"connected_clients": "x", "maxclients": True}, replication=None),
        "away": InfoBus(),
    }
    found = await read_buses(buses, buses.__getitem__)
    assert found[Metric.BUS_MEMORY] == {"full": 90, "open": None, "odd": None}
    assert found[Metric.BUS_CONNECTIONS] == {"full": 0.5, "open": None, "odd": None}


@pytest.mark.parametrize(
    ("replication", "count", "lag"),
    [
        ({"role": "master"}, 0, None),
        ({"role": "master", "slave0": {"state": "online", "lag": 1}}, 1, 1),
        (
            {
                "role": "master",
                "slave0": {"state": "online", "lag": 1},
                "slave1": {"state": "wait_bgsave", "lag": 0},
                "slave2": {"state": "online", "lag": 40},
            },
            2,
            40,
        ),
        (
            {"role": "master", "slave0": {"state": "online", "lag": "1"}, "slave1": "x", "slave2": None},
            0,
            None,
        ),
        ({"role": "slave", "slave0": {"state": "online", "lag": 1}}, None, None),
        ([], None, None),
    ],
)
async def test_the_replicas_of_a_bus_are_those_that_follow_and_the_slowest_one_counts(
    replication, count, lag
):
    bus = InfoBus(memory={}, clients={}, replication=replication)
    found = await read_buses(["a"], lambda _name: bus)
    assert (found[Metric.BUS_REPLICAS], found[Metric.BUS_REPLICA_LAG]) == ({"a": count}, {"a": lag})


async def test_buses_are_asked_at_once_since_one_that_does_not_answer_takes_its_time():
    asked, all_asked = [], asyncio.Event()

    class Slow(InfoBus):
        async def ask(self, section):
            asked.append(section)
            if len(asked) == 3:
                all_asked.set()
            await asyncio.wait_for(all_asked.wait(), 30)
            return await super().ask(section)

    assert (await read_buses("abc", lambda _name: Slow()))[Metric.BUS_MEMORY] == {}
    assert asked == ["memory"] * 3


@pytest.fixture
def bus():
    return MemoryBus()


async def market(bus, **roster):
    return await read_market(observation(roster=roster), lambda _name: bus)


async def test_the_states_of_sources_are_read_while_sources_is_up(bus):
    states = {
        "kraken": '{"state":"up","outcome":"limited","rejects":3}',
        "yahoo": '{"state":"down"}',
        "new": "{}",
        "odd": "junk",
        "list": '{"state":[]}',
    }
    await bus.client.hset("market:sources", mapping=states)
    found = await market(bus, sources=UP)
    unknown = {"new": None, "odd": None, "list": None}
    assert found[Metric.SOURCE_FAILING] == {"kraken": 0, "yahoo": 1, **unknown}
    assert found[Metric.SOURCE_LIMITED] == {"kraken": 1, "yahoo": 0, **unknown}
    assert found[Metric.SOURCE_REJECTS] == {"sources": 3}
    await bus.client.hset("sources:breaker:kraken", "paused", -1)
    assert (await market(bus, sources=UP))[Metric.SOURCE_REJECTS] == {"sources": 0}
    assert await market(bus, sources=DOWN) == {}
    assert await market(bus) == {}


async def test_a_hash_with_too_many_sources_is_not_read(bus):
    await bus.client.hset("market:sources", mapping={f"s{n}": "{}" for n in range(MAX_SOURCES + 1)})
    nothing = {Metric.SOURCE_FAILING: {}, Metric.SOURCE_LIMITED: {}, Metric.SOURCE_REJECTS: {"sources": 0}}
    assert await market(bus, sources=UP) == {**nothing, Metric.GATE_CLOSED: {FLEET: None}}


@pytest.mark.parametrize(
    ("raw", "closed"),
    [
        ('{"state":"closed","failed":[{}]}', 1),
        ('{"state":"open"}', 0),
        ('{"state":"loading"}', None),
        ('{"state":["closed"]}', None),
        ("junk", None),
    ],
)
async def test_whether_the_gate_is_closed_is_what_its_last_run_left(bus, raw, closed):
    await bus.client.set("preload:status", raw)
    assert (await market(bus, sources=UP))[Metric.GATE_CLOSED] == {FLEET: closed}
    assert Metric.GATE_CLOSED not in await market(bus, sources=DOWN)


async def test_the_quarantine_counts_what_was_ever_added(bus):
    assert await market(bus, bars=UP) == {Metric.QUARANTINED: {FLEET: 0}}


async def test_a_bus_of_the_market_that_is_away_makes_nothing_known(bus):
    bus.connected = False
    assert await market(bus, sources=UP, bars=UP) == {}


async def test_a_damaged_backup_is_what_archive_says(bus):
    for name, value in (("archive-1.dump", 1), ("", 0)):
        await bus.client.set("archive:backup", orjson.dumps({"state": "idle", "ts": 900, "damaged": name}))
        assert (await market(bus, archive=UP))[Metric.BACKUP_DAMAGED] == {"archive": value}


async def test_a_backup_that_could_not_be_restored_is_what_archive_says(bus):
    for why, value in (("pg_restore failed", 1), ("", 0)):
        await bus.client.set("archive:backup", orjson.dumps({"state": "idle", "ts": 900, "verify_why": why}))
        assert (await market(bus, archive=UP))[Metric.RESTORE_FAILED] == {"archive": value}


async def test_how_late_a_backup_is_is_what_archive_says_while_it_is_up(bus):
    report = '{"state":"failed","ts":900,"due_at":400}'
    for raw, found in (
        (report, {"archive": 600}),
        (report.replace("failed", "running"), {"archive": 0}),
        (report.replace("400", "2000"), {"archive": 0}),
        ("junk", None),
    ):
        await bus.client.set("archive:backup", raw)
        assert (await market(bus, archive=UP)).get(Metric.BACKUP_LATE) == found, raw
    assert await market(bus, archive=DOWN) == {}


REPORT = {
    "ts": 1000, "lag_sec": 700, "connections": 45, "connection_limit": 90, "idle_transactions": 2,
    "size_bytes": 3_500_000_000, "memory_percent": 81.5, "replicas": 1, "replica_lag_sec": None,
    "table_ages": {"quotes": 30.5},
}  # fmt: skip


async def test_how_the_database_is_is_what_archive_says_while_it_is_up(bus):
    await bus.client.set("archive:database", orjson.dumps(REPORT))
    found = await market(bus, archive=UP)
    assert found == {
        Metric.DATABASE_CONNECTIONS: {"database": 50},
        Metric.DATABASE_IDLE_TRANSACTIONS: {"database": 2},
        Metric.DATABASE_SIZE: {"database": 3.5},
        Metric.DATABASE_MEMORY: {"database": 81.5},
        Metric.DATABASE_REPLICAS: {"database": 1},
        Metric.DATABASE_REPLICA_LAG: {"database": None},
        Metric.DATABASE_LAG: {"archive": 700},
        Metric.TABLE_AGE: {"database quotes": 30.5},
    }
    assert await market(bus, archive=DOWN) == {}
    assert await market(bus) == {}


@pytest.mark.parametrize(
    "changed", [{"ts": 1}, {"ts": 2000}, {"connections": "45"}, {"table_ages": {"a": -1}}]
)
async def test_what_archive_says_is_not_known_if_it_is_old_or_can_not_be(bus, changed):
    await bus.client.set("archive:database", orjson.dumps({**REPORT, **changed}))
    assert await market(bus, archive=UP) == {}


async def test_a_rule_about_a_table_takes_the_age_of_that_table_and_missing_ages_end_nothing(bus):
    rule = MonitorRule.model_validate({"metric": "table_age", "table": "quotes", "above": 30})
    pairs, evaluator = list_pairs({"old": rule}, TRUTH), RuleEvaluator()
    for at, ages, holds in ((0, {"quotes": 31}, True), (10, {"bars": 5}, None), (20, {"quotes": 1}, True)):
        await bus.client.set("archive:database", orjson.dumps({**REPORT, "table_ages": ages}))
        findings = evaluator.evaluate(pairs, await market(bus, archive=UP), float(at), 60.0)
        assert findings["old/database"].holds is holds, at
