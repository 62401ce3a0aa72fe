"""mesh on real buses: what flows between services, what is wrong with it, and who does not fit."""

import time

import orjson
import pytest

from support.fixtures import opened
from support.rig import Proc, free_port
from support.rig.metrics import answers, key, samples
from support.scenes.agent import Scene, seed
from support.waiting import until

BEATS = {"interval_sec": 0.3, "timeout_sec": 1.5}
ITEMS = {"bus": "market-redis", "key": "rss:items"}

scene = opened(lambda tmp_path: Scene(tmp_path))


def truth(**changed):
    services = {
        "mesh": {"heartbeat": BEATS, "settings": {"flow_sec": 0.2, "window_sec": 2, "behind_sec": 0.5}},
        "rss_agg": {"heartbeat": BEATS, "access_points": {"publish_to": [ITEMS]}},
        "vexy_ai": {"heartbeat": BEATS, "access_points": {"subscribe_to": [ITEMS]}},
    }
    return {"services": {svc: one | changed.get(svc, {}) for svc, one in services.items()}}


class Beats:
    """Beats of processes that are none."""

    def __init__(self, scene: Scene, **boots: str) -> None:
        self.scene, self.boots, self.i = scene, boots, 0

    def __call__(self) -> None:
        self.i += 1
        for svc, boot in self.boots.items():
            said = {"svc": svc.rstrip("_"), "i": self.i, "ts": time.time(), "boot": boot, "every": 0.3}
            self.scene.system.cmd("PUBLISH", f"{svc.rstrip('_')}:heartbeat", orjson.dumps(said))


def started(scene: Scene, document: object, **env: str) -> Proc:
    seed(scene.buses, document, 1)  # type: ignore[arg-type]
    mesh = scene.module("services.mesh", **env)
    until(lambda: len(mesh.logs("mesh.subscribed")) == 2)
    return mesh


def flow(scene: Scene) -> dict:
    return orjson.loads(scene.system.cmd("GET", "mesh:flow") or '{"faults": [], "keys": [], "edges": []}')


def faults(scene: Scene) -> list:
    return [(one["what"], one["svc"]) for one in flow(scene)["faults"]]


def edge(scene: Scene, svc: str) -> dict:
    found = [one for one in flow(scene)["edges"] if one["svc"] == svc and one["key"] == ITEMS["key"]]
    return found[0] if found else {}


def events(scene: Scene, kind: str) -> list[dict]:
    return [
        fields for _, fields in scene.system.cmd("XRANGE", "mesh:events", "-", "+") if fields["event"] == kind
    ]


def test_a_flow_is_seen_from_nothing_to_well_to_behind(scene):
    port = free_port()
    mesh, beat = started(scene, truth(), METRICS_PORT=str(port)), Beats(scene, rss_agg="a", vexy_ai="b")

    def becomes(*wanted: tuple, within: float = 15) -> None:
        until(lambda: beat() or faults(scene) == list(wanted), within, f"{wanted}, not {faults(scene)}")

    becomes(("never_written", "rss_agg"))
    scene.market.cmd("XADD", "rss:items", "*", "id", "1")
    becomes(("no_group", "vexy_ai"))
    scene.market.cmd("XGROUP", "CREATE", "rss:items", "vexy_ai", "0")
    becomes(("falls_behind", "vexy_ai"))
    assert "1 unread" in flow(scene)["faults"][0]["text"]
    until(
        lambda: (
            beat() or "1 wrong with the flow: rss:items falls_behind" in scene.beat("mesh").get("detail", "")
        ),
    )
    taken = scene.market.cmd("XREADGROUP", "GROUP", "vexy_ai", "b", "STREAMS", "rss:items", ">")
    assert taken
    becomes(("falls_behind", "vexy_ai"))
    until(lambda: beat() or edge(scene, "vexy_ai").get("pending") == 1)
    scene.market.cmd("XACK", "rss:items", "vexy_ai", scene.market.cmd("XRANGE", "rss:items", "-", "+")[0][0])
    becomes()
    for n in range(20):
        scene.market.cmd("XADD", "rss:items", "*", "id", n)
    until(lambda: beat() or (edge(scene, "rss_agg").get("rate") or 0) > 1)
    until(lambda: beat() or edge(scene, "vexy_ai").get("lag") == 20)
    assert {line["what"] for line in mesh.logs("flow.fault")} >= {"never_written", "no_group", "falls_behind"}
    assert mesh.logs("flow.recovered")
    alive = key("mesh_instances", svc="rss_agg")
    told = until(lambda: beat() or (answers(port) and (found := samples(port)).get(alive) == 1 and found))
    place = {"bus": "market-redis", "key": "rss:items"}
    assert told[key("mesh_stream_length", **place)] == 21
    assert told[key("mesh_reader_lag_entries", svc="vexy_ai", **place)] == 20
    assert told[key("mesh_events_total", event="joined")] == 3


@pytest.mark.nightly("test_a_flow_is_seen_…; tests/services/mesh/test_flow_monitor.py")
def test_the_flow_goes_on_while_a_bus_is_away_and_a_reseed_is_followed(scene):
    mesh = started(scene, truth())
    until(lambda: flow(scene)["keys"])
    scene.market.stop()
    until(lambda: flow(scene).get("away") == {"market-redis": "refused"})
    assert flow(scene)["keys"] == []
    scene.market.start()
    document = truth(mesh={"settings": {"flow_sec": 0.2}}, rss_agg={"access_points": {}})
    seed(scene.buses, document, 2)
    until(lambda: faults(scene) == [("no_writer", None)])
    assert flow(scene)["revision"] == 2
    assert mesh.running


def test_a_loop_of_crashes_a_crowd_and_a_reseed_are_told(scene):
    started(scene, truth(rss_agg={"replicas": 1}))
    for n in range(8):
        for i, status in ((1, "ok"), (2, "stopping")):
            said = {"svc": "vexy_ai", "i": i, "ts": time.time(), "boot": f"b{n}", "status": status}
            scene.system.cmd("PUBLISH", "vexy_ai:heartbeat", orjson.dumps(said))
    until(lambda: events(scene, "crash_loop"))
    first, second = Beats(scene, rss_agg="one"), Beats(scene, rss_agg="two")
    until(lambda: first() or second() or events(scene, "conflict"))
    seed(scene.buses, truth(rss_agg={"replicas": 2}), 2)
    until(lambda: first() or second() or len(events(scene, "converged")) == 2)
    (loop,), (crowd,), (_, reseed) = (events(scene, kind) for kind in ("crash_loop", "conflict", "converged"))
    assert (loop["svc"], loop["restarts_hour"]) == ("vexy_ai", "6")
    assert (crowd["svc"], crowd["count"], crowd["replicas"]) == ("rss_agg", "2", "1")
    assert reseed["rev"] == "2"
    assert 0 <= float(reseed["took_sec"]) < 5
    shown = orjson.loads(scene.system.cmd("GET", "mesh:topology"))
    (mesh,) = shown["services"]["mesh"]["instances"]
    assert mesh["host"]
    assert mesh["version"]
    assert 0 < mesh["uptime_sec"] < 60


def test_a_strangers_name_steers_no_terminal(scene):
    started(scene, truth())
    name = "\x1b[31mred"
    scene.system.cmd("PUBLISH", f"{name}:heartbeat", orjson.dumps({"svc": name, "i": 1, "ts": 1}))
    until(lambda: events(scene, "stranger"))
    assert events(scene, "stranger")[0]["svc"] == r"\x1b[31mred"
    until(lambda: orjson.loads(scene.system.cmd("GET", "mesh:topology"))["strangers"] == [r"\x1b[31mred"])
