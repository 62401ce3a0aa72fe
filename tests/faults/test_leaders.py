"""FAILURES row 23: two healers, one voice."""

import time

import orjson
import pytest

from support.rig import Proc, TcpProxy
from support.scenes.faults import (
    BUSES,
    SLACK,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fault_lasts,
    fits_beat,
    service,
)
from support.waiting import until

LEASE_SEC = 1.0
ENV = {"HEALER_LEASE_SEC": str(LEASE_SEC)}
SERVICES = {
    "alpha": service(),
    "beta": service(),
    "gamma": service("market-redis"),
    **{f"s{n}": service(BUSES[n % 2]) for n in range(10)},
}


def another(scene: Scene, name: str = "standby", **env: str) -> Proc:
    """A second healer, that has joined and knows what there is to know."""
    healer = Proc("healer", {**scene.env, **env}, scene.folder)
    scene.agents[name] = scene.resources.enter_context(healer)
    healer.wait_log("monitor.state_loaded")
    return healer


def boot(healer: Proc) -> str:
    return healer.logs("agent.joined")[-1]["boot"]


def leader(scene: Scene, bus: str = "system-redis") -> str:
    return scene.server(bus).cmd("HGET", "healer:lease", "boot") or ""


def epoch(scene: Scene, bus: str = "system-redis") -> int:
    return int(scene.server(bus).cmd("HGET", "healer:lease", "epoch") or 0)


def wait_for_leader(scene: Scene, healer: Proc, *buses: str) -> None:
    for bus in buses or BUSES:
        until(lambda bus=bus: leader(scene, bus) == boot(healer), what=f"a change of leader on {bus}")


def told(scene: Scene, svc: str, bus: str = "system-redis") -> list[str]:
    """What was told of a service, apart from its first ok, and from a stall of its beater."""
    events = [event for event in scene.log(svc=svc, bus=bus) if not scene.is_of_a_stall(event)]
    return [e["type"].partition("_")[2] for e in events if e["type"] != "heartbeat_ok" or "down_sec" in e]


def settle(scene: Scene) -> None:
    """Time for whoever leads now to say all that it could have to say."""
    saved = {bus: scene.proven(bus) for bus in BUSES}
    for bus, sec in saved.items():
        until(lambda bus=bus, sec=sec: scene.proven(bus) != sec, what=f"the clock of {bus} to be saved")
    scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)


def nothing_false(scene: Scene) -> None:
    for bus in BUSES:
        assert scene.log("bus_miss", bus=bus) == []
    assert set(scene.misses()) <= {"alpha", "beta", "gamma"}


@pytest.mark.parametrize(
    ("end", "within"),
    [("kill", LEASE_SEC + 1), pytest.param("stop", 1.0, marks=pytest.mark.nightly("[kill]"))],
)
def test_row_23_a_leader_that_is_gone_has_a_successor_that_knows_all_and_repeats_nothing(
    tmp_path, end, within
):
    with Scene(tmp_path, SERVICES, env=ENV) as scene:
        standby = another(scene)
        first = boot(scene["healer"])
        assert leader(scene) == first
        scene.stop_beating("alpha", "gamma")
        scene.wait_logged("heartbeat_miss", "alpha")
        scene.wait_logged("heartbeat_miss", "gamma")
        before = epoch(scene)
        beta_last = scene.stop_beating("beta")
        fault_lasts(TIMEOUT_SEC - LEASE_SEC / 2)  # it falls due while nobody leads
        getattr(scene["healer"], end)()
        gone_at = time.time()
        alpha_back = scene.beat_again("alpha")  # and this one comes back while nobody leads
        wait_for_leader(scene, standby)
        assert time.time() - gone_at <= SLACK * within
        assert epoch(scene) == epoch(scene, "market-redis") > before
        miss = scene.wait_logged("heartbeat_miss", "beta")
        assert fits_beat(miss["since"], beta_last)
        assert miss["ts"] - beta_last <= SLACK * TIMEOUT_SEC  # as it was concluded
        ok = scene.wait_logged("heartbeat_ok", "alpha", count=2)
        assert fits_beat(ok["ts"], alpha_back)
        scene.beat_again("gamma")
        scene.wait_logged("heartbeat_ok", "gamma", count=2)
        settle(scene)
        assert told(scene, "alpha") == told(scene, "gamma") == ["miss", "ok"]
        assert told(scene, "beta") == ["miss"]
        shown = orjson.loads(scene.system.cmd("GET", "health:beta"))
        assert shown == miss
        nothing_false(scene)


@pytest.mark.nightly("tests/healer/test_election_small_world.py; test_row_23_a_leader_that_is_gone_…")
@pytest.mark.parametrize("bus", BUSES)
def test_row_23_a_bus_that_the_standby_alone_did_not_hear_is_no_lost_one_when_it_leads(tmp_path, bus):
    with Scene(tmp_path, SERVICES, env=ENV) as scene, TcpProxy(scene.server(bus).port) as wire:
        standby = another(scene, **{f"{bus.upper().replace('-', '_')}_URL": wire.url})
        wire.swallow(b"SUBSCRIBE")
        standby.wait_log("bus.down")
        wire.heal()
        standby.wait_log("bus.up")
        # before the leader could be known to have seen nothing of it
        scene["healer"].kill()
        wait_for_leader(scene, standby)
        settle(scene)
        nothing_false(scene)
        assert scene.misses() == []


