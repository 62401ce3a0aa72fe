"""FAILURES row 67: a truth changes timeouts, buses and names while a healer restarts and a run ends."""

from pathlib import Path
from typing import Any

from support.rig import Proc
from support.scenes.faults import Scene, service, truth_of
from support.waiting import PATIENT_SEC, until

NIGHTLY = {"schedule": "0 3 * * *", "grace_sec": 60, "time_zone": "UTC"}
WAITS = "touch started-{0}; until [ -e ends-{0} ]; do sleep 0.05; done"


def execute(scene: Scene, script: str) -> Proc:
    return Proc("marketswarm", scene.env, scene.folder, "exec", "--svc", "nightly", "--", "sh", "-c", script)


def run_over_a_change(scene: Scene, name: str, services: dict[str, Any]) -> None:
    """A run begins; the healer is killed, another truth is seeded, the run ends well, a healer begins."""
    folder: Path = scene.folder
    with execute(scene, WAITS.format(name)) as job:
        until((folder / f"started-{name}").exists, what="the run to begin")
        scene["healer"].kill()
        scene.seed(truth_of(services))
        (folder / f"ends-{name}").touch()
        assert job.wait(PATIENT_SEC) == 0, str(job)
    scene["healer"].start()


def test_row_67_a_truth_that_changes_while_a_healer_restarts_and_a_run_ends_hides_nothing(tmp_path):
    quick, slow = service(interval_sec=0.5, timeout_sec=2.5), service(interval_sec=0.5, timeout_sec=20)
    first = {"nightly": {"heartbeat": NIGHTLY}, "steady": slow, "old_name": service()}
    with Scene(tmp_path, first, idle=["nightly"]) as scene:
        with execute(scene, "exit 3") as job:
            assert job.wait(PATIENT_SEC) == 3
        scene.wait_logged("heartbeat_miss", "nightly")

        # a longer grace, on another bus; a shorter timeout; another name
        moved = {**NIGHTLY, "grace_sec": 6 * 3600, "redis_url": "redis://market-redis:6379"}
        scene.watched_anew.add("new_name")
        scene.beat("new_name", {})
        changed = {"nightly": {"heartbeat": moved}, "steady": quick, "new_name": service()}
        run_over_a_change(scene, "retry", changed)
        up = scene.wait_logged("heartbeat_ok", "nightly")
        assert up["down_sec"] > 0, "the run that ended unheard ended the outage"

        # all of it back, and once more a run that ends unheard
        scene.watched_anew.add("old_name")
        run_over_a_change(scene, "next", {**first, "new_name": service()})
        until(lambda: len(scene["healer"].logs("monitor.state_loaded")) == 3, what="the third healer")
        scene.listen_for(3.0)
        assert scene.misses() == ["nightly"], "the failure, and nothing else"
        roster = scene.roster()
        assert {roster[svc]["verdict"] for svc in ("nightly", "steady", "old_name", "new_name")} == {"up"}
