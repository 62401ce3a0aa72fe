"""Runs the programs of docs/beats-from-anywhere.md, each where its runtime is present, and hears them."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from marketswarm.beat import Beat, parse_beat
from support.pages import ROOT, blocks
from support.rig import AlertTail, Server
from support.rig.process import Process
from support.waiting import until

PAGE = ROOT / "docs" / "beats-from-anywhere.md"
pytestmark = pytest.mark.live


class Program(Process):
    """A program from the page, with all that it starts."""

    def __init__(self, line: list[str], **how) -> None:
        super().__init__()
        self.spawn(line, **how)

    def close(self) -> None:
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait()


def shown(language: str, mark: str, ten_seconds: str, hurried: str) -> str:
    """The one block with `mark` in it, in a hurry."""
    [block] = [block for block in blocks(PAGE, language) if mark in block]
    assert block.count(ten_seconds) == 1
    return block.replace(ten_seconds, hurried)


def in_bash(folder: Path) -> list[str]:
    (folder / "beat.sh").write_text(shown("bash", "/dev/tcp", "sleep 10", "sleep 0.1"), encoding="utf-8")
    return ["bash", "beat.sh"]


def in_go(folder: Path) -> list[str]:
    source = shown("go", "package main", "10 * time.Second", "100 * time.Millisecond")
    (folder / "beat.go").write_text(source, encoding="utf-8")
    env = {
        **os.environ,
        "GOCACHE": str(folder / "cache"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    subprocess.run(["go", "build", "-o", "beat", "beat.go"], cwd=folder, env=env, check=True, timeout=300)
    untidy = subprocess.run(["gofmt", "-l", "beat.go"], cwd=folder, check=True, capture_output=True)
    assert untidy.stdout == b""
    return ["./beat"]


def in_node(folder: Path) -> list[str]:
    (folder / "beat.js").write_text(shown("js", "setInterval", "10_000", "100"), encoding="utf-8")
    return ["node", "beat.js"]


@pytest.mark.timeout(900)  # Go builds its own library first
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(in_bash, marks=pytest.mark.needs("bash"), id="bash"),
        pytest.param(
            in_go,
            marks=[
                pytest.mark.needs("go", "gofmt"),
                pytest.mark.nightly(
                    "the programs in bash and node beat and go on, as this one; Go builds for seconds"
                ),
            ],
            id="go",
        ),
        pytest.param(in_node, marks=pytest.mark.needs("node"), id="node"),
    ],
)
def test_the_program_beats_and_goes_on_when_the_bus_is_back(tmp_path, made):
    line = made(tmp_path)
    env = {"PATH": os.environ["PATH"]}
    with Server(tmp_path / "bus") as bus, AlertTail(bus.url, "my_svc:heartbeat") as heard:
        env["BUS"] = f"127.0.0.1:{bus.port}"
        errors = (tmp_path / "errors").open("wb")
        with errors, Program(line, cwd=tmp_path, env=env, stdout=errors, stderr=errors) as program:
            until(lambda: len(heard.seen) >= 3, what="three beats")
            assert [beat["i"] for _, beat in heard.seen[:3]] == [1, 2, 3]
            # each of them arrives, the second word of each too
            until(
                lambda: calls(bus, "set") >= len(heard.seen) >= 10,
                what="ten beats, and as many left in the key",
            )
            beat = parse_beat(bus.cmd("GET", "beat:my_svc").encode(), "my_svc")
            assert isinstance(beat, Beat)
            assert 0 < bus.cmd("PTTL", "beat:my_svc") <= 60_000
            bus.restart()
            before = len(heard.seen)
            until(lambda: len(heard.seen) > before, what="a beat over the new bus")
            assert program.running
            until(
                lambda: bus.cmd("INFO", "clients")["connected_clients"] <= 4, what="no connection to be left"
            )


def calls(bus: Server, command: str) -> int:
    return int(bus.cmd("INFO", "commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def test_each_is_as_short_as_the_page_says():
    for language, mark in (("bash", "/dev/tcp"), ("go", "package main"), ("js", "setInterval")):
        [block] = [block for block in blocks(PAGE, language) if mark in block]
        # what Go wants of every program is not counted
        lines = block.partition("func main() {\n")[2].rpartition("}\n")[0] or block
        assert len(lines.splitlines()) <= 12, language
