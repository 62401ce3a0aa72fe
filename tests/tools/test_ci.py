""".ci/run with stand-ins for make and docker: which parts run, what is skipped, and how it ends."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = """#!/bin/sh
echo "make $*" >>"$CALLS"
case "$1" in
    "$RED") echo "1 failed, 2 passed in 1.00s"; exit 2 ;;
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
PARTS = [
    "test",
    "faults",
    "servertest",
    "boardtest",
    "markettest",
    "deploytest",
    "containertest",
    "imagetest",
]
pytestmark = pytest.mark.needs("bash")


@pytest.fixture
def checkout(tmp_path):
    """A checkout that has a folder to itself, with what the script calls."""
    root = tmp_path / "alone" / "main"
    for name in (".ci", "tools", ".venv/bin"):
        (root / name).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", root / ".ci")
    shutil.copy(ROOT / "tools" / "summary.py", root / "tools")
    (root / ".venv/bin/python").symlink_to(sys.executable)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"make": MAKE, "docker": DOCKER, "id": "#!/bin/sh\necho 1000\n"}.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    return root


def run(root: Path, **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    calls = root.parent / "calls"
    path = f"{root.parents[1] / 'bin'}:{os.environ['PATH']}"
    environ = {"PATH": path, "CALLS": str(calls), "RED": "none", "BROKEN": "none", **env}
    ended = subprocess.run(
        ["bash", root / ".ci/run"],
        env=environ,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    made = [
        line.split()[1]
        for line in calls.read_text(encoding="utf-8").splitlines()
        if "--collect-only" not in line
    ]
    assert made[0] == "environment"
    assert set(made[1:3]) == {"lint", "audit"}, "both at once, before the parts"
    assert made[3] == "test"
    assert set(made[4:6]) == {"faults", "servertest"}, "both at once"
    return ended, [made[3], *sorted(made[4:6]), *made[6:]]


def test_every_part_runs_and_the_last_line_is_the_summary_of_all(checkout):
    ended, made = run(checkout, DOCKER_HOST="unix:///there")
    assert made == PARTS
    assert ended.stdout.splitlines()[-1].strip("=") == " 24 passed in 16.00s (0:00:16) "
    assert ended.returncode == 0, ended.stderr


def test_alone_and_without_an_engine_it_skips_the_containers_and_says_so(checkout):
    ended, made = run(checkout)
    assert made == PARTS[:6]
    assert "SKIPPED: make containertest and make imagetest" in ended.stdout
    assert ended.stdout.splitlines()[-1].strip("=") == " 18 passed in 12.00s (0:00:12) "
    assert ended.returncode == 0, ended.stderr


def test_an_engine_beside_the_checkout_is_started_and_ended(checkout):
    engine = checkout.parent / "shared" / "tools" / "engine.sh"
    engine.parent.mkdir(parents=True)
    engine.write_text(ENGINE, encoding="utf-8")
    ended, made = run(checkout)
    assert made[-2:] == ["containertest", "imagetest"]
    assert ended.returncode == 0, ended.stderr
    assert not Path(f"{engine}.up").exists()


@pytest.mark.parametrize("part", [*PARTS, "lint", "audit"])
def test_one_red_part_is_red_and_named_and_the_others_run(checkout, part):
    ended, made = run(checkout, DOCKER_HOST="unix:///there", RED=part)
    assert made == PARTS
    assert f"== red: make {part}" in ended.stdout
    assert ended.returncode == 1
    assert [line[8:] for line in ended.stdout.splitlines() if line.startswith("== make ")][2:] == PARTS
    assert ("1 failed" in ended.stdout.splitlines()[-1]) is (part in PARTS)


def test_a_part_that_did_not_come_to_its_end_is_an_error(checkout):
    ended, _ = run(checkout, DOCKER_HOST="unix:///there", BROKEN="faults")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].strip("=") == " 21 passed, 1 error in 14.00s (0:00:14) "
