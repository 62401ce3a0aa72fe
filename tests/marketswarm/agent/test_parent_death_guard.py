"""A process group that ends with the process that started it: real processes, ended by SIGKILL."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from marketswarm.agent.parent_death_guard import end_group_with_parent
from support.rig.process import alive
from support.waiting import until

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")]
PARENT = """
import subprocess, sys
from marketswarm.agent.parent_death_guard import end_group_with_parent
line = end_group_with_parent(["sh", "-c", sys.argv[1]], int(sys.argv[2]))
with subprocess.Popen(line, start_new_session=True) as running:
    sys.exit(running.wait() % 256)
"""


def start_parent(script, within_sec=600):
    """Start a process that starts a script under a guard, and ends with its exit code."""
    return subprocess.Popen([sys.executable, "-c", PARENT, script, str(within_sec)])


def run(*words):
    """Run a command under a guard; return its exit code as `subprocess` has it."""
    line = end_group_with_parent(words, 600)
    return subprocess.run(line, start_new_session=True, timeout=60, check=False).returncode


def write_pids(folder):
    """Return a script that starts a process of its own and stays, and the file that has both pids then."""
    pids = folder / "pids"
    return f"sleep 600 & echo $$ $! >{pids}.new; mv {pids}.new {pids}; wait", pids


def test_all_of_a_group_ends_when_the_process_that_started_it_is_killed(tmp_path):
    script, pids = write_pids(tmp_path)
    with start_parent(script) as parent:
        until(pids.exists, what="the script")
        shell, sleep = map(int, pids.read_text().split())
        assert alive(shell)
        parent.kill()
    until(lambda: not alive(shell) and not alive(sleep), what="the end of both")


def test_all_of_a_group_ends_after_its_time(tmp_path):
    script, pids = write_pids(tmp_path)
    with start_parent(script, 1) as parent:
        assert parent.wait(60) == -signal.SIGKILL % 256
    if pids.exists():  # a busy machine may take longer than that to start it
        until(lambda: not any(map(alive, map(int, pids.read_text().split()))), what="the end of both")


@pytest.mark.parametrize(("script", "code"), [
    ("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -signal.SIGKILL),
])  # fmt: skip
def test_a_guard_ends_as_the_command_does(script, code):
    assert run("sh", "-c", script) == code


def read_mask(status, name):
    """Return the signals of a line of /proc/PID/status, a bit each."""
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:")), 16)


def test_a_command_blocks_no_signal_and_ignores_none_that_its_starter_did_not_inherit(tmp_path):
    seen = tmp_path / "status"
    assert run("sh", "-c", f"cat /proc/self/status > {seen}") == 0
    of_python = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ))
    # who starts this in the background of a shell has it ignore SIGQUIT
    inherited = read_mask(Path("/proc/self/status").read_text(), "SigIgn") & ~of_python
    assert read_mask(seen.read_text(), "SigIgn") == inherited
    assert read_mask(seen.read_text(), "SigBlk") == 0


@pytest.mark.parametrize(("program", "code"), [("/nothing", 127), ("/dev/null", 126)])
def test_a_command_that_can_not_be_run_has_the_exit_code_that_a_shell_has_for_it(program, code):
    assert run(program) == code
