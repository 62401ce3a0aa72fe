"""`health:<svc>`: current while its healer lives, gone soon after."""

import orjson

from support.scenes.faults import Scene, service
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
