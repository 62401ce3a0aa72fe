"""Runs the examples that the pages show, as they are shown, against real servers."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from marketswarm.bus.stream_length import find_slowest_group
from marketswarm.keys import ARCHIVE_POSITIONS
from services.archive.settings import FOLLOWED
from services.tables.tables import STREAMS
from support.rig import Fleet, Proc, Server
from support.rig.process import Process
from support.waiting import PATIENT_SEC, until

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


@pytest.mark.needs("bash", "redis-cli")
def test_after_a_restore_the_old_group_of_archive_is_deleted_from_every_stream(tmp_path):
    script = example("docs/services/archive.md", "bash", "XGROUP DESTROY")
    with Server(tmp_path / "system") as system, Server(tmp_path / "market") as market:
        by_group = [stream for stream in STREAMS if stream not in FOLLOWED]
        for name in ("archive", "archive-2"):
            for stream in by_group:
                market.cmd("XGROUP", "CREATE", stream, name, "0", "MKSTREAM")
            for stream in FOLLOWED:
                system.cmd(
                    "HSET", ARCHIVE_POSITIONS, f"{name} {stream}", "1-0" if name == "archive" else "9-0"
                )
        script = script.replace("-p 6379", f"-p {system.port}").replace("-p 6380", f"-p {market.port}")
        subprocess.run(["bash", "-c", script], check=True, capture_output=True, timeout=PATIENT_SEC)
        for stream in by_group:
            assert [group["name"] for group in market.cmd("XINFO", "GROUPS", stream)] == ["archive-2"]
        assert set(system.cmd("HGETALL", ARCHIVE_POSITIONS)) == {f"archive-2 {stream}" for stream in FOLLOWED}


def test_a_position_that_is_overwritten_by_a_word_holds_no_stream():
    stored = {b"archive healer:alerts:log": b"unread", b"archive-2 healer:alerts:log": b"9-0"}
    assert find_slowest_group(stored, "healer:alerts:log", 0.0) == b"9-0"
