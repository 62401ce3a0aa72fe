"""The Makefile with stand-ins for the programs that it calls: what they are given, and what comes back."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CPUS = os.sysconf("SC_NPROCESSORS_ONLN")
STAND_IN = """#!/bin/sh
echo "$(basename "$0") $*"
echo "url=$SYSTEM_REDIS_URL"
exit ${CODE:-0}
"""
pytestmark = pytest.mark.needs("make")


@pytest.fixture
def project(tmp_path):
    """A folder with a blank in its name, an environment that is made, and stand-ins in it."""
    root = tmp_path / "a project"
    (root / "tools").mkdir(parents=True)
    (root / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    shutil.copy(ROOT / "tools" / "fleet.sh", root / "tools")
    (root / "tools" / "environment.sh").write_text('echo "PYTHON=$PYTHON" >asked\n', encoding="utf-8")
    for name in ("marketswarm", "python", "ruff", "mypy"):
        (root / ".venv" / "bin" / name).write_text(STAND_IN, encoding="utf-8")
        (root / ".venv" / "bin" / name).chmod(0o755)
    (root / ".venv" / "made-of").touch()
    return root


def make(root: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    ours = (
        "MAKE",
        "MFLAGS",
        "ARGS",
        "SVC",
        "TIMES",
        "PYTHON",
    )  # what a make around these tests leaves in the environment
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return subprocess.run(
        ["make", *words],
        cwd=root,
        env={**clean, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["run"], "marketswarm up"),
        (["run", "ARGS=--port 7379 --only a,b"], "marketswarm up --port 7379 --only a,b"),
        (["status", "ARGS=--watch"], "marketswarm status --watch"),
        (["simulate", "SVC=rss_agg"], "marketswarm simulate rss_agg"),
        (["bench", "ARGS=heard"], "python -m bench heard"),
        (["benchcheck", "ARGS=heard"], "python -m bench --check heard"),
        (["faults", "ARGS=-x"], f"python -m pytest -n {4 * CPUS} --dist worksteal -q tests/faults -x"),
        (["test", "ARGS=-k 'a or b'"], "python -m pytest -n auto --dist worksteal --apart -k a or b"),
        (
            ["unit", "ARGS=-x"],
            (
                f"python -m pytest -q -n {CPUS} --dist worksteal --apart -m unit and not slow "
                "--ignore=tests/live -x"
            ),
        ),
        (["containertest", "ARGS=-x"], "python -m pytest -n 2 --dist loadscope tests/compose -x"),
        (
            ["markettest", "ARGS=-x"],
            f"python -m pytest -n {3 * CPUS} --dist worksteal tests/market tests/archive -x",
        ),
        (["servertest", "ARGS=-x"], "python -m pytest -n auto --dist worksteal tests/servers -x"),
        (
            ["deploytest", "ARGS=-x"],
            f"python -m pytest -n {CPUS} --dist worksteal tests/deploy tests/systemd -x",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_reach_the_program(project, words, called):
    assert make(project, *words).stdout.splitlines()[0].rstrip() == called


def test_the_environment_reaches_the_program_both_ways(project):
    assert "url=redis://h:1\n" in make(project, "run", SYSTEM_REDIS_URL="redis://h:1").stdout
    assert "url=redis://h:2\n" in make(project, "run", "SYSTEM_REDIS_URL=redis://h:2").stdout


def test_the_python_that_was_asked_for_reaches_the_maker(project):
    make(project, "run", "PYTHON=/a b/python3")
    assert (project / "asked").read_text(encoding="utf-8") == "PYTHON=/a b/python3\n"


def test_a_failure_is_a_failure_of_make(project):
    assert make(project, "validate", CODE="2").returncode == 2
    assert make(project, "lint", CODE="1").returncode == 2


def test_the_faults_run_as_often_as_asked_and_end_with_the_first_red_round(project):
    said = make(project, "faults", "TIMES=3")
    assert said.stdout.count("python -m pytest") == 3
    assert "round 3 of 3 is green" in said.stdout
    red = make(project, "faults", "TIMES=3", CODE="1")
    assert red.returncode == 2
    assert red.stdout.count("python -m pytest") == 1
    assert "green" not in red.stdout


def test_make_alone_lists_everything_and_makes_nothing(project):
    said = make(project)
    assert said.returncode == 0
    assert {"run", "test", "lint", "simulate", "help"} <= {
        line.split()[1] for line in said.stdout.splitlines()
    }
    assert not (project / "asked").exists()


def test_a_simulation_of_nothing_says_what_is_missing(project):
    said = make(project, "simulate")
    assert said.returncode == 2
    assert "SVC=rss_agg" in said.stderr
    assert "marketswarm" not in said.stdout


def test_clean_leaves_the_fleets_data(project):
    (project / ".marketswarm").mkdir()
    (project / "healer" / "__pycache__").mkdir(parents=True)
    assert make(project, "clean").returncode == 0
    assert (project / ".marketswarm").exists()
    assert not (project / ".venv").exists()
    assert not (project / "healer" / "__pycache__").exists()
