"""`health:<svc>`: current while its healer lives, gone soon after."""

import time

import orjson

from support.scenes.faults import TIMEOUT_SEC, Scene, service
from support.waiting import until

LIFE_SEC = 60  # max(60 s, 3 T)


def test_an_ok_is_written_anew_at_a_third_of_its_life_and_outlives_its_healer_by_no_more(tmp_path):
    with Scene(tmp_path, {"alive": service(timeout_sec=5), "dead": service()}) as scene:

        def health(svc: str) -> dict:
            return orjson.loads(scene.system.cmd("GET", f"health:{svc}") or "{}")

        def left_sec(svc: str) -> float:
            return scene.system.cmd("PTTL", f"health:{svc}") / 1000

        begun = time.time()
        scene.stop_beating("dead")
        miss = scene.wait_logged("heartbeat_miss", "dead")
        first = health("alive")
        assert first["type"] == "heartbeat_ok"
        assert health("dead") == miss
        for svc in ("alive", "dead"):
            assert 0 < left_sec(svc) <= LIFE_SEC
            scene.system.cmd("PEXPIRE", f"health:{svc}", 40_000)  # what it has left at a third of its life
        until(lambda: min(left_sec("alive"), left_sec("dead")) > 41, 25, "both to be written anew")
        # a current age, not that of the verdict; a miss stays as it was told
        again = health("alive")
        assert again["ts"] > first["ts"]
        assert 0 <= again["age_sec"] < TIMEOUT_SEC
        assert again["id"] == first["id"]
        assert again["since"] > begun
        assert health("dead") == miss

        scene["healer"].kill()
        for svc in ("alive", "dead"):
            assert left_sec(svc) <= LIFE_SEC
            scene.system.cmd("PEXPIRE", f"health:{svc}", 100)
        until(lambda: not scene.system.cmd("EXISTS", "health:alive", "health:dead"), what="both to be gone")

        # a new one takes them up at once, both
        scene["healer"].start()
        until(lambda: health("alive") and health("dead"), 20, "both to be back")
        assert health("dead") == miss
        assert health("alive")["type"] == "heartbeat_ok"
        assert scene.misses() == ["dead"]
