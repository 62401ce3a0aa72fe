"""What a sign of life is taken for; the processes are real ones."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from marketswarm import alive_file
from marketswarm.alive_file import Phase

NOW = 1000.0


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "alive")


@pytest.fixture
def checked(path):
    def check(now=NOW, *, ready=False):
        return alive_file.check({alive_file.VARIABLE: path}, now, ready=ready)

    return check


def said(phase=Phase.WORKING, at=NOW - 5, allowed_sec=32.0, *, taken=True, **other):
    return {**alive_file.build_facts("rss_agg", phase, at, allowed_sec, beat_accepted=taken), **other}


def test_what_was_written_is_what_is_read_and_nothing_else_is_left(path, tmp_path):
    alive_file.write(path, said())
    alive_file.write(path, said(at=NOW))
    assert alive_file.read(path) == said(at=NOW)
    assert [each.name for each in tmp_path.iterdir()] == ["alive"]


@pytest.mark.parametrize(
    ("sign", "code", "line"),
    [
        (said(), 0, "rss_agg made progress 5.0 s ago"),
        (said(at=NOW - 31.9), 0, "rss_agg made progress 31.9 s ago"),
        (said(at=NOW - 32.1), 1, "rss_agg made progress 32.1 s ago and 32.0 s are allowed"),
        (said(Phase.JOINING), 0, "rss_agg has waited for the truth for 5.0 s"),
        (
            said(Phase.JOINING, at=NOW - 40),
            1,
            "rss_agg has waited for the truth for 40.0 s and may for 32.0 s",
        ),
        (said(Phase.STOPPING, at=NOW), 1, "rss_agg is stopping"),
        (said(at=NOW + 60), 1, "rss_agg goes by another clock: check it where it runs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_is_well_while_it_made_progress_within_what_is_allowed(path, checked, sign, code, line):
    alive_file.write(path, sign)
    assert checked() == (code, line)


def test_it_is_ready_once_it_has_the_truth_and_a_bus_took_a_beat(path, checked):
    alive_file.write(path, said(Phase.JOINING, taken=False))
    assert checked(ready=True) == (1, "rss_agg waits for the truth")
    alive_file.write(path, said(taken=False))
    assert checked(ready=True) == (1, "rss_agg has joined, but no bus took a beat of it yet")
    assert checked()[0] == 0
    alive_file.write(path, said())
    assert checked(ready=True)[0] == 0
    assert checked(NOW + 60, ready=True)[0] == 1, "one that hangs is not ready either"


def test_a_file_that_outlived_its_process_is_no_sign_of_life(path, checked):
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    _, started = alive_file.read_process_state(gone.pid)
    alive_file.write(path, said(pid=gone.pid, started=started))
    assert checked()[0] == 0
    gone.stdin.close()
    os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
    assert checked() == (1, f"rss_agg has ended (process {gone.pid})"), "nobody waited for it yet"
    gone.wait()
    assert checked() == (1, f"rss_agg has ended (process {gone.pid})")


def test_a_pid_that_was_given_out_again_is_not_the_agent(path, checked):
    """As pid 1 or 7 is, in each new container."""
    alive_file.write(path, said(started=said()["started"] - 1))
    assert checked() == (1, f"rss_agg has ended (process {os.getpid()})")


def test_where_the_system_tells_no_start_the_pid_has_to_do(path, checked):
    alive_file.write(path, said(started=None))
    assert checked()[0] == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"7", b"{}", b'"rss_agg"', b"\xff\x00", b"[" * 5000]
    + [
        b'{"svc":"a","pid":%s,"started":null,"phase":"working"}' % pid
        for pid in (b"1", b"-1", b"1e400", b'"x"')
    ],
)
def test_a_file_of_anything_else_is_no_sign_of_life(path, checked, content):
    Path(path).write_bytes(content)
    code, line = checked()
    assert code == 1
    assert line.isprintable()


def test_what_can_not_be_read_is_said_and_a_pipe_keeps_nobody_waiting(path, checked, tmp_path):
    assert checked() == (1, f"no sign of life yet: there is no {path}")
    os.mkfifo(path)
    assert checked()[0] == 1
    assert alive_file.check({alive_file.VARIABLE: str(tmp_path)}, NOW, ready=False)[0] == 1


def test_without_the_variable_there_is_nothing_to_check():
    assert alive_file.check({}, NOW, ready=False)[0] == 2
    assert alive_file.check({alive_file.VARIABLE: ""}, NOW, ready=False)[0] == 2


@pytest.mark.parametrize("start", [["-m", "marketswarm"], ["-c", "from marketswarm.cli import main; main()"]])
def test_a_check_takes_100_ms_of_cpu_at_most_and_loads_nothing_heavy(path, start):
    """The second way is that of the installed command."""
    alive_file.write(path, said(at=time.monotonic()))
    spent, bare = [], []
    for _ in range(3):
        used, ended = ran(path, *start, "check")
        assert (ended.returncode, ended.stdout[:21]) == (0, "rss_agg made progress")
        spent.append(used)
        bare.append(ran(path, "-c", "pass")[0])
    # on a machine so slow that Python itself takes a third of that, it is no more than thrice as much
    assert min(spent) <= max(0.1, 3 * min(bare))
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "marketswarm.alive_file" in loaded
    assert not {"typer", "click", "rich", "pydantic", "redis", "asyncio", "socket", "dataclasses"} & loaded


def ran(path, *words):
    """Seconds of processor that a Python with these words took, and how it ended."""
    before = os.times()
    line = [sys.executable, "-X", "importtime", *words]
    ended = subprocess.run(line, env={alive_file.VARIABLE: path}, capture_output=True, text=True, check=False)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4]), ended
