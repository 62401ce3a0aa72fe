"""A program that is started by fork is what a real start would have made of it."""

import os
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
ENDS = [
    ("print('out')", 0, "out"),
    ("import sys; sys.exit(7)", 7, ""),
    ("import sys; sys.exit('no way')", 1, "no way"),
    ("raise RuntimeError('no way')", 1, "no way"),
    ("import os; os.kill(os.getpid(), 9)", -9, ""),
    (
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
        0,
        "late",
    ),
    ("import atexit; atexit.register(print, 'late')", 0, "late"),
]
FROZEN = """
import signal, time
signal.signal(15, lambda *_: exit(3))
print("ready", flush=True)
while True: time.sleep(0.05)
"""


def program(folder: Path, source: str) -> None:
    (folder / "probe.py").write_text(textwrap.dedent(source), encoding="utf-8")


def test_a_forked_program_finds_ends_and_is_steered_as_a_started_one(tmp_path, monkeypatch):
    program(tmp_path, ASKED)
    said = {}
    for start in ("exec", "fork"):
        monkeypatch.setenv("MARKETSWARM_TEST_START", start)
        with Proc("probe", {"HELLO": "world"}, tmp_path, "one", "two words") as probe:
            assert probe.wait() == 0, probe
            said[start] = orjson.loads(probe.text())
    assert said["fork"] == said["exec"]
    assert said["fork"]["environ"]["HELLO"] == "world"
    for source, code, word in ENDS:
        program(tmp_path, source)
        with Proc("probe", {}, tmp_path) as probe:
            assert probe.wait() == code, probe
        assert word in probe.text()
    program(tmp_path, FROZEN)
    with Proc("probe", {}, tmp_path) as probe:
        until(lambda: "ready" in probe.text())
        probe.freeze()
        assert probe.running
        probe.thaw()
        assert probe.stop() == 3


def test_one_that_takes_too_long_or_is_left_running_is_named_and_ended(tmp_path):
    program(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        forkserver.run("probe", [], env={"PATH": os.environ["PATH"]}, cwd=tmp_path, timeout=0.2)
    with Proc("probe", {}, tmp_path) as left, Proc("probe", {}, tmp_path) as ended:
        ended.kill()
        assert forkserver.close() == [f"{left.pid} python -m probe"]
        assert left.wait() == -signal.SIGKILL
    assert forkserver.close() == []
