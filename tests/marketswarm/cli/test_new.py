"""`marketswarm new`: what it writes runs at once, in the tree and in an empty folder; nothing is damaged."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import yaml
from typer.testing import CliRunner

from marketswarm.cli.app import app
from marketswarm.exit import Exit
from marketswarm.truth import parse_truth
from support.rig import Proc, free_port
from support.rig.shell import Shell

ROOT = Path(__file__).parents[3]
FILES = {
    "services/prices/__init__.py",
    "services/prices/__main__.py",
    "services/prices/settings.py",
    "services/prices/loop.py",
    "tests/services/prices/test_prices.py",
    "truth.json",
}
pytestmark = pytest.mark.live


@pytest.fixture
def empty(shell):
    (shell.folder / "truth.json").unlink()
    return shell


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def done(shell: Shell, *line: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", *line],
        cwd=shell.folder,
        env=shell.env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_in_an_empty_folder_it_runs_at_once(empty):
    ended = empty("new", "prices")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert files(empty.folder) == FILES
    for name in FILES:
        assert name in ended.stdout
    hurry(empty.folder / "truth.json")
    with Proc("marketswarm", {}, empty.folder, "up", "--port", str(free_port())) as up:
        assert "prices" in up.wait_log("fleet.up", 60)["agents"]
        rows = orjson.loads(empty("status", "--json").stdout)["services"]
        assert {row["svc"]: row["verdict"] for row in rows} == dict.fromkeys(
            ("healer", "sentinel", "notifier", "prices"), "up"
        )
        assert up.stop(15) == 0


def hurry(path: Path) -> None:
    truth = orjson.loads(path.read_bytes())
    for svc, section in truth["services"].items():
        hurried = {"interval_sec": 0.4, "timeout_sec": 3 if svc == "prices" else 6}
        section["heartbeat"] = section.get("heartbeat", {}) | hurried
    path.write_bytes(orjson.dumps(truth))


@pytest.fixture
def in_the_tree(empty):
    """A folder with the tree's services and one more; the files that were written for that."""
    for name in ("truth.json", "pyproject.toml"):
        shutil.copy(ROOT / name, empty.folder)
    shutil.copytree(
        ROOT / "services", empty.folder / "services", ignore=shutil.ignore_patterns("__pycache__")
    )
    said = empty.said("new", "prices")
    paste(empty.folder / "truth.json", said)
    return [name for name in FILES if name.endswith(".py")]


@pytest.mark.timeout(900)  # mypy begins with nothing, and beside others
@pytest.mark.nightly("test_in_the_tree_it_is_in_good_style_and_its_own_test_is_green runs the same files")
@pytest.mark.usefixtures("in_the_tree")
def test_in_the_tree_its_types_are_right(empty):
    cache = str(empty.folder / "cache")
    done(empty, "mypy", "--strict", "--config-file=", "--cache-dir", cache, "services/prices")


def test_in_the_tree_it_is_in_good_style_and_its_own_test_is_green(empty, in_the_tree):
    done(empty, "ruff", "check", "--no-cache", *in_the_tree)
    done(empty, "ruff", "format", "--check", "--no-cache", *in_the_tree)
    test = "tests/services/prices"
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir", ".")
    assert "2 passed" in done(empty, "pytest", *options, test)


def paste(path: Path, said: str) -> None:
    """Put the printed section into the truth, as a person would."""
    text = path.read_text(encoding="utf-8")
    section = said.split('"services" of truth.json:')[1].split("\n\n")[1]
    path.write_text(text.replace('"services": {', '"services": {' + section + ",", 1), encoding="utf-8")


def test_a_truth_made_by_hand_is_left_alone_and_takes_the_section_that_is_printed(shell):
    shell.write(b'{ "services": {"a": {}, "healer": {}} }')
    said = shell.said("new", "prices")
    assert (shell.folder / "truth.json").read_bytes() == b'{ "services": {"a": {}, "healer": {}} }'
    paste(shell.folder / "truth.json", said)
    found = parse_truth((shell.folder / "truth.json").read_bytes())
    assert set(found.truth.services) == {"a", "healer", "prices"}
    assert found.truth.services["prices"].settings == {"every_sec": 5}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a b", "is not a name"),
        ("../up", "is not a name"),
        ("class", "Python package"),
        ("a.b", "Python package"),
        ("healer", "a program of its own"),
        ("rss_agg", "there is a services.rss_agg already"),
        ("rss-agg", "there is a services.rss_agg already"),
        ("taken", "taken has a section already"),
        ("there", "services/there/loop.py is there already: it is not touched"),
        ("clash", "clash:heartbeat"),
    ],
)
def test_what_is_taken_or_no_name_is_refused_and_nothing_is_written(shell, monkeypatch, name, said):
    shell.write({"services": {"taken": {}, "other": {"heartbeat": {"channel": "clash:heartbeat"}}}})
    (shell.folder / "services/there").mkdir(parents=True)
    (shell.folder / "services/there/loop.py").write_text("mine", encoding="utf-8")
    before = {path: (shell.folder / path).read_bytes() for path in files(shell.folder)}
    monkeypatch.chdir(shell.folder)
    ended = CliRunner().invoke(app, ["new", name])
    assert isinstance(ended.exception, SystemExit | Exit)
    assert ended.exception.code == 2
    assert said in plain(f"{ended.output} {ended.exception}")
    assert {path: (shell.folder / path).read_bytes() for path in files(shell.folder)} == before
    assert not (shell.folder / "services" / name.replace("-", "_") / "__init__.py").exists()


