"""A service that is five lines of shell is a full citizen (CONTRACTS, at its beginning)."""

import os
from pathlib import Path

import orjson
import pytest

from support.rig import Process
from support.scenes.faults import Scene, service
from support.waiting import until

pytestmark = pytest.mark.needs("redis-cli", "sh")

TIMEOUT_SEC = 3.0  # a busy machine takes its time to start a program for each beat
# no boot, and `"i":1` for ever: each is a sign of life
SCRIPT = """
while sleep 0.2; do
  redis-cli -p "$PORT" PUBLISH my_svc:heartbeat "{\\"svc\\":\\"my_svc\\",\\"i\\":1,\\"ts\\":$(date +%s)}"
done
"""


class Shell(Process):
    def __init__(self, folder: Path, port: int) -> None:
        super().__init__()
        self.errors = folder / "shell.log"
        with self.errors.open("ab") as out:
            environ = {"PATH": os.environ["PATH"], "PORT": str(port)}
            self.spawn(["sh", "-c", SCRIPT], env=environ, stdout=out, stderr=out)


def test_a_service_of_five_lines_of_shell_is_watched_missed_and_welcomed_back(tmp_path):
    services = {"my_svc": service(timeout_sec=TIMEOUT_SEC), "mesh": service(timeout_sec=5)}
    with Scene(tmp_path, services, ("healer", "mesh"), idle={"my_svc"}) as scene:
        for times in (1, 2):
            with Shell(tmp_path, scene.system.port):
                until(lambda: scene.roster().get("my_svc", {}).get("verdict") == "up", what="up")
                health = orjson.loads(scene.system.cmd("GET", "health:my_svc"))
                assert health["type"] == "heartbeat_ok"
                scene.listen_for(TIMEOUT_SEC)
                topology = orjson.loads(scene.system.cmd("GET", "mesh:topology"))
                assert len(topology["services"]["my_svc"]["instances"]) == 1
                before = len(scene.log("heartbeat_miss", "my_svc"))
                assert before <= times  # none since it beats; before its first beat it was expected
            miss = scene.wait_logged("heartbeat_miss", "my_svc", count=before + 1)
            assert miss["reason"] == "silent"
            assert miss["late_sec"] >= TIMEOUT_SEC
        assert set(scene.misses()) == {"my_svc"}
        assert scene.log("heartbeat_ok", "my_svc")[-1]["down_sec"] >= TIMEOUT_SEC
