"""massive on real buses, probing sockets of the test's own."""

import socket

import orjson
import pytest
from agent_scene import Scene, seed
from rig import free_port, until


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        yield scene


def truth(targets, **settings):
    return {
        "services": {
            "massive": {
                "heartbeat": {"interval_sec": 0.2, "timeout_sec": 3},
                "settings": {"probe_sec": 0.3, "targets": targets, **settings},
            }
        }
    }


def latest(scene, target):
    raw = scene.market.cmd("GET", f"probe:{target}")
    return orjson.loads(raw) if raw else {}


def test_it_probes_hosts_and_buses_and_says_which_fail(scene):
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        targets = [
            {"name": "peer", "host": "127.0.0.1", "port": port},
            {"name": "market", "bus": "market-redis"},
            {"name": "nobody", "host": "127.0.0.1", "port": free_port()},
        ]
        seed(scene.buses, truth(targets), 1)
        agent = scene.module("services.massive")
        beat = scene.wait_beat(svc="massive", detail="1 of 3 targets fail: nobody (tcp refused)")
        assert beat["status"] == "ok"
        assert latest(scene, "peer")["ok"] is True
        assert latest(scene, "market")["where"] == f"127.0.0.1:{scene.market.port}"
        assert (latest(scene, "nobody")["ok"], latest(scene, "nobody")["error"]) == (False, "refused")
        assert 0 < scene.market.cmd("PTTL", "probe:peer") <= 900
        assert scene.market.cmd("XLEN", "massive:probes") >= 3
    until(lambda: latest(scene, "peer").get("error") == "refused", 20)
    assert [line["target"] for line in agent.logs("probe.changed")].count("peer") == 2
    assert agent.stop() == 0
    assert "Traceback" not in agent.text()


def test_a_target_that_is_away_for_good_is_not_its_own_illness(scene):
    targets = [{"name": f"n{n}", "host": "127.0.0.1", "port": free_port()} for n in range(30)]
    seed(scene.buses, truth(targets), 1)
    scene.module("services.massive")
    scene.wait_beat(svc="massive", i=5, status="ok")


def test_results_that_cannot_be_published_are_a_trouble(scene):
    seed(scene.buses, truth([{"name": "system", "bus": "system-redis"}]), 1)
    scene.market.stop()
    agent = scene.module("services.massive", NET_TIMEOUT_SEC="0.5")
    scene.wait_beat(svc="massive", status="degraded", detail="results not published: market-redis refused")
    scene.market.start()
    until(lambda: scene.beat("massive").get("status") is None, 20)
    assert agent.running


def test_a_name_that_does_not_resolve_is_a_result_within_its_time(scene):
    seed(scene.buses, truth([{"name": "nx", "host": "no-such-host.invalid", "port": 1}], timeout_sec=0.5), 1)
    scene.module("services.massive", WATCHDOG_SEC="1.5")
    until(lambda: latest(scene, "nx").get("stage") == "dns", 20)
    scene.wait_beat(svc="massive", i=8)
