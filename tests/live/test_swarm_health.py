"""`health:<svc>`: current while its healer lives, gone soon after."""

import time

import orjson
import pytest

from support.scenes.faults import TIMEOUT_SEC, Scene, service
from support.waiting import until

LIFE_SEC = 60  # max(60 s, 3 T)


def health(scene: Scene, svc: str) -> dict:
    return orjson.loads(scene.system.cmd("GET", f"health:{svc}") or "{}")


def left_sec(scene: Scene, svc: str) -> float:
    return scene.system.cmd("PTTL", f"health:{svc}") / 1000


def test_a_key_outlives_its_healer_by_no_more_than_its_life_and_the_next_one_takes_it_up_at_once(tmp_path):
    with Scene(tmp_path, {"alive": service(timeout_sec=5), "dead": service()}) as scene:
        scene.stop_beating("dead")
        miss = scene.wait_logged("heartbeat_miss", "dead")
        assert health(scene, "alive")["type"] == "heartbeat_ok"
        assert health(scene, "dead") == miss
        scene["healer"].kill()
        for svc in ("alive", "dead"):
            assert 0 < left_sec(scene, svc) <= LIFE_SEC
            scene.system.cmd("PEXPIRE", f"health:{svc}", 100)
        until(lambda: not scene.system.cmd("EXISTS", "health:alive", "health:dead"), what="both to be gone")
        scene["healer"].start()
        until(lambda: health(scene, "alive") and health(scene, "dead"), what="both to be back")
        assert health(scene, "dead") == miss
        assert health(scene, "alive")["type"] == "heartbeat_ok"
        assert scene.misses() == ["dead"]


@pytest.mark.nightly("tests/marketswarm/monitor/test_health.py, on a clock that is moved")
def test_an_ok_is_written_anew_at_half_of_its_life_with_a_current_age(tmp_path):
    with Scene(tmp_path, {"alive": service(timeout_sec=5), "dead": service()}) as scene:
        begun = time.time()
        scene.stop_beating("dead")
        miss = scene.wait_logged("heartbeat_miss", "dead")
        first = health(scene, "alive")
        for svc in ("alive", "dead"):
            scene.system.cmd("PEXPIRE", f"health:{svc}", 30_000)  # what it has left at half of its life
        until(lambda: min(left_sec(scene, svc) for svc in ("alive", "dead")) > 31, what="both to be written")
        again = health(scene, "alive")
        assert again["ts"] > first["ts"]
        assert 0 <= again["age_sec"] < TIMEOUT_SEC
        assert again["id"] == first["id"]
        assert again["since"] > begun
        assert health(scene, "dead") == miss  # as it was told
