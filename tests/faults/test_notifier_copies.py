"""FAILURES row 66: the notifier starts while the bus with its newest state does not answer."""

from typing import Any

import orjson

from support.scenes.faults import BUSES
from support.scenes.notifier import Notified, hooks
from support.waiting import until

SYSTEM, MARKET = BUSES


def incident(scene: Notified, svc: str, bus: str) -> dict[str, Any]:
    return dict(orjson.loads(scene.state(bus).get(f"r:i:{svc}", "{}")))


def test_row_66_a_notifier_that_starts_with_an_older_state_writes_it_over_no_newer_one(tmp_path, receiver):
    with Notified(tmp_path, hooks(one=receiver)) as scene:
        scene.write("heartbeat_miss", "first")
        receiver.wait("heartbeat_miss", "first")
        scene.settled()
        until(lambda: scene.state(SYSTEM) == scene.state(MARKET), what="one state on both")
        older = scene.state(SYSTEM)
        for svc in ("over", "lasts"):
            scene.write("heartbeat_miss", svc)
            receiver.wait("heartbeat_miss", svc)
        scene.settled()
        until(lambda: all(incident(scene, svc, MARKET).get("told_at") for svc in ("over", "lasts")))
        scene.notifier.kill()
        # this bus lost its last writes, and the other one, which has them, stands still
        scene.server(SYSTEM).cmd("DEL", "notifier:state")
        scene.server(SYSTEM).cmd("HSET", "notifier:state", *(text for pair in older.items() for text in pair))
        newest = incident(scene, "lasts", MARKET)
        scene.server(MARKET).freeze()
        scene.notifier.start()
        scene.write("heartbeat_miss", "meanwhile")
        receiver.wait("heartbeat_miss", "meanwhile")
        scene.write("heartbeat_ok", "over", down_sec=3.0)  # of what the notifier knows nothing now
        until(lambda: not scene.pending(), what="the ok to be handled")
        assert "r:i:over" not in scene.state(SYSTEM)
        scene.server(MARKET).thaw()

        receiver.wait("heartbeat_ok", "over")
        scene.settled()
        until(lambda: scene.state(SYSTEM) == scene.state(MARKET), what="one state on both again")
        assert incident(scene, "lasts", SYSTEM) == newest, "an outage that lasts is known again, and as told"
        assert not incident(scene, "over", SYSTEM)["down"]
        assert incident(scene, "meanwhile", SYSTEM)["down"]
        [_merged] = scene.notifier.logs("store.merged")
        ids = [event["id"] for event in receiver.taken()]
        assert len(ids) == len(set(ids)) == 5
