"""FAILURES rows 19 and 22: the truth changes, or goes missing, under those who live by it."""

import time
from typing import Any

import orjson
import pytest

from support.scenes.faults import (
    SLACK,
    TIMEOUT_SEC,
    Scene,
    only,
    service,
    stamp,
    truth_of,
)
from support.waiting import until

IN_FORCE_SEC = 1.0
SERVICES = {svc: service() for svc in ("alive", "down", "dropped", "old_name", "slow")}


def reseed(scene: Scene, services: dict[str, Any]) -> float:
    """Puts these services in force; when that was done, in monotonic seconds."""
    scene.seed(truth_of(services))
    return time.monotonic()


def subscribers(scene: Scene, svc: str) -> int:
    return scene.system.cmd("PUBSUB", "NUMSUB", f"{svc}:heartbeat")[1]


def in_force(scene: Scene, what: Any, done: float, name: str) -> None:
    """Waits for it; a second after the seeding is promised."""
    until(what, what=name)
    assert time.monotonic() - done <= SLACK * IN_FORCE_SEC


def last_beat(scene: Scene, svc: str) -> dict[str, Any]:
    return orjson.loads(scene.system.cmd("GET", f"beat:{svc}") or "{}")


def test_row_19_what_a_reseed_adds_drops_renames_and_changes_is_in_force_at_once(tmp_path):
    services: dict[str, Any] = {**SERVICES, "rss_agg": service(timeout_sec=5)}
    with Scene(tmp_path, services, ("healer", "rss_agg")) as scene:
        scene.stop_beating("down")
        scene.wait_logged("heartbeat_miss", "down")

        # one is added, and beats
        scene.watched_anew.add("added")
        scene.beat("added", {})
        done = reseed(scene, services := {**services, "added": service()})
        in_force(scene, lambda: subscribers(scene, "added") >= 1, done, "added to be listened to")
        in_force(scene, lambda: last_beat(scene, "rss_agg").get("rev") == 2, done, "rss_agg to show it")
        until(lambda: scene.roster().get("added", {}).get("verdict") == "up", what="added to be up")

        # one that beats is dropped, and one that is down
        done = reseed(scene, services := {k: v for k, v in services.items() if k not in ("dropped", "down")})
        in_force(scene, lambda: subscribers(scene, "dropped") == 0, done, "dropped to be left alone")
        in_force(scene, lambda: not scene.system.cmd("EXISTS", "health:dropped"), done, "no health")
        unwatched = scene.alerts.wait("heartbeat_unwatched", "down")
        assert unwatched["since"] == scene.log("heartbeat_miss", "down")[0]["since"]
        assert not scene.system.cmd("EXISTS", "health:down")
        scene.stop_beating("dropped")

        # one gets another name; it beats under it before anybody listens, so that nobody can miss it
        scene.watched_anew.add("new_name")
        scene.beat("new_name", {})
        done = reseed(
            scene, services := {("new_name" if k == "old_name" else k): v for k, v in services.items()}
        )
        scene.stop_beating("old_name")
        in_force(scene, lambda: subscribers(scene, "new_name") >= 1, done, "the new name to be listened to")

        # one beats four times as seldom
        done = reseed(scene, services := {**services, "slow": service(interval_sec=1.0, timeout_sec=3.5)})
        in_force(scene, lambda: last_beat(scene, "rss_agg").get("rev") == 5, done, "the last to be in force")
        last = scene.stop_beating("slow")
        miss = scene.wait_logged("heartbeat_miss", "slow")
        assert miss["ts"] - last >= miss["timeout_sec"] == 3.5

        scene.listen_for(TIMEOUT_SEC)
        assert scene.misses() == ["down", "slow"]
        told = [(event["type"], event["svc"]) for event in scene.alarms()]
        assert told == [
            ("heartbeat_miss", "down"),
            ("heartbeat_unwatched", "down"),
            ("heartbeat_miss", "slow"),
        ]
        for name in ("healer", "rss_agg"):
            assert only(scene[name].logs("agent.joined"))  # no one was restarted for it


@pytest.mark.nightly("tests/marketswarm/detector/test_detector_roster.py has a warm-up after each change")
def test_row_19_a_shorter_timeout_gives_everyone_a_warm_up_first(tmp_path):
    slow = {f"s{n}": service(interval_sec=1, timeout_sec=8) for n in range(10)}
    with Scene(tmp_path, slow) as scene:
        scene.stop_beating("s0")
        scene.listen_for(3.5)
        # by the new timeout s0 is overdue, and the others have been silent for a part of it
        scene.seed(truth_of({svc: service(interval_sec=1, timeout_sec=2.9) for svc in slow}))
        miss = scene.wait_logged("heartbeat_miss", "s0")
        _, anew = scene["healer"].logs("monitor.monitoring")
        assert miss["ts"] - stamp(anew) >= 2.1
        assert miss["timeout_sec"] == 2.9
        scene.listen_for(4)
        assert scene.misses() == ["s0"]


def test_a_truth_that_the_healer_refuses_moves_nothing(tmp_path):
    with Scene(tmp_path, {"alpha": service(), "beta": service()}) as scene:
        document = truth_of({"alpha": service(), "gamma": service()})
        alerts = {"publish_to": [{"bus": "market-redis", "key": "elsewhere"}]}
        document["services"]["healer"]["access_points"] = alerts
        document["services"]["healer"]["heartbeat"]["channel"] = "elsewhere:heartbeat"
        scene.seed(document)
        until(
            lambda: "alerts move" in last_beat(scene, "healer").get("detail", ""),
            what=lambda: f"the healer to say so; it says {last_beat(scene, 'healer')}",
        )
        beat = last_beat(scene, "healer")
        assert (beat["status"], beat["rev"]) == ("degraded", 1)
        assert "refused" in beat["detail"]
        assert subscribers(scene, "beta") >= 1
        scene.stop_beating("beta")  # who is dropped by the truth that was refused
        scene.alerts.wait("heartbeat_miss", "beta")
