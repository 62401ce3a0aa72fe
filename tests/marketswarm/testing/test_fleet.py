"""The fleet that users' tests start: real, on its own, and gone afterwards."""

import os
import socket
from pathlib import Path

import orjson
import pytest

from marketswarm.testing import Fleet, FleetError
from marketswarm.testing.fleet import build_test_truth
from marketswarm.truth import parse_truth
from support.waiting import until

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.live


def test_a_service_is_missed_and_comes_back_and_nothing_is_left_of_it(tmp_path, monkeypatch):
    # what the user's own fleet is told by is not for that of a test
    monkeypatch.setenv("SYSTEM_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("TRUTH_PATH", "/nowhere")
    monkeypatch.setenv("METRICS_PORT", "1")
    with Fleet(tmp_path, "mesh", project=ROOT, timeout_sec=3) as fleet:
        assert fleet.beat("mesh")["svc"] == "mesh"
        # the first time; on a busy machine its start may have taken longer than its warm-up
        assert [event["type"] for event in fleet.alerts()][-1:] == ["heartbeat_ok"]
        fleet.kill("mesh")
        miss = fleet.wait("heartbeat_miss", "mesh")
        assert (miss["reason"], miss["timeout_sec"]) == ("silent", 3)
        fleet.start("mesh")
        assert fleet.wait("heartbeat_ok", "mesh")["down_sec"] >= 3
        with pytest.raises(FleetError, match="heartbeat_miss of mesh"):
            fleet.wait("heartbeat_miss", "mesh", within_sec=0.1)
        with pytest.raises(FleetError, match="runs no absent"):
            fleet.stop("absent")
        assert fleet.bus("market-redis").ping()
        ports = [int(fleet.url(name).rpartition(":")[2]) for name in ("system-redis", "market-redis")]
        os.kill(fleet.pid, 9)  # the test is killed, or the machine is short of memory
        until(lambda: not any(map(listens, ports)), what="its servers to be gone")
        with pytest.raises(FleetError, match="the fleet ended while waiting for it"):
            fleet.until(lambda: False)
    fleet.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_second_and_a_half_without_a_beat_is_a_miss_unless_said_otherwise(tmp_path):
    beats = Fleet(tmp_path, "mesh", project=ROOT).truth["services"]["mesh"]["heartbeat"]
    assert (beats["interval_sec"], beats["timeout_sec"]) == (0.3, 1.5)


def test_one_that_can_not_come_up_says_why_and_leaves_nothing(tmp_path):
    fleet = Fleet(tmp_path, "no_such", project=ROOT, truth={"services": {"no_such": {}}})
    with pytest.raises(FleetError, match="there is no module"), fleet:
        pytest.fail("it came up")
    assert fleet.pid is None


TRUTH = {
    "buses": {"system-redis": {"url": "redis://10.0.0.8"}, "third": {"url": "env:ELSEWHERE"}},
    "services": {
        "prices": {
            "heartbeat": {"redis_url": "redis://third:6379", "interval_sec": 60},
            "depends_on": ["feeds", "quotes"],
            "settings": {"every_sec": 5},
        },
        "quotes": {"heartbeat": {"redis_url": "redis://10.0.0.9:7000", "channel": "team:quotes"}},
        "feeds": {},
        "healer": {
            "threshold": {"heartbeat_cadence": 30, "bus_timeout_sec": 5},
            "access_points": {
                "subscribe_to": [{"bus": "system-redis", "key": "shell:heartbeat"}],
                "publish_to": [{"bus": "system-redis", "key": "team:alerts"}],
            },
        },
    },
}


def test_what_is_wanted_is_kept_and_hurries_on_buses_of_its_own():
    made = build_test_truth(TRUTH, ["prices", "quotes"], 0.2, 1.0)
    truth = parse_truth(orjson.dumps(made)).truth
    assert list(truth.services) == ["prices", "quotes", "healer"]
    assert {(each.svc, each.interval_sec, each.timeout_sec) for each in truth.watched()} == {
        ("prices", 0.2, 1.0),
        ("quotes", 0.2, 1.0),
    }
    assert truth.bus_of("prices") == "third"
    assert truth.bus_of("quotes") == "system-redis"
    assert truth.services["quotes"].heartbeat.channel == "team:quotes"
    assert truth.services["prices"].settings == {"every_sec": 5}
    assert truth.services["prices"].depends_on == ("quotes",)
    assert {name: truth.bus_url(name) for name in truth.bus_names()} == {
        name: f"redis://{name}:6379" for name in ("system-redis", "market-redis", "third")
    }
    assert truth.alert_target("") == ("system-redis", "team:alerts")


def test_a_truth_without_a_healer_gets_one():
    made = build_test_truth({"services": {"prices": {}}}, ["prices"], 0.2, 1.0)
    assert [each.svc for each in parse_truth(orjson.dumps(made)).truth.watched()] == ["prices"]


def test_one_that_the_truth_does_not_have_is_named():
    with pytest.raises(KeyError, match="absent"):
        build_test_truth(TRUTH, ["absent"], 0.2, 1.0)
