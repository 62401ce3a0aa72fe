"""FAILURES rows 5, 6 and 37: a bus goes and comes back (one that stays and refuses: test_refusing_buses)."""

import time

import pytest

from support.rig import TcpProxy
from support.scenes.faults import (
    BUS_TIMEOUT_SEC,
    BUSES,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fault_lasts,
    fits_outage,
    only,
    service,
)
from support.waiting import until

OUTAGE_SEC = 2 * TIMEOUT_SEC + 1
SERVICES = {"mortal": service(), **{f"s{n}": service(BUSES[n % 2]) for n in range(10)}}

breaks = {"stop": ("stop", "start"), "kill": ("kill", "start"), "freeze": ("freeze", "thaw")}
REASONS = {"stop": "refused", "kill": "refused", "freeze": "timeout"}


@pytest.mark.parametrize(
    ("bus", "fault"),
    [
        pytest.param("system-redis", "stop", id="row 5, stopped"),
        pytest.param("market-redis", "freeze", id="row 6, frozen"),
        pytest.param("market-redis", "stop", marks=pytest.mark.nightly("[row 5, stopped]")),
        pytest.param("system-redis", "freeze", marks=pytest.mark.nightly("[row 6, frozen]")),
    ],
)
def test_rows_5_6_a_lost_bus_is_one_fact_told_over_the_other_and_no_service_is_missed(tmp_path, bus, fault):
    other = next(each for each in BUSES if each != bus)
    services = {**SERVICES, "mortal": service(bus), "sentinel": service(timeout_sec=30)}
    env = {"SENTINEL_TIMEOUT_SEC": "2.5"}
    with Scene(tmp_path, services, ("healer", "sentinel"), env=env) as scene:
        away, back = (getattr(scene.server(bus), what) for what in breaks[fault])
        broken_at, begun = time.time(), time.monotonic()
        away()
        miss = scene.wait_logged("bus_miss", bus, bus=other)
        assert scene.tail(other).wait("bus_miss", bus) == miss
        assert miss["late_sec"] >= miss["timeout_sec"] == BUS_TIMEOUT_SEC
        assert (miss["reason"], miss["by"]) == (REASONS[fault], "healer")
        assert broken_at - 1 <= miss["since"] <= miss["ts"] - BUS_TIMEOUT_SEC
        scene.stop_beating("mortal")
        fault_lasts(max(0.0, begun + OUTAGE_SEC - time.monotonic()))
        back()
        back_at = time.time()
        ok = scene.wait_logged("bus_ok", bus, bus=other)
        assert fits_outage(ok["down_sec"], back_at - broken_at)
        # a service that died meanwhile is missed, after a warm-up
        told = scene.wait_logged("heartbeat_miss", "mortal")
        assert told["ts"] - ok["ts"] >= WARM_UP_SEC - 0.3
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        for each in BUSES:
            # under one id on every bus, the lost one too
            assert [event for event in scene.log(bus=each) if event["type"].startswith("bus_")] == [miss, ok]
            assert scene.log("healer_miss", bus=each) == [], "the sentinel, which heard nothing at all"
        assert only(scene.log("heartbeat_miss"))["svc"] == "mortal"
        assert scene["healer"].running


def of_buses(scene: Scene, bus: str = "system-redis") -> list[tuple[str, str]]:
    """What was told of buses, and of the healer's reach to them."""
    events = scene.log(bus=bus)
    return [(e["type"], e["svc"]) for e in events if e["type"].partition("_")[0] in ("bus", "reach")]


@pytest.mark.nightly("test_row_46_a_healer_whose_own_network_is_away_…")
def test_row_46_both_buses_lost_at_once_are_one_fact_when_they_are_back_and_no_service_is_missed(tmp_path):
    with Scene(tmp_path, SERVICES) as scene:
        for bus in BUSES:
            scene.server(bus).kill()
        fault_lasts(OUTAGE_SEC)
        for bus in BUSES:  # a wait for the first would be a longer outage of the second
            scene.server(bus).begin()
        until(lambda: all(scene.server(bus).answers() for bus in BUSES), what="both to answer")
        for bus in BUSES:
            gap = scene.wait_logged("reach_gap", "healer", bus=bus)
            assert gap["gap_sec"] >= OUTAGE_SEC - 1
            assert gap["since"] == pytest.approx(gap["ts"] - gap["gap_sec"], abs=0.01)
        scene.listen_for(max(TIMEOUT_SEC + WARM_UP_SEC, BUS_TIMEOUT_SEC), *BUSES)
        assert scene.misses() == []
        for bus in BUSES:
            assert of_buses(scene, bus) == [("reach_gap", "healer")]
        # a subscriber whose server was away, too, may be back later than the healer
        assert scene.tail("system-redis").of("reach_gap") in ([], scene.log("reach_gap"))
        scene["healer"].stop()
        scene["healer"].start()
        until(
            lambda: len(scene["healer"].logs("monitor.state_loaded")) > 1,
            what="the healer to recall its roster",
        )
        scene.listen_for(WARM_UP_SEC, *BUSES)
        assert scene["healer"].logs("state.unusable") == []
        assert of_buses(scene) == [("reach_gap", "healer")]


