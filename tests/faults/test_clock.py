"""FAILURES rows 14 and 52: a wall clock steps by an hour. It is shown to people, and decides nothing."""

import json
import time

import pytest

from bench.wall_clock import Clock
from support.rig.receiver import Receiver
from support.scenes.faults import (
    BUSES,
    SLACK,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fits_outage,
    only,
    service,
)
from support.scenes.notifier import Notified, hooks
from support.waiting import until

pytestmark = pytest.mark.needs("faketime")

HOUR = 3600.0
SERVICES = {
    "mortal": service(),
    "doomed": service("market-redis"),
    **{f"s{n}": service(BUSES[n % 2]) for n in range(6)},
}
steps = pytest.mark.parametrize("step", [HOUR, -HOUR], ids=["an hour on", "an hour back"])
nightly = pytest.mark.nightly("test_row_14_the_healers_clock_steps…[an hour back]")


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


def misses_in_time(scene: Scene, *names: str) -> None:
    """They stop, and each is missed after its timeout, by a clock that nobody steps."""
    scene.stop_beating(*names)
    for name in names:
        silent = scene.beaters[name].last(name) + time.monotonic() - time.time()
        scene.alerts.wait("heartbeat_miss", name)
        late_sec = scene.alerts.at("heartbeat_miss", name) - silent
        assert late_sec >= TIMEOUT_SEC - 0.1
        assert TIMEOUT_SEC <= only(scene.log("heartbeat_miss", name))["late_sec"] <= SLACK * (TIMEOUT_SEC + 1)


@pytest.mark.parametrize(
    "step",
    [pytest.param(HOUR, id="an hour on", marks=nightly), pytest.param(-HOUR, id="an hour back")],
)
def test_row_14_the_healers_clock_steps_and_no_verdict_changes(tmp_path, clock, step):
    with Scene(tmp_path, SERVICES, agents=()) as scene:
        scene.start("healer", **clock.env)
        scene.all_up()
        clock.step(step)
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        assert scene.alarms() == []
        misses_in_time(scene, "mortal", "doomed")
        miss = only(scene.log("heartbeat_miss", "mortal"))
        assert miss["ts"] == pytest.approx(time.time() + step, abs=10)  # what it was told to show, it shows
        clock.step(0)
        last = scene.beaters["mortal"].last("mortal")
        first = scene.beat_again("mortal")
        ok = scene.alerts.wait("heartbeat_ok", "mortal")
        assert 0 <= ok["age_sec"] <= SLACK
        assert ok["down_sec"] >= TIMEOUT_SEC
        assert fits_outage(ok["down_sec"], first - last)
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        assert sorted(scene.misses()) == ["doomed", "mortal"]


@nightly
@steps
def test_row_14_a_healer_restarted_by_another_clock_remembers_and_shows_no_time_below_nought(
    tmp_path, clock, step
):
    with Scene(tmp_path, SERVICES, agents=()) as scene:
        healer = scene.start("healer", **clock.env)
        scene.all_up()
        misses_in_time(scene, "mortal")
        scene.market.kill()
        scene.wait_logged("bus_miss", "market-redis")
        healer.kill()
        clock.step(step)
        healer.start()
        until(lambda: len(healer.logs("monitor.state_loaded")) == 2, what=lambda: f"the memory: {healer}")
        scene.stop_beating("s0")
        scene.market.start()
        scene.beat_again("mortal")
        ok = scene.alerts.wait("heartbeat_ok", "mortal")
        bus_ok = scene.wait_logged("bus_ok", "market-redis")
        assert ok["down_sec"] >= 0
        assert bus_ok["down_sec"] >= 0
        scene.alerts.wait("heartbeat_miss", "s0")
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        assert sorted(scene.misses()) == ["mortal", "s0"]
        assert scene.log("heartbeat_gap") == []


