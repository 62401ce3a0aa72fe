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

pytestmark = pytest.mark.timeout(300)  # each run starts workers, which import all that the tests import
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
import os, signal, subprocess, pytest

@pytest.mark.needs("no-such-program")
def test_needs_what_is_not_there(): ...

@pytest.mark.nightly("the others")
def test_of_the_night(): ...

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


def run(folder: Path, *arguments: str, ci: bool = False, source: str = BREACHES, **how: Any) -> str:
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
        timeout=280,
        check=False,
        **how,
    )
    assert done.returncode == 1, done.stdout
    return done.stdout


def test_what_a_test_leaves_behind_or_skips_in_ci_is_a_failure_that_names_it(tmp_path):
    said = run(tmp_path, "-n", "1", ci=True)
    assert "changed and did not put back: os.environ" in said
    assert "changed and did not put back: handler of SIGTERM" in said
    assert "needs no-such-program on PATH (MARKETSWARM_CI=1" in said
    assert "not today (MARKETSWARM_CI=1" in said
    assert "skipped" not in said.splitlines()[-1]
    assert "PASSED tests/test_breaches.py::test_keeps_to_the_rules" in said
    assert "test_of_the_night" not in said
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


UNEVEN = """
import signal, subprocess, sys, threading, time, pytest

ASKS = "import signal as s; print(s.getsignal(s.SIGINT), s.getsignal(s.SIGHUP) is s.SIG_DFL)"

@pytest.mark.live
def test_a_child_has_its_signals():
    said = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True).stdout
    assert "default_int_handler" in said and "True" in said

@pytest.mark.needs("no-such-program")
def test_needs_what_is_not_there(): ...

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


def test_a_run_in_the_background_outlives_a_test_that_never_ends_and_names_it(tmp_path):
    """A shell has SIGINT ignored for what runs in its background, and nohup SIGHUP; children inherit that."""

    def as_nohup() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    said = run(tmp_path, "-n", "1", source=UNEVEN, preexec_fn=as_nohup)
    assert "PASSED tests/test_breaches.py::test_a_child_has_its_signals" in said
    assert "needs no-such-program on PATH" in said
    assert "1 skipped" in said
    assert "crashed while running 'tests/test_breaches.py::test_takes_too_long_and_never_ends'" in said
    assert "PASSED tests/test_breaches.py::test_is_run_all_the_same" in said
