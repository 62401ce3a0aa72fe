"""mesh on real buses: who runs, by their beats alone (FAILURES 17 and 18, mesh's part)."""

import itertools
import time

import orjson

from support.fixtures import opened
from support.scenes.agent import Scene, seed
from support.waiting import until

scene = opened(lambda tmp_path: Scene(tmp_path))


def truth(*services, **more):
    beats = {"interval_sec": 0.3, "timeout_sec": 1.5}
    named = {svc: {"heartbeat": beats} for svc in ("mesh", *services)}
    return {"services": {**named, **{svc: {"heartbeat": {**beats, **one}} for svc, one in more.items()}}}


def started(scene, document):
    seed(scene.buses, document, 1)
    agent = scene.module("services.mesh")
    until(lambda: len(agent.logs("mesh.subscribed")) == 2)
    return agent


def publish(server, svc, i, boot=None, channel=None, **more):
    said = {"svc": svc, "i": i, "ts": time.time(), **({"boot": boot} if boot else {}), **more}
    server.cmd("PUBLISH", channel or f"{svc}:heartbeat", orjson.dumps(said))


def picture(scene, svc):
    raw = scene.system.cmd("GET", "mesh:topology")
    return orjson.loads(raw)["services"].get(svc, {"instances": []})["instances"] if raw else []


numbers = itertools.count(1)


def beat_until_shown(scene, server, svc, boot=None, channel=None):
    """Have a service beat, again and again, until the picture has it; return its instances there."""

    def shown():
        publish(server, svc, next(numbers), boot, channel)
        return picture(scene, svc)

    return until(shown, what=f"{svc} in the picture")


def events(scene, svc):
    found = []
    for _id, fields in scene.system.cmd("XRANGE", "mesh:events", "-", "+"):
        entry = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        if entry["svc"] == svc:
            found.append(entry["event"])
    return found


def test_it_sees_itself_and_says_when_all_go_by_one_truth(scene):
    started(scene, truth())
    until(lambda: picture(scene, "mesh"))
    until(lambda: events(scene, "") == ["converged"])
    assert events(scene, "mesh") == ["joined"]


def test_a_shell_script_on_the_other_bus_is_a_citizen_too(scene):
    started(scene, truth(script={"redis_url": "redis://market-redis:6379", "channel": "cron-job"}))
    assert beat_until_shown(scene, scene.market, "script", channel="cron-job")[0]["boot"] is None


def test_a_reseed_is_followed_while_beats_flow(scene):
    agent = started(scene, truth("one"))
    beat_until_shown(scene, scene.system, "one", "a")
    seed(scene.buses, truth(other={"channel": "elsewhere"}), 2)
    until(lambda: len(agent.logs("mesh.subscribed")) == 3)  # a channel that the pattern does not cover
    until(
        lambda: (
            beat_until_shown(scene, scene.system, "other", "b", "elsewhere") and not picture(scene, "one")
        ),
    )


def test_a_bus_that_goes_away_makes_nobody_leave(scene):
    agent = started(scene, truth(far={"redis_url": "redis://market-redis:6379"}))
    beat_until_shown(scene, scene.market, "far", "a")
    publish(scene.market, "far", next(numbers), "a")
    scene.market.stop()
    agent.wait_log("mesh.subscription_lost")
    until(lambda: "deaf on market-redis" in scene.beat("mesh").get("detail", ""))
    gone_for = time.monotonic() + 3  # twice its timeout
    until(lambda: time.monotonic() > gone_for)
    assert picture(scene, "far")
    assert "left" not in events(scene, "far")
    scene.market.start()
    until(lambda: "status" not in scene.beat("mesh"))
    until(lambda: "left" in events(scene, "far"))


def test_a_mesh_that_was_stopped_itself_makes_nobody_leave(scene):
    agent = started(scene, truth(one={"timeout_sec": 3.0}))  # for the test, too, may not run for a moment
    beat_until_shown(scene, scene.system, "one", "a")
    agent.freeze()
    frozen_for = time.monotonic() + 4
    until(lambda: time.monotonic() > frozen_for)
    agent.thaw()
    before = next(numbers)
    until(lambda: beat_until_shown(scene, scene.system, "one", "a")[0]["i"] > before)
    assert events(scene, "one") == ["joined"]


def test_a_mesh_that_starts_again_knows_who_was_there(scene):
    agent = started(scene, truth("one"))
    beat_until_shown(scene, scene.system, "one", "a")
    agent.kill()
    agent.start()
    until(lambda: len(agent.logs("mesh.subscribed")) == 4)
    before = next(numbers)
    until(lambda: beat_until_shown(scene, scene.system, "one", "a")[0]["i"] > before)
    assert events(scene, "one") == ["joined"]
    until(lambda: "restarted" in events(scene, "mesh"))


def test_its_keys_are_where_the_truth_says(scene):
    document = truth()
    document["services"]["mesh"]["access_points"] = {
        "publish_to": [
            {"bus": "market-redis", "key": "team:topology"},
            {"bus": "market-redis", "key": "team:events"},
        ]
    }
    started(scene, document)
    until(lambda: scene.market.cmd("GET", "team:topology"))
    until(lambda: scene.market.cmd("XLEN", "team:events"))
    assert scene.system.cmd("GET", "mesh:topology") is None