@pytest.mark.parametrize("fault", ["swallow", pytest.param("refuse", marks=pytest.mark.nightly("[swallow]"))])
def test_row_46_a_healer_whose_own_network_is_away_blames_no_bus_and_says_so_when_it_is_back(tmp_path, fault):
    with (
        Scene(tmp_path, SERVICES, agents=()) as scene,
        TcpProxy(scene.system.port) as one,
        TcpProxy(scene.market.port) as other,
    ):
        scene.start("healer", SYSTEM_REDIS_URL=one.url, MARKET_REDIS_URL=other.url)
        scene.all_up()
        for wire in (one, other):
            getattr(wire, fault)()
        cut_at = time.time()
        scene.stop_beating("mortal")
        fault_lasts(OUTAGE_SEC)
        assert of_buses(scene) == []
        for wire in (one, other):
            wire.heal()
        gap = scene.wait_logged("reach_gap", "healer")
        assert cut_at - 1 <= gap["since"] <= cut_at + OUTAGE_SEC / 2  # the last answer may be read late
        assert gap["gap_sec"] == pytest.approx(gap["ts"] - gap["since"], abs=0.01)
        scene.wait_logged("heartbeat_miss", "mortal")
        scene.listen_for(BUS_TIMEOUT_SEC, *BUSES)
        assert scene.misses() == ["mortal"]
        assert of_buses(scene) == [("reach_gap", "healer")]


@pytest.mark.nightly(
    "test_row_46_a_healer_whose_own_network_is_away_…; tests/marketswarm/detector/test_bus.py"
)
def test_row_46_of_two_lost_buses_the_one_that_stays_away_is_missed_when_the_other_is_back(tmp_path):
    with Scene(tmp_path, SERVICES) as scene:
        for bus in BUSES:
            scene.server(bus).kill()
        fault_lasts(OUTAGE_SEC)
        scene.system.start()
        miss = scene.wait_logged("bus_miss", "market-redis")
        assert (miss["reason"], miss["late_sec"] >= OUTAGE_SEC) == ("refused", True)
        assert miss["ts"] - scene.log("reach_gap")[0]["ts"] >= BUS_TIMEOUT_SEC - 0.1
        scene.market.start()
        scene.wait_logged("bus_ok", "market-redis")
        told = [("reach_gap", "healer"), ("bus_miss", "market-redis"), ("bus_ok", "market-redis")]
        assert of_buses(scene) == told


def unwritten(scene: Scene, bus: str) -> int:
    """How many bytes of its log a server has yet to write to the disk."""
    return scene.server(bus).cmd("INFO", "persistence")["aof_buffer_length"]


def test_row_37_buses_killed_while_they_write_keep_the_log_and_all_goes_on_by_itself(tmp_path):
    mortals = {f"d{n}": service(BUSES[n % 2]) for n in range(20)}
    with Scene(
        tmp_path, {**SERVICES, **mortals, "rss_agg": service(timeout_sec=5)}, ("healer", "rss_agg")
    ) as scene:
        scene.stop_beating(*mortals)
        for svc in mortals:
            scene.wait_logged("heartbeat_miss", svc)
        until(lambda: not any(unwritten(scene, bus) for bus in BUSES), what="all to be on the disk")
        before = scene.log("heartbeat_miss")
        for bus in BUSES:
            scene.server(bus).kill()
        fault_lasts(1)
        for bus in BUSES:
            scene.server(bus).start()
        assert scene.log("heartbeat_miss") == before
        scene.beat_again("d0", "d1")
        for svc in ("d0", "d1"):
            scene.wait_logged("heartbeat_ok", svc)
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        assert scene.log("heartbeat_miss") == before
        assert all(scene[name].running for name in ("healer", "rss_agg"))
