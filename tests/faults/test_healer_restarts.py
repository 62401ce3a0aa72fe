"""FAILURES rows 1 to 4: the healer goes and comes back."""

import pytest

from support.scenes.faults import (
    BUSES,
    SLACK,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fault_lasts,
    fits_beat,
    fits_outage,
    only,
    service,
)
from support.waiting import until

MANY = {f"s{n}": service(BUSES[n % 2]) for n in range(20)}


@pytest.mark.parametrize(
    "away_sec",
    [
        6.0,
        pytest.param(1.0, marks=pytest.mark.nightly("[6.0]")),
        pytest.param(25.0, marks=pytest.mark.nightly("[6.0] outlives every key and timeout, too")),
    ],
)
def test_rows_1_2_a_healer_that_was_away_misses_who_died_meanwhile_once_each_and_no_one_who_beats(
    tmp_path, away_sec
):
    # an interval that is most of the timeout: whoever starts without a warm-up gets it wrong
    slow = {svc: service(BUSES[n % 2], interval_sec=1.5, timeout_sec=2.5) for n, svc in enumerate(MANY)}
    services = {**slow, "keyed": service(), "bare": service()}
    with Scene(tmp_path, services, bare=["bare", *list(MANY)[10:]]) as scene:
        saved = scene.proven()
        until(lambda: scene.proven() > saved, what="the clocks to be saved")
        scene["healer"].kill()
        scene.stop_beating("keyed", "bare")
        fault_lasts(away_sec)
        scene["healer"].start()
        back = scene.heard_again(2)
        for svc in ("keyed", "bare"):
            last = scene.beaters[svc].last(svc)  # one was stopped before the other
            miss = scene.wait_logged("heartbeat_miss", svc)
            assert miss["ts"] - back <= SLACK * (max(TIMEOUT_SEC, WARM_UP_SEC) + 1)
            assert miss["late_sec"] >= miss["timeout_sec"] == TIMEOUT_SEC
            assert (miss["reason"], miss["by"]) == ("silent", "healer")
            # without the key, the moment of its last beat is only as sure as the last save
            witnessed = svc == "keyed" and back - last < 2 * TIMEOUT_SEC - 1
            assert miss["since"] == pytest.approx(last, abs=0.5 if witnessed else 3)
        scene.listen_for(3, *BUSES)  # whoever was given no warm-up is missed at once
        assert sorted(scene.misses()) == ["bare", "keyed"]
        assert [event["type"] for event in scene.alarms()] == 2 * ["heartbeat_miss"]


@pytest.mark.nightly("test_rows_1_2_…; tests/marketswarm/detector/test_restore.py")
def test_row_2_who_was_up_and_left_no_key_is_silent_though_its_first_silence_was_never_forgotten(tmp_path):
    with Scene(tmp_path, {"bare": service(), "alive": service()}, bare={"bare"}) as scene:
        scene["healer"].kill()
        last = scene.stop_beating("bare")
        # so a run leaves it that is killed when the service has just come up
        scene.system.cmd("HSET", "healer:silence", "bare", "0.000 0 0 system-redis")
        scene["healer"].start()
        miss = scene.wait_logged("heartbeat_miss", "bare")
        assert miss["late_sec"] >= miss["timeout_sec"] == TIMEOUT_SEC
        assert (miss["reason"], miss["since"]) == ("silent", pytest.approx(last, abs=3))


@pytest.mark.parametrize("end", ["kill", pytest.param("stop", marks=pytest.mark.nightly("[kill]"))])
def test_row_3_a_healer_restarted_during_outages_tells_no_second_miss_and_one_ok_of_the_whole_outage(
    tmp_path, end
):
    with Scene(tmp_path, {"lasts": service(), "ends_meanwhile": service(), "alive": service()}) as scene:
        down = ("lasts", "ends_meanwhile")
        scene.stop_beating(*down)
        last = {svc: scene.beaters[svc].last(svc) for svc in down}
        misses = [scene.wait_logged("heartbeat_miss", svc) for svc in down]
        getattr(scene["healer"], end)()
        scene.beat_again("ends_meanwhile")
        fault_lasts(TIMEOUT_SEC)
        scene["healer"].start()
        scene.heard_again(2)
        ok = scene.alerts.wait("heartbeat_ok", "ends_meanwhile")
        assert fits_beat(ok["since"], last["ends_meanwhile"])
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC + 0.5)
        assert sorted(scene.misses()) == sorted(miss["svc"] for miss in misses)
        first = scene.beat_again("lasts", boot="new")
        ok = scene.alerts.wait("heartbeat_ok", "lasts")
        assert fits_outage(ok["down_sec"], first - last["lasts"])
        assert fits_beat(ok["since"], last["lasts"])
        assert ok["age_sec"] < SLACK
        scene.listen_for(TIMEOUT_SEC)
        for svc in down:
            assert [event["type"] for event in scene.alarms(svc=svc)] == ["heartbeat_miss", "heartbeat_ok"]
        assert len(scene.alarms()) == 4


def test_row_4_a_healer_killed_again_and_again_before_its_warm_up_misses_the_dead_alone(
    tmp_path,
):
    timeout_sec, warm_up_sec, run_sec, runs = 3.0, 2.25, 1.2, 12
    services = {**MANY, "alpha": service(), "never": service()}
    env = {"HEALER_LEASE_SEC": "0.8"}
    with Scene(tmp_path, services, timeout_sec=timeout_sec, idle={"never"}, env=env) as scene:
        scene["healer"].kill()
        scene.stop_beating("alpha")
        listened = 0.0
        for run in range(2, runs + 2):
            before = scene.proven()
            scene["healer"].start()
            scene.heard_again(run)
            until(lambda was=before: scene.proven() not in (was, 0) and scene.proven() >= 1, what="its clock")
            scene["healer"].kill()
            listened += scene.proven()
            if set(scene.misses()) == {"alpha", "never"}:
                break
        # a run saves its clock once a second, so the last part of each is lost
        assert listened <= timeout_sec + warm_up_sec + SLACK * run_sec
        assert set(scene.misses()) == {"alpha", "never"}
        assert only(scene.log("heartbeat_miss", "alpha"))["late_sec"] >= timeout_sec
        assert only(scene.log("heartbeat_miss", "never"))["reason"] == "never_seen"
