"""Runs the examples that the pages show, as they are shown, against real servers."""

import os
import re
import signal
from pathlib import Path

import pytest

from support.rig import Fleet, Proc
from support.rig.process import Process
from support.waiting import until

ROOT = Path(__file__).parents[2]
TRUTH = {
    "services": {
        "my_svc": {
            "heartbeat": {"channel": "my_svc:heartbeat", "interval_sec": 0.3, "timeout_sec": 1.5},
            "settings": {"every_sec": 0.1},
        },
        "healer": {"heartbeat": {"interval_sec": 1}, "threshold": {"heartbeat_cadence": 3}},
    }
}
pytestmark = pytest.mark.live


def example(page: str, language: str, mark: str) -> str:
    """The one block of a page that has `mark` in it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    [block] = [block for block in found if mark in block]
    return str(block)


class Shell(Process):
    """A script that runs until it is ended, with all that it started."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.spawn(["bash", "-c", text])

    def close(self) -> None:
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


@pytest.mark.needs("bash", "redis-cli")
def test_the_shell_script_is_a_full_citizen(tmp_path):
    script = example("docs/operating.md", "bash", "while sleep")
    with Fleet(tmp_path, TRUTH, ["healer"]) as fleet:
        hurried = script.replace("-p 6379", f"-p {fleet.system.port}").replace("sleep 10", "sleep 0.2")
        assert hurried.count(str(fleet.system.port)) == hurried.count("sleep 0.2") == 1
        with Shell(hurried):
            until(
                lambda: "heartbeat_ok" in (fleet.system.cmd("GET", "health:my_svc") or ""), what="its health"
            )
            assert fleet.alerts.of(svc="my_svc") == []
        miss = fleet.alerts.wait("heartbeat_miss", "my_svc", 10)
        assert miss["reason"] == "silent"
        with Shell(hurried):
            fleet.alerts.wait("heartbeat_ok", "my_svc", 10)


def test_the_service_in_python_beats(tmp_path):
    (tmp_path / "my_svc.py").write_text(example("docs/development.md", "python", "my_svc"), encoding="utf-8")
    with (
        Fleet(tmp_path, TRUTH, tail=False) as fleet,
        Proc("my_svc", {**fleet.env, "PYTHONPATH": str(tmp_path)}, tmp_path) as service,
    ):
        until(lambda: fleet.system.cmd("GET", "beat:my_svc") or not service.running, what="its first beat")
        assert service.running, str(service)
        assert service.stop() == 0
