"""Types what docs/adding.md shows into a fleet of its own, and runs the line that is printed for curl."""

import shlex
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import orjson
import pytest
from redis import Redis

from support.pages import ROOT, blocks
from support.rig import Proc, free_port
from support.rig.shell import Shell

PAGE = ROOT / "docs" / "adding.md"
FAST = {"heartbeat": {"interval_sec": 1, "timeout_sec": 20}}
TRUTH = {"services": {"healer": FAST, "massive": FAST, "board": FAST}}
pytestmark = [pytest.mark.live, pytest.mark.needs("curl", "sh")]


@pytest.fixture
def fleet(tmp_path):
    shell, ports = Shell(tmp_path), (free_port(), free_port())
    shell.write(TRUTH)
    up = Proc("marketswarm", {}, tmp_path, "up", "--port", str(ports[0]), "--board-port", str(ports[1]))
    with up:
        up.wait_log("fleet.up", 60)
        yield shell, ports[0]
        up.signal(signal.SIGINT)
        up.wait(30)


def shown() -> list[list[str]]:
    """Return the commands of the page in its order, each without the name of the program."""
    lines = [line for block in blocks(PAGE, "bash") for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines]


def test_each_command_of_the_page_does_what_it_says(fleet):
    shell, port = fleet
    first, *others = shown()
    assert first[:3] == ["add", "job", "backup"]
    with shell.start(*first, "--yes", "--wait", "60s") as command:
        lines = []
        for line in command.stdout:
            lines.append(line.rstrip("\n"))
            if line.startswith("waiting for"):
                break
        curl = lines[lines.index("curl:") + 1].strip()
        assert subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True).stdout == "OK"
        assert "✓ first sign of life of backup" in command.stdout.readline()
        assert command.wait(30) == 0
    assert verdict(shell, "backup") == "up"
    for words in others:
        asks = [] if "--yes" in words or words[0] == "token" else ["--yes"]
        without_waiting = ["--no-wait"] if words[0] == "add" and "--wait" not in words else []
        patience = ["1s" if before == "--wait" else word for before, word in pairwise(["", *words])]
        done = shell(*patience, *asks, *without_waiting)
        assert done.returncode == (1 if "--wait" in words else 0), done.stderr
    services = orjson.loads((Path(shell.folder) / "truth.json").read_bytes())["services"]
    assert [*services] == [*TRUTH["services"], "backup", "worker", "report", "nightly", "queue"]
    with Redis(port=port) as bus:
        assert bus.get("truth:doc") == (Path(shell.folder) / "truth.json").read_bytes()


def verdict(shell: Shell, svc: str) -> str:
    rows = orjson.loads(shell.said("status", "--json"))["services"]
    return next(row["verdict"] for row in rows if row["svc"] == svc)
