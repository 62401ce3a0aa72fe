"""A program that is started by fork is what a real start would have made of it."""

import os
import re
import signal
import subprocess
import textwrap
from pathlib import Path

import orjson
import pytest

from support.rig import Proc, forkserver
from support.waiting import until

ASKED = """
import json, os, random, signal, sys, threading
print(json.dumps({
    "arguments": sys.argv[1:],
    "program": os.path.basename(sys.argv[0]),
    "folder": os.getcwd(),
    "first on the path": sys.path[0],
    "environ": {name: value for name, value in os.environ.items() if name != "LC_CTYPE"},
    "leads its session": os.getsid(0) == os.getpid(),
    "name": __name__,
    "main": sys.modules["__main__"].__name__,
    "handlers": [str(signal.getsignal(number)) for number in (2, 1, 15, 17, 13)],
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd") if int(name) > 3),
    "threads": threading.active_count(),
    "parts of the tests": [name for name in sys.modules if name.split(".")[0] in ("support", "pytest")],
    "encoding": [sys.stdout.encoding, sys.stderr.encoding, sys.getfilesystemencoding()],
    "buffering": [sys.stdout.line_buffering, sys.stderr.line_buffering],
}))
"""
ENDS = {
    "by itself": ("pass", 0),
    "with a code": ("import sys; sys.exit(7)", 7),
    "with words": ("import sys; sys.exit('no way')", 1),
    "by an error": ("raise RuntimeError('no way')", 1),
    "by SIGINT": ("import os; os.kill(os.getpid(), 2); import time; time.sleep(9)", -2),
    "by SIGKILL": ("import os; os.kill(os.getpid(), 9)", -9),
    "after its thread": (
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
        0,
    ),
    "with what it wanted done": ("import atexit; atexit.register(print, 'late')", 0),
}


@pytest.fixture(params=["fork", "exec"])
def how(request, monkeypatch):
    if request.param == "exec":
        monkeypatch.setenv("MARKETSWARM_TEST_START", "exec")
    return request.param


def program(folder: Path, source: str) -> None:
    (folder / "probe.py").write_text(textwrap.dedent(source), encoding="utf-8")


def test_it_finds_what_a_real_start_finds(tmp_path, monkeypatch):
    program(tmp_path, ASKED)
    said = {}
    for start in ("fork", "exec"):
        monkeypatch.setenv("MARKETSWARM_TEST_START", start)
        with Proc("probe", {"HELLO": "world"}, tmp_path, "one", "two words") as probe:
            assert probe.wait() == 0, probe
            said[start] = orjson.loads(probe.text())
    assert said["fork"] == said["exec"]
    assert said["fork"]["environ"]["HELLO"] == "world"


@pytest.mark.parametrize("end", ENDS)
def test_it_ends_as_a_real_start_ends(tmp_path, how, end):
    source, code = ENDS[end]
    program(tmp_path, source)
    with Proc("probe", {}, tmp_path) as probe:
        assert probe.wait() == code, f"{how}: {probe}"
        assert not Path(f"/proc/{probe.pid}").exists()
    wanted = {"by an error": "no way", "with words": "no way"}.get(end, "late" if "late" in source else "")
    assert wanted in probe.text()


def test_no_two_of_them_share_their_chance(tmp_path):
    program(tmp_path, "import random; print(random.getrandbits(64))")
    assert len({_said(tmp_path) for _ in range(3)}) == 3


def _said(folder: Path) -> str:
    with Proc("probe", {}, folder) as probe:
        assert probe.wait() == 0, probe
        return probe.text()


def test_it_is_frozen_thawed_and_stopped_by_its_pid(tmp_path, how):
    # no signal.pause: a signal between two of its calls would be noticed with the next signal only
    program(
        tmp_path, "import signal, time\nsignal.signal(15, lambda *_: exit(3))\nwhile True: time.sleep(0.05)"
    )
    with Proc("probe", {}, tmp_path) as probe:
        until(lambda: _catches(probe.pid, signal.SIGTERM), 10)
        probe.freeze()
        assert probe.running, how
        probe.thaw()
        assert probe.stop() == 3


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal. Libraries of the product may have some of their own."""
    [mask] = re.findall(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    return bool(int(mask, 16) >> number - 1 & 1)


def test_a_run_ends_in_time_or_is_ended(tmp_path):
    program(tmp_path, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(4)")
    environ = {"PATH": os.environ["PATH"]}
    done = forkserver.run("probe", [], env=environ, cwd=tmp_path, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (4, "out\n", "err\n")
    program(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        forkserver.run("probe", [], env=environ, cwd=tmp_path, timeout=0.2)


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD", "LANG", "TZ"])
def test_what_is_said_to_the_interpreter_has_it_really_started(name):
    assert forkserver.startable({"PATH": "/bin"})
    assert not forkserver.startable({"PATH": "/bin", name: "x"})


def test_one_that_is_left_running_is_named_at_the_end_of_the_run_and_does_not_outlive_it(tmp_path):
    program(tmp_path, "import time; time.sleep(60)")
    with Proc("probe", {}, tmp_path) as left, Proc("probe", {}, tmp_path) as ended:
        ended.kill()
        assert forkserver.close() == [f"{left.pid} python -m probe"]
        assert left.wait() == -signal.SIGKILL
        assert not Path(f"/proc/{left.pid}").exists()
    assert forkserver.close() == []
