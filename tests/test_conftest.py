"""Shows each rule of conftest.py a test that breaks it, in three runs of pytest."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from support.order import add_failures, arrange
from support.rig.process import alive
from support.waiting import until

HERE = Path(__file__).parent
NEEDED = (
    "conftest.py",
    "support/__init__.py",
    "support/kinds.py",
    "support/leftovers.py",
    "support/order.py",
    "support/report.py",
    "support/watchdog.py",
)
BREACHES = """
import os, signal, subprocess, sys, pytest

@pytest.mark.needs("no-such-program")
def test_needs_what_is_not_there(): ...

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

@pytest.mark.parametrize("word", ["a b"])
def test_fails(word): assert word == "why"

def test_keeps_to_the_rules(monkeypatch, tmp_path):
    monkeypatch.setenv("PUT", "back")
    monkeypatch.chdir(tmp_path)
    subprocess.run(["true"])

@pytest.mark.nightly("test_keeps_to_the_rules")
def test_is_a_variant(): raise AssertionError("left to the night")

ASKS = "import signal as s; print(s.getsignal(s.SIGINT), s.getsignal(s.SIGHUP) is s.SIG_DFL)"

@pytest.mark.live
def test_a_child_has_its_signals():
    said = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True).stdout
    assert "default_int_handler" in said and "True" in said
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
@pytest.mark.needs("no-such-program")
def test_needs_what_is_not_there(): ...
def test_skips_by_itself(): pytest.skip("not today")
"""
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


def run(folder: Path, source: str, *arguments: str, ci: bool = False, **how: Any) -> str:
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
        timeout=60,
        check=False,
        **how,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


def test_each_rule_that_is_broken_shows_and_what_is_left_behind_is_ended(tmp_path):
    def as_nohup() -> None:  # a shell has SIGINT ignored for what runs in its background, and nohup SIGHUP
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    said = run(tmp_path, BREACHES, "-n", "1", preexec_fn=as_nohup)
    assert "changed and did not put back: os.environ" in said
    assert "changed and did not put back: handler of SIGTERM" in said
    assert "PASSED tests/test_breaches.py::test_keeps_to_the_rules" in said
    assert "PASSED tests/test_breaches.py::test_a_child_has_its_signals" in said
    assert "needs no-such-program on PATH" in said
    assert "1 skipped" in said
    assert "left to the night" not in said
    assert "alone: .venv/bin/python -m pytest -n 0 'tests/test_breaches.py::test_fails[a b]'" in said
    orphan = int((tmp_path / "orphan").read_text(encoding="ascii"))
    assert f"{orphan} sleep 291" in said
    until(lambda: not alive(orphan), what="the orphan to end")  # it was sent SIGKILL, and that is all
    if Path("/proc").exists():
        assert "sleep 291 <- tests/test_breaches.py::test_leaves_an_orphan" in said
        detached = re.search(r"^(\d+) sleep 292 <- .*test_leaves_one_that_knows", said, re.MULTILINE)
        assert detached
        until(lambda: not alive(int(detached[1])), what="the other to end")


def test_a_unit_test_starts_nothing_and_opens_nothing_and_in_ci_every_skip_is_a_failure(tmp_path):
    said = run(tmp_path, KINDS, "-p", "no:xdist", "-m", "unit", ci=True)
    passed = re.findall(r"^PASSED \S+::(\w+)", said, re.MULTILINE)
    failed = set(re.findall(r"^FAILED \S+::(\w+)", said, re.MULTILINE))
    skipped = {"test_needs_what_is_not_there", "test_skips_by_itself"}
    assert sorted(passed) == ["test_a_loop_of_its_own", "test_pure"]
    assert failed == {"test_hides_it", "test_hides_it_and_hides_the_error", *skipped}
    assert "If it must, mark it: @pytest.mark.live" in said
    assert "needs no-such-program on PATH (MARKETSWARM_CI=1" in said
    assert "not today (MARKETSWARM_CI=1" in said
    assert "3 failed, 2 passed, 4 deselected, 1 error" in said.splitlines()[-1]


def test_fixtures_that_never_end_are_a_failure_that_names_their_test(tmp_path):
    said = run(tmp_path, ENDLESS, "-n", "1")
    assert "crashed while running 'tests/test_breaches.py::test_takes_too_long_and_never_ends'" in said
    assert "PASSED tests/test_breaches.py::test_is_run_all_the_same" in said


class Item(NamedTuple):
    nodeid: str
    path: Path


def test_what_failed_before_and_what_is_slow_stands_at_the_head_of_each_workers_part():
    items: list[Any] = [Item(f"a.py::{number}", Path("a.py")) for number in range(7)]
    items.append(Item("slow.py::7", Path("slow.py")))
    failures = add_failures({"a.py::5": 1}, ["a.py::5", "a.py::6"])
    arranged = arrange(items, failures, ("slow.py",), workers=2)
    # the first four go to one worker, the others to the second
    assert [int(item.nodeid[-1]) for item in arranged] == [5, 7, 0, 1, 6, 2, 3, 4]
    assert arrange(items, {}, (), workers=3) == items


def test_what_waits_is_begun_in_every_second_part_file_by_file():
    paths = ["a/a.py"] * 4 + ["live/b.py"] * 2 + ["live/c.py"] * 2 + ["z/z.py"] * 4
    items: list[Any] = [Item(str(number), Path(path)) for number, path in enumerate(paths)]
    arranged = [int(item.nodeid) for item in arrange(items, {}, (), workers=3)]
    assert arranged == [4, 5, 0, 1, 2, 3, 8, 9, 6, 7, 10, 11]