def plain(text: str) -> str:
    """Without the frame that options' mistakes are shown in."""
    return " ".join(text.replace("│", " ").split())


def test_a_truth_that_is_wrong_is_told_and_left_alone(shell):
    shell.write(b'{"services": {"a": {"heartbeat": {"interval_sec": -5}}}}')
    ended = shell("new", "prices")
    assert ended.returncode == 2
    assert "services.a.heartbeat.interval_sec: -5" in ended.stderr
    assert files(shell.folder) == {"truth.json"}


def test_where_timeouts_are_short_it_beats_often_enough(shell):
    (shell.folder / "truth.json").write_text(
        '{"services": {"healer": {"threshold": {"heartbeat_cadence": 6}}}}'
    )
    paste(shell.folder / "truth.json", shell.said("new", "prices"))
    found = parse_truth((shell.folder / "truth.json").read_bytes())
    assert found.truth.services["prices"].heartbeat.interval_sec == 2
    assert found.warnings == ()


def test_a_folder_in_the_way_takes_all_of_it_back(shell):
    (shell.folder / "tests").write_text("a file", encoding="utf-8")
    ended = shell("new", "prices")
    assert ended.returncode == 2
    assert "tests" in ended.stderr
    assert "nothing was written" in ended.stderr
    assert files(shell.folder) == {"truth.json", "tests"}
    assert not (shell.folder / "services").exists()


@pytest.mark.parametrize("text", ["services:\n  redis:\n    image: redis\n", "services: {}\n"])
def test_a_compose_file_is_left_alone_and_its_entry_is_printed(shell, text):
    (shell.folder / "compose.yaml").write_text(text, encoding="utf-8")
    said = shell.said("new", "prices")
    assert "put this into compose.yaml:" in said
    assert yaml.safe_load(said.split("put this into compose.yaml:")[1].split("\n\n")[1]) == {
        "prices": {
            "build": ".",
            "command": ["python", "-m", "services.prices"],
            "restart": "unless-stopped",
        }
    }
    assert (shell.folder / "compose.yaml").read_text(encoding="utf-8") == text


def test_a_strategy_is_written_with_its_test_which_is_green(empty):
    ended = empty("new", "strategy", "my_idea")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert files(empty.folder) == {"strategies/my_idea.py", "tests/strategies/test_my_idea.py"}
    done(empty, "ruff", "check", "--no-cache", "--isolated", "strategies", "tests")
    done(
        empty,
        "ruff",
        "format",
        "--check",
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
        "strategies",
    )
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-c", os.devnull, "--rootdir", ".")
    assert "2 passed" in done(empty, "pytest", *options, "tests/strategies")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("strategy",), "small letters, digits and _, such as my_idea"),
        (("strategy", "My-Idea"), "'My-Idea' is no name"),
        (("strategy", "../up"), "'../up' is no name"),
        (("strategy", "class"), "'class' is no name"),
        (("strategy", "mine"), "strategies/mine.py is there already: it is not touched"),
        (("prices", "mine"), "only `new strategy` has a second name"),
    ],
)
def test_a_strategy_that_is_there_or_has_no_name_is_refused(shell, monkeypatch, words, said):
    (shell.folder / "strategies").mkdir()
    (shell.folder / "strategies/mine.py").write_text("mine", encoding="utf-8")
    before = files(shell.folder)
    monkeypatch.chdir(shell.folder)
    ended = CliRunner().invoke(app, ["new", *words])
    assert isinstance(ended.exception, SystemExit | Exit)
    assert ended.exception.code == 2
    assert said in plain(f"{ended.output} {ended.exception}")
    assert files(shell.folder) == before
