import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketswarm.beat import Beat, Sender
from services.mesh.picture import remember, shown
from services.mesh.topology import Topology

BUS = {"a": "system-redis"}


def topology():
    return Topology(lambda _svc: 3.0)


def beat(i=1, boot="one", **more):
    return Beat("a", i, more.pop("ts", 1000.0), boot, **more)


def test_what_is_shown_has_the_agreed_shape():
    mesh = topology()
    mesh.heard(
        "system-redis",
        beat(4, rev=2, status="degraded", detail="slow", every=1.0),
        0,
        1000.0,
        lambda: Sender("web1", "0.3.0", 940.0),
    )
    assert shown(mesh, ["who"], 1.0, 1001.0) == {
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
        mesh.heard("system-redis", beat(1, f"b{n}", rev=2), 10.0 * n, 1000.0 + 10 * n)
        mesh.heard("system-redis", beat(2, f"b{n}", status="stopping"), 10.0 * n + 1, 1001.0 + 10 * n)
    mesh.heard("system-redis", beat(3, "two", rev=2, ts=1070.0), 70, 1070.0, lambda: Sender("web1"))
    mesh.convergence.applied(2, 0)
    assert mesh.converged(0, 0)
    mesh.crowding.crowded.add("a")
    raw = orjson.dumps(shown(mesh, [], 71.0, 1071.0))

    again = topology()
    assert remember(again, raw, BUS, 5000.0, 1081.0) == 1
    assert again.heard("system-redis", beat(4, "two", rev=2), 5001, 1082.0) == []
    one = again.of("a")["two"]
    assert (one.past.restarts, one.past.in_the_hour(5001.0), one.past.looping) == (7, 7, True)
    assert one.past.in_the_hour(5000.0 + 3600.0 - 15.0) == 1  # that of 1070, eleven seconds before
    assert one.sender.host == "web1"
    again.convergence.applied(2, 5001)
    assert again.converged(0, 5001) == []
    assert again.crowding.crowded == {"a"}
    assert [event.event for event in again.tick(5010.0, 1090.0)] == ["left"]


def test_who_was_gone_when_mesh_was_is_a_restart_when_it_is_back():
    mesh = topology()
    mesh.heard("system-redis", beat(1), 0, 1000.0)
    mesh.tick(9.0, 1009.0)
    again = topology()
    remember(again, orjson.dumps(shown(mesh, [], 10.0, 1010.0)), BUS, 50.0, 1020.0)
    assert [each.event for each in again.heard("system-redis", beat(1, "two"), 51, 1021.0)] == ["restarted"]


def test_a_clock_that_was_set_back_meanwhile_puts_no_restart_ahead_of_now():
    mesh = topology()
    mesh.heard("system-redis", beat(1), 0, 1000.0)
    mesh.heard("system-redis", beat(2, status="stopping"), 1, 1001.0)
    mesh.heard("system-redis", beat(1, "two"), 2, 1002.0)
    again = topology()
    remember(again, orjson.dumps(shown(mesh, [], 3.0, 1003.0)), BUS, 50.0, 10.0)
    assert list(again.of("a")["two"].past.times) == [50.0]


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"5",
        b'{"services": 5}',
        b'{"services": {"a": 5}, "gone": {"a": 5}}',
        b'{"services": {"a": {"instances": 5}}, "gone": {"a": [5, {}, {"boot": 1, "ts": 1, "restarts": 1}]}}',
        b'{"services": {"a": {"instances": [5, {}, {"boot": 5}]}}}',
        b'{"services": {"a": {"instances": [{"i": 1, "last_ts": "x", "first_ts": 1, "restarts": 0}]}}}',
        b'{"services": {"a": {"instances": [{"i": 1, "last_ts": 1, "first_ts": 1, "restarts": 0.5}]}}}',
        b'{"services": {"stranger": {"instances": [{"i": 1, "last_ts": 1, "first_ts": 1, "restarts": 0}]}}}',
        b"x" * (17 << 20),
        b'{"services": {"a": {"instances": [{"i": 1, "detail": ' + b"[" * 600 + b"]" * 600 + b"}]}}}",
    ],
)
def test_a_picture_that_is_none_is_not_remembered(raw):
    mesh = topology()
    assert remember(mesh, raw, BUS, 0.0, 0.0) == 0
    assert mesh.gone == {}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NAMES = ["boot", "i", "rev", "status", "last_ts", "first_ts", "restarts", "restarted_at", "started", "ts"]
instances = st.dictionaries(st.sampled_from(NAMES), values | st.integers(0, 5), max_size=10)


@settings(max_examples=40)
@given(instances, values)
def test_no_picture_whatever_crashes_the_reading(one, gone):
    raw = orjson.dumps({"services": {"a": {"instances": [one]}}, "gone": {"a": [one, gone]}})
    mesh = topology()
    remember(mesh, raw, BUS, 50.0, 1000.0)
    mesh.tick(51.0, 1001.0)
    orjson.dumps(shown(mesh, [], 51.0, 1001.0))


@pytest.mark.parametrize("restarts", [2**64 - 1, 2**63, 2**53, -1, 1.5, "x", None])
def test_restarts_that_nobody_can_have_counted_are_reported_and_the_picture_can_be_written_again(restarts):
    mesh = topology()
    mesh.heard("system-redis", beat(1, "one"), 0.0, 1000.0)
    picture = shown(mesh, [], 1.0, 1001.0)
    picture["services"]["a"]["instances"][0]["restarts"] = restarts
    picture["gone"] = {"a": [{"boot": "zero", "ts": 990.0, "restarts": restarts, "restarted_at": []}]}
    again, unusable = topology(), []
    assert remember(again, orjson.dumps(picture), BUS, 0.0, 1002.0, unusable=unusable.append) == 0
    assert unusable == ["a instances", "a gone"]
    again.heard("system-redis", beat(1, "two"), 5.0, 1005.0)
    assert orjson.dumps(shown(again, [], 6.0, 1006.0))


@pytest.mark.parametrize(
    "raw", [b"x", b"[]", b'{"services": []}', b'{"services": {"a": {"instances": [1]}}}']
)
def test_a_picture_that_is_none_is_reported(raw):
    unusable: list[str] = []
    assert remember(topology(), raw, BUS, 0.0, 1002.0, unusable=unusable.append) == 0
    assert len(unusable) == 1


def test_no_picture_is_nothing_to_report():
    unusable: list[str] = []
    assert remember(topology(), None, BUS, 0.0, 1002.0, unusable=unusable.append) == 0
    assert unusable == []
