import contextlib
from itertools import count
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm import log as logs
from marketswarm.beat import Beat, Sender, parse_beat
from marketswarm.testing import MemoryBus
from services.mesh.listener import UnknownServices
from services.mesh.store import (
    INSTANCES_A_SEC,
    REWRITE_SEC,
    TopologyWriter,
    compute_pause_sec,
    encode_topology,
    restore_topology,
)
from services.mesh.topology import Topology
from support.examples import examples
from support.fixtures import closed

BUS = {"a": "system-redis"}


def topology():
    return Topology(lambda _svc: 3.0)


def picture(mesh, unknown, now, wall):
    return b"".join(encode_topology(mesh, unknown, now, wall))


def beat(i=1, boot="one", **more):
    return Beat("a", i, more.pop("ts", 1000.0), boot, **more)


def test_what_is_shown_has_the_agreed_shape():
    mesh = topology()
    mesh.record_beat(
        "system-redis",
        beat(4, rev=2, status="degraded", detail="slow", every=1.0),
        0,
        1000.0,
        b'{"host": "web1", "version": "0.3.0", "started": 940.0}',
    )
    assert orjson.loads(picture(mesh, ["who"], 1.0, 1001.0)) == {
        "ts": 1001.0,
        "kept_sec": 86_400,
        "services": {
            "a": {
                "instances": [
                    {
                        "boot": "one",
                        "i": 4,
                        "rev": 2,
                        "status": "degraded",
                        "detail": "slow",
                        "every": 1.0,
                        "last_ts": 1000.0,
                        "first_ts": 1000.0,
                        "restarts": 0,
                        "skew_sec": None,
                        "host": "web1",
                        "version": "0.3.0",
                        "started": 940.0,
                        "uptime_sec": 60.0,
                        "restarts_hour": 0,
                        "restarted_at": [],
                        "crash_loop": False,
                    }
                ],
                "conflict": False,
            }
        },
        "deaf": [],
        "converged": None,
        "took_sec": None,
        "strangers": ["who"],
        "gone": {},
    }


def test_a_picture_is_remembered_by_the_next_mesh():
    mesh = topology()
    for n in range(7):
        mesh.record_beat("system-redis", beat(1, f"b{n}", rev=2), 10.0 * n, 1000.0 + 10 * n)
        mesh.record_beat("system-redis", beat(2, f"b{n}", status="stopping"), 10.0 * n + 1, 1001.0 + 10 * n)
    mesh.record_beat("system-redis", beat(3, "two", rev=2, ts=1070.0), 70, 1070.0, b'{"host": "web1"}')
    mesh.convergence.set_revision(2, 0)
    assert mesh.check_convergence(0, 0)
    mesh.in_conflict.add("a")
    raw = picture(mesh, [], 71.0, 1071.0)

    again = topology()
    assert restore_topology(again, raw, BUS, 5000.0, 1081.0) == []
    assert again.record_beat("system-redis", beat(4, "two", rev=2), 5001, 1082.0) == []
    one = again.instances_of("a")["two"]
    assert (one.history.restarts, one.history.in_last_hour(5001.0), one.history.is_looping) == (7, 7, True)
    assert one.history.in_last_hour(5000.0 + 3600.0 - 15.0) == 1  # that of 1070, eleven seconds before
    assert one.sender.host == "web1"
    again.convergence.set_revision(2, 5001)
    assert again.check_convergence(0, 5001) == []
    assert again.in_conflict == {"a"}
    assert [event.event for event in again.remove_silent(5010.0, 1090.0)] == ["left"]


def test_a_crash_loop_that_grew_calm_while_mesh_was_away_is_over():
    mesh = topology()
    for n in range(7):
        mesh.record_beat("system-redis", beat(1, f"b{n}"), 10.0 * n, 1000.0 + 10 * n)
        mesh.record_beat("system-redis", beat(2, f"b{n}", status="stopping"), 10.0 * n + 1, 1001.0 + 10 * n)
    mesh.record_beat("system-redis", beat(3, "two", ts=1070.0), 70, 1070.0)
    raw = picture(mesh, [], 71.0, 1071.0)

    again = topology()
    assert restore_topology(again, raw, BUS, 5000.0, 1071.0 + 7200) == []
    one = again.instances_of("a")["two"]
    assert (one.history.restarts, one.history.is_looping) == (7, False)


