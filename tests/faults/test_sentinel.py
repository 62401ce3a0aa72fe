"""FAILURES rows 24 and 25: who watches the healer."""

import signal
import time

import pytest

from support.rig import AlertTail
from support.scenes.faults import (
    BUSES,
    SLACK,
    TIMEOUT_SEC,
    Proc,
    Scene,
    fault_lasts,
    fits_beat,
    fits_outage,
    only,
    service,
)
from support.waiting import until

SENTINEL_SEC = 1.5
ENV = {"SENTINEL_TIMEOUT_SEC": str(SENTINEL_SEC)}
SERVICES = {"alpha": service(), "sentinel": service()}


def missed(scene: Scene, reason: str = "silent") -> dict:
    """The one healer_miss, as it is on both buses."""
    miss = scene.alerts.wait("healer_miss", "healer")
    assert miss["late_sec"] >= miss["timeout_sec"] == SENTINEL_SEC
    assert (miss["svc"], miss["reason"], miss["by"]) == ("healer", reason, "sentinel")
    for bus in BUSES:
        assert scene.tail(bus).wait("healer_miss", "healer") == miss
        scene.wait_logged("healer_miss", "healer", bus=bus)
        assert scene.log("healer_miss", bus=bus) == [miss]
    return miss


@pytest.mark.parametrize(
    ("end", "reason"),
    [("kill", "silent"), pytest.param("stop", "stopped", marks=pytest.mark.nightly("[kill]"))],
)
def test_row_24_a_healer_that_is_gone_is_told_by_the_sentinel_and_so_is_its_return(tmp_path, end, reason):
    with (
        Scene(tmp_path, SERVICES, ("healer", "sentinel"), env=ENV) as scene,
        AlertTail(scene.system.url, "healer:heartbeat") as beats,
    ):
        scene.wait_logged("healer_ok", "healer", within=20)
        beats_until(beats, 2)
        getattr(scene["healer"], end)()
        gone = time.time()
        miss = missed(scene, reason)
        assert len(scene["sentinel"].logs("fallback.no_channel")) == 1
        last = [b for _, b in beats.seen if b.get("status") != "stopping"][-1]
        assert miss["ts"] - gone <= SLACK * (SENTINEL_SEC + 1)
        assert fits_beat(miss["since"], last["ts"])

        scene["sentinel"].kill()  # whoever restarts meanwhile: one miss, one ok
        scene["sentinel"].start()
        until(lambda: len(scene["sentinel"].logs("monitor.state_loaded")) > 1, what="it to recall")
        scene.wait_beats("sentinel", 10)  # 2.5 s, after which the new run would have missed it, too
        count = len(beats.seen)
        scene["healer"].start()
        beats_until(beats, count + 1)
        ok = scene.alerts.wait("healer_ok", "healer")
        assert fits_outage(ok["down_sec"], beats.seen[count][1]["ts"] - last["ts"])
        scene.market_alerts.wait("healer_ok", "healer")
        beats_until(beats, len(beats.seen) + 4)
        for bus in BUSES:
            assert [event["type"] for event in scene.tail(bus).of(svc="healer")] == [
                "healer_miss",
                "healer_ok",
            ]
        assert scene.misses() in ([], ["sentinel"])  # it was away for about its own timeout


def beats_until(beats: AlertTail, count: int) -> None:
    until(lambda: len(beats.seen) >= count, what=f"{count} beats; there are {beats.seen}")


@pytest.mark.parametrize(
    "string",
    [
        pytest.param(signal.SIGUSR2, id="judging hangs"),
        pytest.param(signal.SIGUSR1, id="loop blocked", marks=pytest.mark.nightly("[judging hangs]")),
    ],
)
def test_row_25_a_healer_that_hangs_while_its_process_lives_is_told_by_the_sentinel(tmp_path, string):
    with Scene(tmp_path, SERVICES, agents=(), env=ENV) as scene:
        healer = scene.program("healer_on_strings", "healer", HANG_SEC="600", WATCHDOG_SEC="600")
        with AlertTail(scene.system.url, "healer:heartbeat") as beats:
            beats_until(beats, 1)  # a healer that starts slowly would be missed before
            scene.start("sentinel")
            scene.all_up()
            scene.wait_logged("healer_ok", "healer", within=20)
            beats_until(beats, len(beats.seen) + 2)
            count = len(beats.seen)
            healer.signal(string)
            missed(scene)
            assert healer.exit_code is None
            assert len(beats.seen) <= count + 3  # beats do not lie: at most the one that was due, and noise
            healer.kill()
            replaced = Proc("healer", scene.env, scene.folder)
            with replaced:
                ok = scene.alerts.wait("healer_ok", "healer")  # a program starts, and is heard
                assert ok["down_sec"] >= SENTINEL_SEC
        for bus in BUSES:
            only(scene.log("healer_miss", bus=bus))


@pytest.mark.nightly("test_rows_5_6_… has a sentinel")
@pytest.mark.parametrize(("away", "back"), [("stop", "start"), ("freeze", "thaw")], ids=["stop", "freeze"])
def test_row_24_a_sentinel_that_hears_nothing_at_all_says_nothing(tmp_path, away, back):
    sentinel_sec = 3.0
    env = {"SENTINEL_TIMEOUT_SEC": str(sentinel_sec)}
    with Scene(tmp_path, SERVICES, ("healer", "sentinel"), env=env) as scene:
        getattr(scene.system, away)()
        fault_lasts(2.5 * sentinel_sec)
        getattr(scene.system, back)()
        scene.wait_logged("bus_ok", "system-redis", bus="market-redis")
        scene.listen_for(sentinel_sec + TIMEOUT_SEC)
        for bus in BUSES:
            assert scene.log("healer_miss", bus=bus) == []
            # not what came before: on a busy machine its start may take it longer than its warm-up
            assert [m for m in scene.log("heartbeat_miss", bus=bus) if m["reason"] != "never_seen"] == []
