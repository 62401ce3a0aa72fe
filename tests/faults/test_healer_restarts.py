"""FAILURES rows 1 to 4: the healer goes and comes back."""

import pytest

from support.scenes.faults import (
    BUSES,
    NOISE_SEC,
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Scene,
    fits_beat,
    only,
    rest,
    service,
)

MANY = {f"s{n}": service(BUSES[n % 2]) for n in range(20)}


def test_row_1_a_healer_that_was_away_for_ten_timeouts_misses_no_one_who_beats(tmp_path):
    # an interval that is most of the timeout: whoever starts without a warm-up gets it wrong
    slow = {svc: service(BUSES[n % 2], interval_sec=1.5) for n, svc in enumerate(MANY)}
    with Scene(tmp_path, slow, timeout_sec=2.5, bare=list(MANY)[10:]) as scene:
        scene["healer"].kill()
        rest(25)
        scene["healer"].start()
        for bus in BUSES:
            scene.heard_again(2, bus)
        scene.listen_for(6, *BUSES)
        assert scene.misses() == []
        assert scene.alarms() == []


@pytest.mark.parametrize("away_sec", [1.0, 4.0], ids=["shortly", "for long"])
def test_row_2_services_that_died_while_the_healer_was_away_are_missed_once_each(tmp_path, away_sec):
    services = {"keyed": service(), "bare": service(), "alive": service()}
    with Scene(tmp_path, services, bare={"bare"}) as scene:
        rest(1.2)  # the clocks are saved once a second
        scene["healer"].kill()
        scene.stop_beating("keyed", "bare")
        rest(away_sec)
        scene["healer"].start()
        back = scene.heard_again(2)
        for svc in ("keyed", "bare"):
            last = scene.beaters[svc].last(svc)  # one was stopped before the other
            miss = scene.wait_logged("heartbeat_miss", svc, 10)
            assert miss["ts"] - back <= max(TIMEOUT_SEC, WARM_UP_SEC) + 1 + NOISE_SEC
            assert miss["late_sec"] >= miss["timeout_sec"] == TIMEOUT_SEC
            assert (miss["reason"], miss["by"]) == ("silent", "healer")
            # without the key, the moment of its last beat is only as sure as the last save
            witnessed = svc == "keyed" and back - last < 2 * TIMEOUT_SEC - 1
            assert miss["since"] == pytest.approx(last, abs=0.5 if witnessed else 3)
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC)
        assert sorted(scene.misses()) == ["bare", "keyed"]
        assert [event["type"] for event in scene.alarms()] == 2 * ["heartbeat_miss"]


def test_row_2_who_was_up_and_left_no_key_is_silent_though_its_first_silence_was_never_forgotten(tmp_path):
    with Scene(tmp_path, {"bare": service(), "alive": service()}, bare={"bare"}) as scene:
        scene["healer"].kill()
        last = scene.stop_beating("bare")
        # so a run leaves it that is killed when the service has just come up
        scene.system.cmd("HSET", "healer:silence", "bare", "0.000 0 0 system-redis")
        scene["healer"].start()
        back = scene.heard_again(2)
        miss = scene.wait_logged("heartbeat_miss", "bare", 10)
        assert miss["ts"] - back <= max(TIMEOUT_SEC, WARM_UP_SEC) + 1 + NOISE_SEC
        assert miss["late_sec"] >= miss["timeout_sec"] == TIMEOUT_SEC
        assert (miss["reason"], miss["since"]) == ("silent", pytest.approx(last, abs=3))


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_row_3_a_healer_restarted_during_an_outage_tells_no_second_miss_and_the_whole_outage(tmp_path, end):
    with Scene(tmp_path, {"alpha": service(), "beta": service()}) as scene:
        last = scene.stop_beating("alpha")
        miss = scene.wait_logged("heartbeat_miss", "alpha", TIMEOUT_SEC + 1 + NOISE_SEC)
        getattr(scene["healer"], end)()
        scene["healer"].start()
        scene.heard_again(2)
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC + 0.5)
        assert scene.log("heartbeat_miss") == [miss]
        first = scene.beat_again("alpha", boot="new")
        ok = scene.alerts.wait("heartbeat_ok", "alpha", 1 + NOISE_SEC)
        assert ok["down_sec"] == pytest.approx(first - last, abs=1.0)
        assert fits_beat(ok["since"], last)
        assert ok["age_sec"] < 0.5
        scene.listen_for(TIMEOUT_SEC)
        told = [(event["type"], event["svc"]) for event in scene.alarms()]
        assert told == [("heartbeat_miss", "alpha"), ("heartbeat_ok", "alpha")]


def test_row_3_a_service_that_comes_back_while_the_healer_is_away_gets_its_one_ok(tmp_path):
    with Scene(tmp_path, {"alpha": service(), "beta": service()}) as scene:
        last = scene.stop_beating("alpha")
        scene.wait_logged("heartbeat_miss", "alpha", TIMEOUT_SEC + 1 + NOISE_SEC)
        scene["healer"].kill()
        scene.beat_again("alpha")
        rest(TIMEOUT_SEC)
        scene["healer"].start()
        ok = scene.alerts.wait("heartbeat_ok", "alpha", 15)
        assert fits_beat(ok["since"], last)
        scene.listen_for(2 * TIMEOUT_SEC)
        assert len(scene.alarms()) == 2


def test_row_4_a_healer_killed_again_and_again_before_its_warm_up_misses_the_dead_alone(
    tmp_path,
):
    timeout_sec, warm_up_sec, run_sec, runs = 4.0, 3.0, 2.4, 12
    services = {**MANY, "alpha": service(), "never": service()}
    env = {"HEALER_LEASE_SEC": "1"}
    with Scene(tmp_path, services, timeout_sec=timeout_sec, idle={"never"}, env=env) as scene:
        scene["healer"].kill()
        scene.stop_beating("alpha")
        listened = 0.0
        for run in range(2, runs + 2):
            before = scene.proven()
            scene["healer"].start()
            scene.heard_again(run)
            rest(run_sec)
            scene["healer"].kill()
            proven = scene.proven()
            listened += proven if proven != before else 0.0  # else this run was killed before it saved
            if set(scene.misses()) == {"alpha", "never"}:
                break
        # a run saves its clock once a second, so the last part of each is lost
        assert listened <= timeout_sec + warm_up_sec + run_sec
        assert set(scene.misses()) == {"alpha", "never"}
        assert only(scene.log("heartbeat_miss", "alpha"))["late_sec"] >= timeout_sec
        assert only(scene.log("heartbeat_miss", "never"))["reason"] == "never_seen"
