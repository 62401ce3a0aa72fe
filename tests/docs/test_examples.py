"""Runs the examples that the pages show, as they are shown, against real servers."""

import os
import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from marketswarm.channels.message import encode_webhook_body
from support.channel_messages import MISS
from support.rig import Fleet, Proc, free_port
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


def test_the_receiver_shows_what_it_is_sent(tmp_path):
    port = free_port()
    source = example("README.md", "python", "http.server").replace("9000", str(port))
    (tmp_path / "hook.py").write_text(source, encoding="utf-8")
    with Proc("hook", {"PYTHONPATH": str(tmp_path)}, tmp_path) as receiver:
        until(lambda: listens(port), what="the receiver")
        httpx.post(
            f"http://127.0.0.1:{port}/hook", content=encode_webhook_body(MISS), timeout=5
        ).raise_for_status()
        until(lambda: "warning - rss_agg is down - no beat for 31.2 s (timeout 30 s)\n" in receiver.text())


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
