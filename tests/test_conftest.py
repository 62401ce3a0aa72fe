"""Shows each rule of conftest.py a test that breaks it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.rig.process import alive
from support.waiting import until

HERE = Path(__file__).parent
NEEDED = (
    "conftest.py",
    "support/__init__.py",
    "support/kinds.py",
    "support/last_run.py",
    "support/leftovers.py",
    "support/processors.py",
)
BREACHES = """
import os, signal, subprocess, sys, pytest

ASKS = "import signal as s; print(s.getsignal(s.SIGINT), s.getsignal(s.SIGHUP) is s.SIG_DFL)"

@pytest.mark.needs("no-such-program")
def test_needs_what_is_not_there(): ...

def test_skips_by_itself():
    pytest.skip("not today")

def test_sets_a_variable():
    os.environ["LEFT"] = "behind"

def test_takes_a_signal():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def test_leaves_an_orphan():
    subprocess.run(["sh", "-c", "sleep 291 & echo $! >orphan"])

def test_leaves_one_that_knows_nothing_of_us(tmp_path):
    path = {"PATH": os.environ["PATH"]}
    left = subprocess.Popen(["sleep", "292"], env=path, cwd=tmp_path, start_new_session=True)
    left.returncode = 0

def test_a_child_has_its_signals():
    said = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True).stdout
    assert "default_int_handler" in said and "True" in said

def test_keeps_to_the_rules(monkeypatch, tmp_path):
    monkeypatch.setenv("PUT", "back")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["true"])
"""


KINDS = """
import asyncio, socket, subprocess, sys, pytest

def started():
    return subprocess.run([sys.executable, "-c", "pass"])

@pytest.fixture
def program():
    return started()

@pytest.fixture
def word():
    return "pure"

class Behind:
    def go(self):
        started()

def test_pure(word): assert word == "pure"
async def test_a_loop_of_its_own(): await asyncio.sleep(0)
def test_starts(): started()
def test_has_a_fixture_that_starts(program): ...
def test_has_a_class_that_starts(): Behind().go()
def test_hides_it(): __import__("sub" + "process").run(["true"])
def test_hides_it_and_hides_the_error():
    try:
        socket.create_connection(("127.0.0.1", 1))
    except Exception:
        pass
@pytest.mark.live
def test_hides_it_and_is_marked(): __import__("sub" + "process").run(["true"])
"""


def run(
    folder: Path, *arguments: str, ci: bool = False, source: str = BREACHES, code: int = 1, **how: Any
) -> str:
    (folder / "tests" / "support").mkdir(parents=True)
    for name in NEEDED:
        shutil.copy(HERE / name, folder / "tests" / name)
    (folder / "tests" / "test_breaches.py").write_text(source, encoding="utf-8")
    ini = "[pytest]\npythonpath = tests\nasyncio_mode = auto\nmarkers =\n unit: .\n live: .\n"
    (folder / "pytest.ini").write_text(ini, encoding="utf-8")
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MARKETSWARM_"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**environ, "MARKETSWARM_CI": "1" if ci else ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **how,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def as_nohup() -> None:
    """Have signals ignored, as a shell does that for what runs in its background; children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.parametrize(
    ("workers", "ci"), [(["-p", "no:xdist"], False), (["-n", "1"], True)], ids=["alone", "xdist"]
)
def test_what_a_test_leaves_behind_or_skips_is_named_and_nohup_changes_nothing(tmp_path, workers, ci):
    said = run(tmp_path, *workers, ci=ci, preexec_fn=as_nohup)
    assert "changed and did not put back: os.environ" in said
    assert "changed and did not put back: handler of SIGTERM" in said
    for kept in ("test_keeps_to_the_rules", "test_a_child_has_its_signals"):
        assert f"PASSED tests/test_breaches.py::{kept}" in said
    assert "needs no-such-program on PATH" in said
    if ci:  # every skip is a failure
        assert "needs no-such-program on PATH (MARKETSWARM_CI=1" in said
        assert "not today (MARKETSWARM_CI=1" in said
    assert ("2 skipped" in said) is not ci
    orphan = int((tmp_path / "orphan").read_text(encoding="ascii"))
    assert f"{orphan} sleep 291" in said
    until(lambda: not alive(orphan), 5, "the orphan to end")  # it was sent SIGKILL, and that is all
    if Path("/proc").exists():
        assert "sleep 291 <- tests/test_breaches.py::test_leaves_an_orphan" in said
        detached = re.search(r"^(\d+) sleep 292 <- .*test_leaves_one_that_knows", said, re.MULTILINE)
        assert detached
        until(lambda: not alive(int(detached[1])), 5, "the other to end")


def test_a_unit_test_starts_nothing_and_opens_nothing(tmp_path):
    said = run(tmp_path, "-m", "unit", source=KINDS)
    passed = re.findall(r"^PASSED \S+::(\w+)", said, re.MULTILINE)
    failed = re.findall(r"^FAILED \S+::(\w+)", said, re.MULTILINE)
    assert sorted(passed) == ["test_a_loop_of_its_own", "test_pure"]
    assert sorted(failed) == ["test_hides_it", "test_hides_it_and_hides_the_error"]
    assert "If it must, mark it: @pytest.mark.live" in said
    assert "4 deselected" in said


ENDLESS = """
import threading, time, pytest

@pytest.fixture
def endless(request):
    plugins = request.config.pluginmanager.get_plugins()
    next(each for each in plugins if hasattr(each, "TEARDOWN_SEC")).TEARDOWN_SEC = 0.5
    yield
    threading.Event().wait()

@pytest.mark.timeout(0.5)
def test_takes_too_long_and_never_ends(endless): time.sleep(60)

def test_is_run_all_the_same(): ...
"""


def test_fixtures_that_never_end_are_a_failure_that_names_their_test(tmp_path):
    said = run(tmp_path, "-n", "1", source=ENDLESS)
    assert "crashed while running 'tests/test_breaches.py::test_takes_too_long_and_never_ends'" in said
    assert "PASSED tests/test_breaches.py::test_is_run_all_the_same" in said
