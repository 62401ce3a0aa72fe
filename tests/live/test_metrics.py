"""METRICS_PORT on real agents."""

import signal
import time

from support.rig import Proc, free_port
from support.rig.metrics import answers, key, samples
from support.scenes.faults import SLACK, Scene, service
from support.waiting import until

AGENTS = ("healer", "sentinel", "notifier", "mesh", "massive", "rss_agg", "vexy_ai")


def test_every_agent_tells_of_itself_and_its_counters_move(tmp_path):
    working = {svc: service() for svc in AGENTS if svc not in ("healer", "sentinel")}
    ports = {svc: free_port() for svc in AGENTS}
    began = time.time()
    with Scene(tmp_path, {**working, "sentinel": service()}, (), idle=AGENTS) as scene:
        for svc, port in ports.items():
            scene.start(svc, METRICS_PORT=str(port))
        for svc, port in ports.items():
            until(
                lambda port=port: answers(port) and samples(port).get(key("beats_sent_total"), 0) >= 2,
                what=f"beats of {scene[svc]}",
            )
            first, line = samples(port), scene[svc].wait_log("agent.joined")
            assert first[key("agent_info", agent=svc, boot=line["boot"])] == 1
            assert first[key("truth_revision")] == 1
            # seven starts at once may hold a beat up until it is dropped
            assert first[key("beats_failed_total")] == 0 or scene[svc].logs("beat.failed")
            assert abs(first[key("last_beat_sent_timestamp_seconds")] - time.time()) < 5
            assert began < first[key("agent_start_time_seconds")] <= time.time()
            lag = key("event_loop_lag_seconds_count")
            until(lambda port=port, lag=lag, first=first: samples(port)[lag] > first[lag], what="its lag")
            assert scene[svc].stop() == 0, str(scene[svc])
            assert not answers(port)


def test_a_healer_tells_of_every_service_and_bus_as_things_happen_to_them(tmp_path):
    port = free_port()
    services = {"alpha": service(timeout_sec=5), "beta": service("market-redis"), "never": service()}
    with Scene(tmp_path, services, env={"METRICS_PORT": str(port)}, idle={"never"}) as scene:
        scene.wait_logged("heartbeat_miss", "never")
        until(lambda: samples(port).get(key("service_up", svc="never")) == 0, what="never to be down")
        first = samples(port)
        assert {svc: first.get(key("service_up", svc=svc)) for svc in services} == {
            "alpha": 1,
            "beta": 1,
            "never": 0,
        }
        assert key("service_last_beat_timestamp_seconds", svc="never") not in first
        assert first[key("service_beats_total", svc="never")] == 0
        for bus in ("system-redis", "market-redis"):
            assert first[key("bus_up", bus=bus)] == first[key("bus_listening", bus=bus)] == 1
            assert 0 < first[key("bus_canary_round_trip_seconds", bus=bus)] < 10
            assert first[key("leader", bus=bus)] == 1
            assert first[key("lease_epoch", bus=bus)] >= 1
        until(
            lambda: (
                samples(port)[key("service_beats_total", svc="alpha")]
                > first[key("service_beats_total", svc="alpha")]
            ),
            what="beats to be counted",
        )

        scene.system.cmd("PUBLISH", "alpha:heartbeat", "no beat")
        died = scene.stop_beating("beta")
        scene.wait_logged("heartbeat_miss", "beta")
        until(lambda: samples(port)[key("service_up", svc="beta")] == 0, what="beta to be down")
        then = samples(port)
        assert then[key("service_misses_total", svc="beta")] == 1
        assert then[key("beats_malformed_total")] == first[key("beats_malformed_total")] + 1
        assert abs(then[key("service_last_beat_timestamp_seconds", svc="beta")] - died) < 1
        assert then[key("services", verdict="down")] == 2
        misses = key("verdict_delay_seconds_count")
        until(lambda: samples(port)[misses] == 2, what="both misses to be told")
        assert samples(port)[key("verdict_delay_seconds_sum")] < 2 * SLACK
        scene.beat_again("beta")
        until(lambda: samples(port)[key("service_up", svc="beta")] == 1, what="beta to be up")

        scene.system.cmd("CLIENT", "KILL", "TYPE", "pubsub")
        again = key("bus_session_restarts_total", bus="system-redis")
        until(lambda: samples(port)[again] >= 1, what="a new session")
        assert samples(port)[key("bus_gaps_total", bus="system-redis")] >= 1


def test_a_sentinel_tells_of_the_healer(tmp_path):
    port = free_port()
    with Scene(tmp_path, {"alpha": service(), "sentinel": service()}, idle={"sentinel"}) as scene:
        scene.start("sentinel", METRICS_PORT=str(port), SENTINEL_TIMEOUT_SEC="1.5")
        sees = key("service_up", svc="healer")
        until(lambda: answers(port) and samples(port).get(sees) == 1, what=scene["sentinel"])
        assert not [name for name, _ in samples(port) if "lease" in name or "leader" in name]
        scene["healer"].kill()
        until(lambda: samples(port)[key("service_up", svc="healer")] == 0, what="its miss")


def test_a_hung_loop_still_answers_and_says_for_how_long_it_has_hung(tmp_path):
    port = free_port()
    services = {"worker": service(timeout_sec=6)}
    with Scene(tmp_path, services, (), idle=services) as scene:
        worker = scene.program("worker_that_hangs", METRICS_PORT=str(port))
        worker.wait_log("agent.joined")
        until(lambda: samples(port).get(key("beats_sent_total")), what="a beat")
        worker.signal(signal.SIGUSR2)
        until(lambda: samples(port).get(key("event_loop_stall_seconds"), 0) > 1.5, what=worker)
        assert worker.wait() == 5


def test_without_the_variable_there_is_no_port_and_no_library(tmp_path):
    modules = "sys, healer.__main__, sentinel.__main__, services.board.app"
    program = f"import {modules}; print('prometheus_client' in sys.modules)"
    (tmp_path / "look.py").write_text(program, encoding="utf-8")
    with Proc("look", {"PYTHONUNBUFFERED": "1"}, tmp_path) as look:  # a start of its own, no fork
        assert look.wait() == 0
        assert look.text().strip() == "False"