def test_who_was_gone_when_mesh_was_is_a_restart_when_it_is_back():
    mesh = topology()
    mesh.record_beat("system-redis", beat(1), 0, 1000.0)
    mesh.remove_silent(9.0, 1009.0)
    again = topology()
    restore_topology(again, picture(mesh, [], 10.0, 1010.0), BUS, 50.0, 1020.0)
    assert [each.event for each in again.record_beat("system-redis", beat(1, "two"), 51, 1021.0)] == [
        "restarted"
    ]


def test_a_clock_that_was_set_back_meanwhile_puts_no_restart_ahead_of_now():
    mesh = topology()
    mesh.record_beat("system-redis", beat(1), 0, 1000.0)
    mesh.record_beat("system-redis", beat(2, status="stopping"), 1, 1001.0)
    mesh.record_beat("system-redis", beat(1, "two"), 2, 1002.0)
    again = topology()
    restore_topology(again, picture(mesh, [], 3.0, 1003.0), BUS, 50.0, 10.0)
    assert list(again.instances_of("a")["two"].history.times) == [50.0]


ODD_INSTANCE = b'{"services": {"a": {"instances": [%b]}}}'
STRANGER = ODD_INSTANCE.replace(b'"a"', b'"stranger"')
ODD_GONE = b'"gone": {"a": [5, {}, {"boot": 1, "ts": 1, "restarts": 1}]}'


@pytest.mark.parametrize(
    ("raw", "reports"),
    [
        (None, 0),
        *((raw, 1) for raw in (b"", b"{", b"[]", b"5", b"x", b'{"services": 5}', b'{"services": []}')),
        (b'{"services": {"a": 5}, "gone": {"a": 5}}', 0),
        (b'{"services": {"a": {"instances": 5}}, %b}' % ODD_GONE, 3),
        (ODD_INSTANCE % b'5, {}, {"boot": 5}', 3),
        (ODD_INSTANCE % b'{"i": 1, "last_ts": "x", "first_ts": 1, "restarts": 0}', 1),
        (ODD_INSTANCE % b'{"i": 1, "last_ts": 1, "first_ts": 1, "restarts": 0.5}', 1),
        (STRANGER % b'{"i": 1, "last_ts": 1, "first_ts": 1, "restarts": 0}', 0),
        (b"x" * (17 << 20), 1),
        (ODD_INSTANCE % (b'{"i": 1, "detail": ' + b"[" * 600 + b"]" * 600 + b"}"), 1),
    ],
    ids=count(),  # one of them has millions of bytes
)
def test_a_picture_that_is_none_is_not_remembered_and_each_odd_part_is_reported(raw, reports):
    mesh = topology()
    assert len(restore_topology(mesh, raw, BUS, 0.0, 1002.0)) == reports
    assert (mesh.departed, [*mesh.instances()]) == ({}, [])


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
MAX_NAMES = ["boot", "i", "rev", "status", "last_ts", "first_ts", "restarts", "restarted_at", "started", "ts"]
instances = st.dictionaries(st.sampled_from(MAX_NAMES), values | st.integers(0, 5), max_size=10)


@settings(max_examples=examples(50))
@given(instances, values)
def test_no_picture_whatever_crashes_the_reading(one, gone):
    raw = orjson.dumps({"services": {"a": {"instances": [one]}}, "gone": {"a": [one, gone]}})
    mesh = topology()
    restore_topology(mesh, raw, BUS, 50.0, 1000.0)
    mesh.remove_silent(51.0, 1001.0)
    picture(mesh, [], 51.0, 1001.0)


@pytest.mark.parametrize("restarts", [2**64 - 1, 2**63, 2**53, -1, 1.5, "x", None])
def test_restarts_that_nobody_can_have_counted_are_reported_and_the_picture_can_be_written_again(restarts):
    mesh = topology()
    mesh.record_beat("system-redis", beat(1, "one"), 0.0, 1000.0)
    shown = orjson.loads(picture(mesh, [], 1.0, 1001.0))
    shown["services"]["a"]["instances"][0]["restarts"] = restarts
    shown["gone"] = {"a": [{"boot": "zero", "ts": 990.0, "restarts": restarts, "restarted_at": []}]}
    again = topology()
    unusable = restore_topology(again, orjson.dumps(shown), BUS, 0.0, 1002.0)
    assert unusable == ["a instances", "a gone"]
    again.record_beat("system-redis", beat(1, "two"), 5.0, 1005.0)
    assert picture(again, [], 6.0, 1006.0)


