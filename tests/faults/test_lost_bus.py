"""FAILURES rows 5, 6 and 37: a bus goes and comes back (one that stays and refuses: test_refusing_buses)."""

import time

import pytest
from rig import TcpProxy
from rig_scene import BUS_TIMEOUT_SEC, BUSES, NOISE_SEC, TIMEOUT_SEC, WARM_UP_SEC, Scene, only, rest, service

OUTAGE_SEC = 2 * TIMEOUT_SEC + 1
SERVICES = {"mortal": service(), **{f"s{n}": service(BUSES[n % 2]) for n in range(10)}}

breaks = {"stop": ("stop", "start"), "kill": ("kill", "start"), "freeze": ("freeze", "thaw")}
REASONS = {"stop": "refused", "kill": "refused", "freeze": "timeout"}


@pytest.mark.parametrize("fault", ["stop", "freeze"], ids=["row 5, stopped", "row 6, frozen"])
@pytest.mark.parametrize("bus", BUSES)
def test_rows_5_6_a_lost_bus_is_one_fact_told_over_the_other_and_no_service_is_missed(tmp_path, bus, fault):
    other = next(each for each in BUSES if each != bus)
    services = {**SERVICES, "mortal": service(bus)}
    with Scene(tmp_path, services) as scene:
        away, back = (getattr(scene.server(bus), what) for what in breaks[fault])
        broken_at, begun = time.time(), time.monotonic()
        away()
        miss = scene.wait_logged("bus_miss", bus, BUS_TIMEOUT_SEC + 1 + NOISE_SEC, bus=other)
        assert scene.tail(other).wait("bus_miss", bus, 1) == miss
        assert miss["late_sec"] >= miss["timeout_sec"] == BUS_TIMEOUT_SEC
        assert (miss["reason"], miss["by"]) == (REASONS[fault], "healer")
        assert miss["since"] == pytest.approx(broken_at, abs=0.5)
        scene.stop_beating("mortal")
        rest(max(0.0, begun + OUTAGE_SEC - time.monotonic()))
        back()
        back_at = time.time()
        ok = scene.wait_logged("bus_ok", bus, 2 + NOISE_SEC, bus=other)
        assert ok["down_sec"] == pytest.approx(back_at - broken_at, abs=2)
        # a service that died meanwhile is missed, after a warm-up
        told = scene.wait_logged("heartbeat_miss", "mortal", TIMEOUT_SEC + WARM_UP_SEC + 3)
        assert told["ts"] - ok["ts"] >= WARM_UP_SEC - 0.3
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        for each in BUSES:
            # under one id on every bus, the lost one too
            assert [event for event in scene.log(bus=each) if event["type"].startswith("bus_")] == [miss, ok]
        assert only(scene.log("heartbeat_miss"))["svc"] == "mortal"
        assert scene["healer"].running


def test_row_5_both_buses_lost_at_once_are_told_when_they_are_back_and_no_service_is_missed(tmp_path):
    with Scene(tmp_path, SERVICES) as scene:
        for bus in BUSES:
            scene.server(bus).kill()
        rest(OUTAGE_SEC)
        for bus in BUSES:
            scene.server(bus).start()
        for bus in BUSES:
            ok = scene.wait_logged("bus_ok", bus, 4 + NOISE_SEC)
            assert ok["down_sec"] >= OUTAGE_SEC - 1
            assert only(scene.log("bus_miss", bus))["reason"] == "refused"
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        assert scene.misses() == []


def test_a_verdict_whose_acknowledgement_is_lost_is_offered_again_and_told_once(tmp_path):
    with Scene(tmp_path, SERVICES, agents=()) as scene, TcpProxy(scene.system.port) as wire:
        scene.start("healer", SYSTEM_REDIS_URL=wire.url)
        scene.all_up()
        wire.swallow(only=b'"heartbeat_miss"', direction="down")
        scene.stop_beating("mortal")
        scene.alerts.wait("heartbeat_miss", "mortal", TIMEOUT_SEC + 1 + NOISE_SEC)
        assert scene["healer"].wait_log("tell.waiting")["reason"] == "timeout"
        rest(2.5)  # it is offered at least once more
        wire.heal()
        scene.beat_again("mortal")
        scene.alerts.wait("heartbeat_ok", "mortal", 3 + NOISE_SEC)
        assert [event["type"] for event in scene.alerts.of()] == ["heartbeat_miss", "heartbeat_ok"]
        assert len(scene.log("heartbeat_miss")) == 1


def test_row_37_buses_killed_while_they_write_keep_the_log_and_all_goes_on_by_itself(tmp_path):
    mortals = {f"d{n}": service(BUSES[n % 2]) for n in range(20)}
    with Scene(tmp_path, {**SERVICES, **mortals, "rss_agg": service()}, ("healer", "rss_agg")) as scene:
        scene.stop_beating(*mortals)
        for svc in mortals:
            scene.wait_logged("heartbeat_miss", svc, TIMEOUT_SEC + 1 + NOISE_SEC)
        rest(1.5)  # what is older than a second is on the disk
        before = scene.log("heartbeat_miss")
        for bus in BUSES:
            scene.server(bus).kill()
        rest(1)
        for bus in BUSES:
            scene.server(bus).start()
        assert scene.log("heartbeat_miss") == before
        scene.beat_again("d0", "d1")
        for svc in ("d0", "d1"):
            scene.wait_logged("heartbeat_ok", svc, 4 + NOISE_SEC)
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        assert scene.log("heartbeat_miss") == before
        assert all(scene[name].running for name in ("healer", "rss_agg"))