def test_row_23_a_leader_that_slept_through_its_lease_is_turned_away_when_it_wakes(tmp_path):
    with Scene(tmp_path, SERVICES, env=ENV) as scene:
        standby = another(scene)
        scene.stop_beating("alpha")
        fault_lasts(TIMEOUT_SEC - 0.3)
        scene["healer"].freeze()
        wait_for_leader(scene, standby)
        scene.wait_logged("heartbeat_miss", "alpha")
        scene.stop_beating("beta")
        scene.wait_logged("heartbeat_miss", "beta")
        scene.beat_again("alpha")
        scene["healer"].thaw()
        assert scene["healer"].wait_log("lease.lost")["leader"] == boot(standby)
        settle(scene)
        assert leader(scene) == leader(scene, "market-redis") == boot(standby)
        assert told(scene, "alpha") == ["miss", "ok"]
        assert told(scene, "beta") == ["miss"]
        nothing_false(scene)
        # and it leads again, knowing all that was told meanwhile, when its successor is gone
        standby.kill()
        wait_for_leader(scene, scene["healer"])
        scene.beat_again("beta")
        scene.wait_logged("heartbeat_ok", "beta", count=2)
        settle(scene)
        assert told(scene, "alpha") == told(scene, "beta") == ["miss", "ok"]
        nothing_false(scene)


@pytest.mark.parametrize(
    ("cut_off", "how"),
    [
        pytest.param(["system-redis"], "swallow", id="home"),
        *(
            pytest.param(cut_off, how, marks=pytest.mark.nightly("[home]"))
            for cut_off, how in [
                (["system-redis"], "refuse"),
                *(
                    (cut_off, how)
                    for cut_off in (["market-redis"], list(BUSES))
                    for how in ("refuse", "swallow")
                ),
            ]
        ),
    ],
)
def test_row_23_a_leader_that_is_cut_off_says_nothing_more_and_another_speaks(tmp_path, cut_off, how):
    with (
        Scene(tmp_path, SERVICES, agents=(), env=ENV, bus_timeout_sec=4.0) as scene,
        TcpProxy(scene.system.port) as system,
        TcpProxy(scene.market.port) as market,
    ):
        wires = {"system-redis": system, "market-redis": market}
        scene.start("healer", SYSTEM_REDIS_URL=system.url, MARKET_REDIS_URL=market.url)
        scene.all_up()
        standby = another(scene)
        scene.stop_beating("alpha")
        scene.wait_logged("heartbeat_miss", "alpha")
        for bus in cut_off:
            getattr(wires[bus], how)()
        scene.stop_beating("beta", "gamma")
        wait_for_leader(scene, standby)
        for svc in ("beta", "gamma"):
            scene.wait_logged("heartbeat_miss", svc)
        fault_lasts(3)  # longer than the one that is cut off takes to believe the bus lost
        scene.beat_again("alpha")
        scene.wait_logged("heartbeat_ok", "alpha", count=2)
        for bus in cut_off:
            wires[bus].heal()
        settle(scene)
        assert told(scene, "alpha") == ["miss", "ok"]
        assert told(scene, "beta") == told(scene, "gamma") == ["miss"]
        nothing_false(scene)


@pytest.mark.nightly("tests/healer/test_election_small_world.py; test_row_23_a_leader_that_is_gone_…")
def test_row_23_a_lost_home_is_one_fact_under_one_id_though_its_teller_dies_meanwhile(tmp_path):
    with Scene(tmp_path, SERVICES, env=ENV) as scene:
        standby = another(scene)
        scene.system.stop()
        miss = scene.wait_logged("bus_miss", "system-redis", bus="market-redis")
        scene["healer"].kill()
        wait_for_leader(scene, standby, "market-redis")
        scene.stop_beating("gamma")
        fault_lasts(TIMEOUT_SEC)
        scene.system.start()
        ok = scene.wait_logged("bus_ok", "system-redis", bus="market-redis")
        wait_for_leader(scene, standby)
        scene.wait_logged("heartbeat_miss", "gamma")
        settle(scene)
        assert [e["id"] for e in scene.log("bus_miss", bus="market-redis")] == [miss["id"]]
        assert [e["id"] for e in scene.log("bus_ok", bus="market-redis")] == [ok["id"]]
        assert scene.misses() == ["gamma"]


@pytest.mark.nightly("tests/healer/test_election_small_world.py; test_row_23_a_leader_that_is_gone_…")
def test_row_23_leaders_that_die_one_after_the_other_tell_one_miss(tmp_path):
    with Scene(tmp_path, SERVICES, env=ENV) as scene:
        healers = [scene["healer"], another(scene)]
        scene.stop_beating("alpha")
        scene.wait_logged("heartbeat_miss", "alpha")
        epochs = [epoch(scene)]
        for turn in range(5):
            dying, living = healers[turn % 2], healers[1 - turn % 2]
            dying.kill()
            wait_for_leader(scene, living)
            dying.start()
            until(
                lambda dying=dying, n=turn: len(dying.logs("monitor.state_loaded")) > n // 2 + 1,
                what="it to join",
            )
            epochs.append(epoch(scene))
        assert epochs == sorted(set(epochs))
        scene.beat_again("alpha")
        scene.wait_logged("heartbeat_ok", "alpha", count=2)
        settle(scene)
        assert told(scene, "alpha") == ["miss", "ok"]
        nothing_false(scene)
