"""FAILURES rows 8 and 9: the healer itself does not run for a while."""

import signal
import time

import pytest

from support.scenes.faults import BUSES, SLACK, TIMEOUT_SEC, WARM_UP_SEC, Scene, fault_lasts, only, service

STALL_SEC = {"freeze": 3 * TIMEOUT_SEC, "block": 2 * TIMEOUT_SEC}
SERVICES = {"early": service(), "late": service(), **{f"s{n}": service(BUSES[n % 2]) for n in range(20)}}


@pytest.mark.parametrize("fault", ["freeze", "block"], ids=["row 8, SIGSTOP", "row 9, blocked loop"])
def test_rows_8_9_a_stalled_healer_misses_the_dead_and_no_one_who_beat(tmp_path, fault):
    stall_sec = STALL_SEC[fault]
    with Scene(tmp_path, SERVICES, agents=()) as scene:
        healer = scene.program("healer_on_strings", "healer", HANG_SEC=str(stall_sec), WATCHDOG_SEC="60")
        scene.all_up()
        begun = time.time()
        if fault == "freeze":
            healer.freeze()
        else:
            healer.signal(signal.SIGUSR1)
        scene.stop_beating("early")
        fault_lasts(max(0.0, begun + stall_sec * 0.8 - time.time()))
        last = scene.stop_beating("late")
        fault_lasts(max(0.0, begun + stall_sec - time.time()))
        healer.thaw()
        woken = time.time()
        for svc in ("early", "late"):
            miss = scene.wait_logged("heartbeat_miss", svc)
            assert miss["ts"] - woken <= SLACK * (max(TIMEOUT_SEC, WARM_UP_SEC) + 1)
            assert miss["late_sec"] >= TIMEOUT_SEC
            assert last - stall_sec - 0.5 <= miss["since"] <= woken + 0.5
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC, *BUSES)
        assert sorted(scene.misses()) == ["early", "late"]
        assert len(scene.alarms()) == 2
        assert only(scene["healer"].logs("agent.joined"))  # the same process, all along
