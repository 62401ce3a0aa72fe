"""`marketswarm check` beside real agents: what it says while they join, work, stand still, hang and end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marketswarm import alive_file
from support.scenes.agent import Scene, seed, truth
from support.waiting import until

RESTS = """
        while True:
            await me.rest(5)
"""
# one expression that takes years, in C: neither the loop nor any other thread runs meanwhile
HOLDS_ALL_THREADS = """
        import re
        while not os.path.exists("hang"):
            me.progress()
            await asyncio.sleep(0.02)
        re.match("(a+)+$", "a" * 64 + "b")
"""
STOPS_SLOWLY = """
        try:
            await me.rest(60)
        finally:
            while not os.path.exists("seen"):
                await asyncio.sleep(0.02)
"""


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        seed(scene.buses, truth(timeout_sec=15.0), 1)
        yield scene


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alive"


@pytest.fixture
def says(path):
    """The line that `marketswarm check` comes to, once it begins with `code` and holds `words`."""

    def says(code: int, words: str, within: float = 30.0, *, ready: bool = False) -> None:
        def said() -> bool:
            seen[:] = [alive_file.check({alive_file.VARIABLE: str(path)}, time.monotonic(), ready=ready)]
            return seen[0][0] == code and words in seen[0][1]

        seen: list[tuple[int, str]] = []
        until(said, within, f"{code}, {words}; last was {seen}")

    return says


def command(path: Path, *options: str) -> tuple[int, str]:
    line = [sys.executable, "-m", "marketswarm", "check", *options]
    env = {"PATH": os.environ["PATH"], alive_file.VARIABLE: str(path)}
    ended = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def test_from_the_first_moment_to_the_last_it_says_how_the_agent_is(scene, path, says):
    assert command(path)[0] == 1
    agent = scene.agent(RESTS, MARKETSWARM_ALIVE_FILE=str(path))
    says(0, "probe made progress")
    says(0, "probe made progress", ready=True)
    assert command(path, "--ready")[0] == 0
    agent.freeze()
    assert command(path) == (1, f"probe stands still (process {agent.pid} got SIGSTOP)\n")
    agent.thaw()
    says(0, "progress")
    agent.kill()
    says(1, "has ended")
    agent.start()
    says(0, "progress", ready=True)
    assert agent.stop() == 0
    says(1, "has ended")


def test_buses_that_are_away_make_nobody_unwell(scene, path, says):
    agent = scene.agent(RESTS, MARKETSWARM_ALIVE_FILE=str(path))
    says(0, "progress", ready=True)
    scene.system.kill()
    scene.market.kill()
    agent.wait_log("beat.failed", 20)
    written = path.stat().st_ino
    until(lambda: path.stat().st_ino != written, what="a new sign of life")
    says(0, "progress", ready=True, within=0)


def test_an_agent_that_waits_for_the_truth_is_well_and_one_that_no_bus_heard_is_not_ready(scene, path, says):
    scene.market.cmd("DEL", "truth:doc")
    scene.system.kill()
    scene.agent(RESTS, MARKETSWARM_ALIVE_FILE=str(path))
    says(0, "probe has waited for the truth for")
    says(1, "probe waits for the truth", ready=True, within=0)
    seed([scene.market], truth(timeout_sec=15.0), 1)
    says(1, "no bus took a beat", ready=True)
    says(0, "progress", within=0)
    scene.system.start()
    says(0, "progress", ready=True)


def test_where_no_thread_can_run_it_is_seen_by_what_was_not_said(scene, path, says):
    agent = scene.agent(HOLDS_ALL_THREADS, MARKETSWARM_ALIVE_FILE=str(path), WATCHDOG_SEC="2")
    says(0, "progress", ready=True)
    (scene.folder / "hang").touch()
    says(1, "ago and 4.0 s are allowed")
    assert agent.running, "its own watchdog does not run either"


def test_one_that_stops_says_so_while_it_does(scene, path, says):
    agent = scene.agent(STOPS_SLOWLY, MARKETSWARM_ALIVE_FILE=str(path))
    says(0, "progress", ready=True)
    agent.signal(15)
    says(1, "probe is stopping")
    (scene.folder / "seen").touch()
    assert agent.wait() == 0


def test_a_file_that_can_not_be_written_is_told_once_and_hurts_nobody(scene, tmp_path):
    agent = scene.agent(
        RESTS,
        MARKETSWARM_ALIVE_FILE=str(tmp_path / "not there" / "alive"),
    )
    scene.wait_beat(i=6)  # 1.5 s, in which it is tried again
    assert len(agent.logs("alive.unwritable")) == 1
    assert agent.stop() == 0
