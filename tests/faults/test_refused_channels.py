"""FAILURES row 45: a bus lets the healer hear all services but one."""

import orjson
import pytest

from support.rig.process import Proc
from support.scenes.faults import TIMEOUT_SEC, WARM_UP_SEC, Scene, only, service
from support.waiting import until

OTHERS = [f"s{n}" for n in range(20)]
SERVICES = {svc: service() for svc in (*OTHERS, "mortal", "outcast")}
ALLOWED = [f"&{svc}:heartbeat" for svc in (*OTHERS, "mortal")] + ["&healer:*", "&truth:*"]


def start_healer(scene: Scene) -> None:
    """The healer as a user that may hear all but `outcast`."""
    scene.system.cmd("ACL", "SETUSER", "ear", "on", ">hush-hush", "~*", "+@all", "resetchannels", *ALLOWED)
    scene.start("healer", SYSTEM_REDIS_URL=f"redis://ear:hush-hush@127.0.0.1:{scene.system.port}")


def verdicts(scene: Scene) -> dict[str, str]:
    """What `marketswarm status --json` says of each service."""
    with Proc("marketswarm", scene.env, scene.folder, "status", "--json") as proc:
        assert proc.wait(30) == 0
    picture = only([line for line in proc.logs() if "services" in line])
    return {row["svc"]: row["verdict"] for row in picture["services"]}


def of_watching(scene: Scene) -> list[tuple[str, str]]:
    return [(e["type"], e["svc"]) for e in scene.log() if e["type"].startswith("watch_")]


def test_row_45_one_channel_that_is_refused_hides_one_service_and_is_told_until_it_is_allowed(tmp_path):
    with Scene(tmp_path, SERVICES, agents=()) as scene:
        start_healer(scene)
        miss = scene.wait_logged("watch_miss", "outcast")
        assert (miss["reason"], miss["by"]) == ("auth", "healer")
        up = lambda: {svc for svc, entry in scene.roster().items() if entry["verdict"] == "up"}  # noqa: E731
        until(lambda: {*OTHERS, "mortal"} <= up(), what="the others to be up")
        until(lambda: "outcast" in beat(scene).get("detail", ""), what="a beat that names it")
        assert beat(scene)["status"] == "degraded"
        scene.stop_beating("mortal")
        scene.wait_logged("heartbeat_miss", "mortal")
        seen = verdicts(scene)
        assert (seen["outcast"], seen["mortal"], seen["s0"]) == ("unwatchable", "down", "up")
        scene["healer"].kill()
        scene.start("healer")
        until(lambda: scene.sessions() >= 2, what="the next run to listen")
        scene.listen_for(TIMEOUT_SEC + WARM_UP_SEC)
        assert of_watching(scene) == [("watch_miss", "outcast")]
        scene.system.cmd("ACL", "SETUSER", "ear", "&outcast:heartbeat")
        ok = scene.wait_logged("watch_ok", "outcast")
        assert ok["down_sec"] >= TIMEOUT_SEC
        until(lambda: "outcast" in up(), what="it to be up")
        assert scene.sessions() == 2
        assert scene.log("bus_miss", bus="market-redis") == []
        assert scene.misses() == ["mortal"]
        scene.stop_beating("outcast")
        scene.wait_logged("heartbeat_miss", "outcast")


@pytest.mark.nightly("test_row_45_one_channel_that_is_refused_…")
def test_row_45_a_service_that_a_reseed_adds_before_the_healer_may_hear_it_stops_nobodys_watch(tmp_path):
    services = {svc: service() for svc in (*OTHERS, "mortal")}
    with Scene(tmp_path, services, agents=()) as scene:
        start_healer(scene)
        scene.all_up()
        scene.seed({"services": {**scene.truth["services"], "outcast": service()}})
        scene.wait_logged("watch_miss", "outcast")
        scene.stop_beating("mortal")
        scene.wait_logged("heartbeat_miss", "mortal")
        scene.listen_for(TIMEOUT_SEC)
        scene.seed(scene.truth)
        scene.wait_logged("watch_unwatched", "outcast")
        assert of_watching(scene) == [("watch_miss", "outcast"), ("watch_unwatched", "outcast")]
        assert scene.misses() == ["mortal"]
        assert (scene.sessions(), scene.log("bus_miss", bus="market-redis")) == (1, [])


def beat(scene: Scene) -> dict:
    return orjson.loads(scene.system.cmd("GET", "beat:healer") or b"{}")