def test_a_beat_that_was_not_parsed_and_a_clock_that_is_off_are_shown():
    mesh = topology()

    def shown(now):
        (one,) = orjson.loads(picture(mesh, [], now, 1000.0 + now))["services"]["a"]["instances"]
        return one

    raw = b'{"svc":"a","i":%d,"ts":%.3f,"boot":"one","every":10.0}'
    first = raw % (2, 1002)
    full = parse_beat(first, "a")
    mesh.record_beat("system-redis", full, 2, 1002, first)
    assert (shown(2)["every"], shown(2)["skew_sec"]) == (10.0, None)
    assert mesh.record_familiar("a", "system-redis", raw % (3, 1003), 3, 1003)
    assert (shown(3)["i"], shown(3)["uptime_sec"]) == (3, 1.0)
    mesh.record_beat("system-redis", beat(4, ts=2000.0, status="degraded", detail="slow"), 5, 1005.0)
    assert (shown(5)["detail"], shown(5)["skew_sec"]) == ("slow", 995)
    mesh.instances_of("a")["one"].sender = Sender(started=-1e308)
    assert shown(6)["uptime_sec"] == 1e308


def test_a_picture_is_made_in_a_piece_for_each_service():
    mesh = topology()
    for n in range(100):
        mesh.record_beat("system-redis", Beat(f"svc{n:02}", 1, 1000.0, "one"), 0, 1000.0)
    pieces = list(encode_topology(mesh, [], 1.0, 1001.0))
    assert max(map(len, pieces)) < 1000
    assert list(orjson.loads(b"".join(pieces))["services"]) == [f"svc{n:02}" for n in range(100)]
    assert pieces[1:] == list(encode_topology(mesh, [], 1.0, 1002.0))[1:], "the time is in the first"


@pytest.mark.parametrize(
    ("instances", "pause_sec"), [(0, 0), (1000, 0), (2000, 2), (10_000, 10), (100_000, 10)]
)
def test_a_large_picture_is_written_less_often(instances, pause_sec):
    mesh = topology()
    mesh.services = {f"svc{n}": {"one": None} for n in range(instances)}
    assert compute_pause_sec(mesh) == pause_sec


bus = closed(lambda: MemoryBus("system-redis"))


async def test_a_picture_is_written_when_it_changes_and_again_after_a_while(bus, monkeypatch):
    clock = SimpleNamespace(now=100.0)
    clock.monotonic, clock.time = lambda: clock.now, lambda: 1000.0 + clock.now
    monkeypatch.setattr("services.mesh.store.time", clock)
    places = SimpleNamespace(access_points=SimpleNamespace(publish_to=()))
    writer = TopologyWriter(
        SimpleNamespace(
            log=logs.get("mesh"),
            bus=lambda _name: bus,
            section=places,
            waiting=lambda *_args, **_to: contextlib.nullcontext(),
        )
    )
    listener = SimpleNamespace(events=[], unknown=UnknownServices())
    mesh = topology()

    async def written(sec):
        clock.now += sec
        await writer.write(mesh, listener)
        return orjson.loads(await bus.client.get("mesh:topology"))

    mesh.record_beat("system-redis", beat(1), 0, 1000.0)
    assert (await written(0))["ts"] == 1100
    assert (await written(1))["ts"] == 1100, "nothing has changed"
    mesh.record_beat("system-redis", beat(2), 0, 1000.0)
    shown = await written(1)
    assert (shown["ts"], shown["services"]["a"]["instances"][0]["i"]) == (1102, 2)
    assert (await written(REWRITE_SEC - 1))["ts"] == 1102
    assert (await written(1))["ts"] == 1112
    for n in range(3 * INSTANCES_A_SEC):
        mesh.record_beat("system-redis", Beat(f"svc{n}", 1, 1000.0, "one"), 0, 1000.0)
    assert (await written(1))["ts"] == 1113
    assert (await written(2))["ts"] == 1113, "so many are written each three seconds"
    mesh.record_beat("system-redis", beat(3), 0, 1000.0)
    assert (await written(1.1))["ts"] == 1116.1