@nightly
@steps
def test_row_14_the_servers_clocks_step_and_what_expires_early_or_late_changes_no_verdict(
    tmp_path, clock, step
):
    with Scene(tmp_path, SERVICES, server_clock=clock.env) as scene:
        clock.step(step)
        until(lambda: abs(scene.system.cmd("TIME")[0] - time.time() - step) < 60, what="the servers' clocks")
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        assert scene.alarms() == []
        misses_in_time(scene, "mortal", "doomed")
        scene["healer"].kill()
        scene["healer"].start()
        scene.beat_again("mortal")
        scene.alerts.wait("heartbeat_ok", "mortal", 20)
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        clock.step(0)
        scene.listen_for(TIMEOUT_SEC, *BUSES)
        misses_in_time(scene, "s0")
        assert sorted(scene.misses()) == ["doomed", "mortal", "s0"]
        assert [gap for gap in scene.log("heartbeat_gap") if not scene.is_of_a_stall(gap)] == []


def test_row_14_an_agents_clock_steps_and_mesh_says_so_once_an_incident(tmp_path, clock):
    services = {**SERVICES, "rss_agg": service(), "mesh": service()}

    def skew() -> float | None:
        topology = json.loads(scene.system.cmd("GET", "mesh:topology") or '{"services": {}}')
        instances = topology["services"].get("rss_agg", {"instances": [{"skew_sec": None}]})["instances"]
        return instances[0]["skew_sec"]

    with Scene(tmp_path, services, agents=(), idle=("rss_agg", "mesh")) as scene:
        agent, mesh = scene.start("rss_agg", **clock.env), scene.start("mesh")
        until(lambda: scene.system.cmd("EXISTS", "beat:rss_agg", "beat:mesh") == 2, what="both to beat")
        scene.start("healer")
        scene.all_up()
        for incidents, step in enumerate((HOUR, -HOUR), 1):
            clock.step(step)
            until(
                lambda step=step: skew() == pytest.approx(step, abs=2), what=lambda: f"the skew, not {skew()}"
            )
            scene.wait_beats("rss_agg", 4)  # it is still the same incident
            scene.wait_beats("mesh", 2)
            assert len(mesh.logs("mesh.clock_skew")) == incidents
            assert mesh.logs("mesh.clock_skew")[-1]["svc"] == "rss_agg"
            clock.step(0)
            until(lambda: skew() is None, what="no skew")
        clock.step(HOUR)
        assert scene.alarms() == []
        agent.kill()
        miss = scene.alerts.wait("heartbeat_miss", "rss_agg")
        assert TIMEOUT_SEC <= miss["late_sec"] <= SLACK * (TIMEOUT_SEC + 1)
        assert miss["since"] == pytest.approx(time.time(), abs=5)  # by the healer's own clock


@pytest.mark.nightly("test_row_14_an_agents_clock_steps_and_mesh_says_so_once_an_incident")
def test_row_14_a_mesh_whose_own_clock_steps_does_not_fill_its_log(tmp_path, clock):
    many = {f"n{n}": service() for n in range(40)}
    with Scene(tmp_path, {**many, "mesh": service()}, ("healer",), idle=("mesh",)) as scene:
        mesh = scene.start("mesh", **clock.env)
        until(
            lambda: (
                len(json.loads(scene.system.cmd("GET", "mesh:topology") or '{"services": {}}')["services"])
                > 40
            ),
        )
        clock.step(HOUR)
        until(
            lambda: sum(line["count"] for line in mesh.logs("mesh.clock_skew")) >= 40, what="the skew of all"
        )
        scene.wait_beats("mesh", 8)  # two seconds' worth of lines
        assert len(mesh.logs("mesh.clock_skew")) <= 3


def test_row_52_the_clocks_are_set_back_between_two_outages_and_people_hear_of_both(tmp_path, clock):
    with (
        Receiver() as receiver,
        Notified(
            tmp_path,
            hooks(one=receiver),
            ("healer", "notifier"),
            services={"mortal": service()},
            env=clock.env,
            rate_limit_sec=0,
        ) as scene,
    ):
        for count, step in ((1, 0.0), (2, -HOUR)):
            clock.step(step)
            scene.stop_beating("mortal")
            scene.wait_logged("heartbeat_miss", "mortal", count=count)
            until(lambda n=count: len(receiver.taken("mortal")) == 2 * n - 1, what="a message about the miss")
            scene.beat_again("mortal")
            until(lambda n=count: len(receiver.taken("mortal")) == 2 * n, what="a message about its end")
        assert [event["type"] for event in receiver.taken("mortal")] == ["heartbeat_miss", "heartbeat_ok"] * 2
