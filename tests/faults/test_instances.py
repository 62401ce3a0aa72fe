"""FAILURES rows 17 and 18: more who beat than the truth has in mind."""

import orjson

from support.scenes.faults import (
    TIMEOUT_SEC,
    WARM_UP_SEC,
    Beater,
    Scene,
    fits_beat,
    instance,
    only,
    service,
)
from support.waiting import until


def topology(scene: Scene, svc: str) -> list[dict]:
    """The instances that mesh shows of a service."""
    shown = orjson.loads(scene.system.cmd("GET", "mesh:topology") or "{}")
    return shown.get("services", {}).get(svc, {}).get("instances", [])


def test_row_17_one_of_two_instances_may_die_and_the_miss_comes_when_both_have(tmp_path):
    with Scene(tmp_path, {"alpha": service(), "mesh": service(timeout_sec=10)}, ("healer", "mesh")) as scene:
        second = instance("alpha", scene)
        beater = scene.beaters["alpha"]
        boots = {beater.boots["alpha"], beater.boots[second]}
        until(lambda: {one["boot"] for one in topology(scene, "alpha")} == boots, what="mesh to show both")
        beater.stop("alpha")
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC)
        assert scene.misses() == []
        until(lambda: {one["boot"] for one in topology(scene, "alpha")} == {beater.boots[second]}, what="one")
        beater.stop(second)
        last = beater.last(second)
        miss = scene.wait_logged("heartbeat_miss", "alpha")
        assert fits_beat(miss["since"], last)
        scene.listen_for(TIMEOUT_SEC)
        assert scene.misses() == ["alpha"]


def test_row_18_a_stranger_is_told_once_by_mesh_and_never_by_the_healer(tmp_path):
    with Scene(tmp_path, {"alpha": service(), "mesh": service(timeout_sec=10)}, ("healer", "mesh")) as scene:

        def strangers() -> list[dict]:
            entries = scene.system.cmd("XRANGE", "mesh:events", "-", "+")
            return [fields for _, fields in entries if fields["event"] == "stranger"]

        how = {**scene.beaters["alpha"].how, "interval_sec": 0.05}
        with Beater(how) as unknown:
            unknown.restart("nobody")
            until(strangers, what="the stranger to be told")
            scene.listen_for(TIMEOUT_SEC)
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC)
        assert only(strangers())["svc"] == "nobody"
        assert scene.alarms() == []
        assert scene.log(svc="nobody") == []
