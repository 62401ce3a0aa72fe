""".ci/run and .ci/nightly with stand-ins for make and docker: what runs, what is skipped, how they end."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = """#!/bin/sh
echo "make $*" >>"$CALLS"
case "$*" in
    "$ALONE_RED "*--last-failed*) echo "1 failed in 1.00s"; exit 2 ;;
    *--last-failed*) echo "1 passed in 1.00s"; exit ;;
esac
case "$1" in
    "$RED") echo "1 failed, 2 passed in 1.00s"; exit 2 ;;
    "$FLAKY") printf "%b" "$FAILURES"; echo "1 failed, 2 passed in 1.00s"; exit 2 ;;
    "$BROKEN") exit 2 ;;
    *) echo "3 passed in 2.00s" ;;
esac
"""
DOCKER = """#!/bin/sh
[ -n "$DOCKER_HOST" ]
"""
ENGINE = """
case "$1" in
    env) [ ! -e "$0.up" ] || echo export DOCKER_HOST=unix:///beside ;;
    up) touch "$0.up" ;;
    down) rm "$0.up" ;;
esac
"""
AT_ONCE = "FAILED tests/a/test_b.py::test_c[d e] (call)\\n"
FAILURE = "FAILED tests/a/test_b.py::test_c[d e] - Timeout\\n"
PARTS = ["test", "faults", "boardtest"]
CONTAINERS = "containertest"
pytestmark = pytest.mark.needs("bash")


@pytest.fixture
def checkout(tmp_path):
    """A checkout that has a folder to itself, with what the scripts call."""
    root = tmp_path / "alone" / "main"
    (root / "tools").mkdir(parents=True)
    (root / ".venv/bin").mkdir(parents=True)
    shutil.copytree(ROOT / ".ci", root / ".ci")
    shutil.copy(ROOT / "tools" / "summary.py", root / "tools")
    (root / ".venv/bin/python").symlink_to(sys.executable)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"make": MAKE, "docker": DOCKER, "id": "#!/bin/sh\necho 1000\n"}.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return root


def run(root: Path, script: str = "run", **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Return how a script of .ci ended, and the targets that it made, in order."""
    calls = root.parent / "calls"
    path = f"{root.parents[1] / 'bin'}:{os.environ['PATH']}"
    environ = {"PATH": path, "HOME": str(root.parent), "CALLS": str(calls)}
    environ |= dict.fromkeys(("RED", "BROKEN", "FLAKY", "ALONE_RED"), "none") | {
        "FAILURES": 3 * AT_ONCE + 3 * FAILURE
    }
    ended = subprocess.run(
        ["bash", root / ".ci" / script],
        env={**environ, **env},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = calls.read_text(encoding="utf-8").splitlines()
    return ended, [line.split()[1] for line in lines if "--collect-only" not in line]


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    return ended.stdout.splitlines()[-1].strip("= ")


def test_every_part_runs_and_the_end_has_the_seconds_of_each_and_the_summary_of_all(checkout):
    ended, made = run(checkout, DOCKER_HOST="unix:///there")
    assert set(made[:3]) == {"environment", "audit", "lint"}
    assert made[3:] == [*PARTS, CONTAINERS]
    for folder in ("market", "archive", "servers", "deploy", "systemd"):  # without a part of their own
        assert f"tests/{folder}" in (checkout.parent / "calls").read_text(encoding="utf-8")
    assert last_line(ended) == "12 passed in 8.00s (0:00:08)"
    (seconds,) = (line for line in ended.stdout.splitlines() if line.startswith("== seconds: "))
    for part in ("environment", "lint", "test", "live", "board", "containers", "all"):
        assert f"{part} " in seconds
    assert ended.returncode == 0, ended.stderr


def test_alone_and_without_an_engine_it_skips_the_containers_and_says_so(checkout):
    ended, made = run(checkout)
    assert made[3:] == PARTS
    assert "SKIPPED: make containertest" in ended.stdout
    assert last_line(ended) == "9 passed in 6.00s (0:00:06)"
    assert ended.returncode == 0, ended.stderr


def test_an_engine_beside_the_checkout_is_started_and_ended(checkout):
    engine = checkout.parent / "shared" / "tools" / "engine.sh"
    engine.parent.mkdir(parents=True)
    engine.write_text(ENGINE, encoding="utf-8")
    ended, made = run(checkout)
    assert made[-1] == CONTAINERS
    assert ended.returncode == 0, ended.stderr
    assert not Path(f"{engine}.up").exists()


@pytest.mark.parametrize("part", ["test", CONTAINERS, "lint", "audit"])
def test_one_red_part_is_red_and_named_and_the_others_run(checkout, part):
    ended, made = run(checkout, DOCKER_HOST="unix:///there", RED=part)
    assert made[3:] == [*PARTS, CONTAINERS]
    assert f"== red: make {part}" in ended.stdout
    assert ended.returncode == 1
    has_tests = part not in ("lint", "audit")
    assert (f"== RED: make {part}" in ended.stdout) is has_tests
    assert ("1 failed" in last_line(ended)) is has_tests


def test_what_fails_beside_others_and_passes_alone_is_named_and_refuses_nothing(checkout):
    ended, made = run(checkout, DOCKER_HOST="unix:///there", FLAKY="faults")
    assert made[3:] == ["test", "faults", "faults", "boardtest", CONTAINERS]
    calls = (checkout.parent / "calls").read_text(encoding="utf-8")
    # of the same tests as before
    assert "tests/systemd --last-failed --last-failed-no-failures=none -n 0\n" in calls
    assert f"passed alone: mend it\n{3 * FAILURE}".replace("\\n", "\n") in ended.stdout
    assert "== red" not in ended.stdout
    assert last_line(ended) == "12 passed, 1 rerun in 8.00s (0:00:08)"
    assert ended.returncode == 0, ended.stderr


def test_what_fails_alone_too_is_red(checkout):
    ended, _ = run(checkout, DOCKER_HOST="unix:///there", FLAKY="faults", ALONE_RED="faults")
    assert "== red: make faults" in ended.stdout
    assert "mend it" not in ended.stdout
    assert last_line(ended) == "1 failed, 11 passed in 7.00s (0:00:07)"
    assert ended.returncode == 1


@pytest.mark.parametrize(
    ("script", "failures"),
    [
        ("run", 4 * FAILURE),
        ("run", FAILURE + "left behind by tests (ended now)\\n"),
        ("run", "FAILED to start\\n"),
        ("nightly", FAILURE),
    ],
    ids=["many", "left behind", "no test is named", "in the night"],
)
def test_what_a_busy_moment_does_not_explain_is_red_at_once(checkout, script, failures):
    ended, made = run(checkout, script, DOCKER_HOST="unix:///there", FLAKY="test", FAILURES=failures)
    assert made.count("test") == 1
    assert "== red: make test" in ended.stdout
    assert ended.returncode == 1


def test_a_part_that_did_not_come_to_its_end_is_an_error(checkout):
    ended, _ = run(checkout, DOCKER_HOST="unix:///there", BROKEN="faults")
    assert ended.returncode == 1
    assert last_line(ended) == "9 passed, 1 error in 6.00s (0:00:06)"


def test_the_night_has_its_parts_too_and_one_long_proof_that_fails_makes_it_red(checkout):
    ended, made = run(checkout, "nightly", DOCKER_HOST="unix:///there", RED="soak")
    assert made[:6] == ["environment", "variants", "boardtest", "test", CONTAINERS, "imagetest"]
    assert sorted(made[6:9]) == ["breaks", "fuzz", "soak"]  # beside each other
    assert made[9:] == ["faultgym", "marketproof", "boardload", "benchcheck", "coverage"]
    assert "== red: make soak" in ended.stdout
    assert last_line(ended) == "15 passed in 10.00s (0:00:10)"
    assert ended.returncode == 1
