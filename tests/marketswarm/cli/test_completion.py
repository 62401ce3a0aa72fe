"""What a shell suggests: services and channels of the truth here or of the fleet; and never a traceback."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.cli import completion
from marketswarm.cli.app import app

TRUTH = {
    "services": {
        "rss_agg": {},
        "rss_two": {},
        "mesh": {},
        "notifier": {"settings": {"channels": {"slack": {}, "mail": {}}}},
    }
}


def describe_typed(words):
    """The environment in which a bash shell asks for the last of some words."""
    return {
        "COMP_WORDS": f"marketswarm {words}",
        "COMP_CWORD": str(len(words.split(" "))),
        "_MARKETSWARM_COMPLETE": "complete_bash",
    }


def suggested(shell, words):
    """What a bash shell is given for the last of some words."""
    ended = subprocess.run(
        [Path(sys.executable).with_name("marketswarm")],
        cwd=shell.folder,
        env={**shell.env, **describe_typed(words)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.live
def test_a_shell_gets_names_in_the_truth_here(shell):
    shell.write(TRUTH)
    assert suggested(shell, "notify test ") == ["slack", "mail"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("stop rss", ["rss_agg", "rss_two"]),
        ("history m", ["mesh"]),
        ("logs mesh rss_t", ["rss_two"]),
        ("silence no", ["notifier"]),
        ("exec --svc m", ["mesh"]),
        ("notify test ", ["slack", "mail"]),
        ("notify test s", ["slack"]),
        ("truth ro", ["rollback"]),
    ],
)
def test_each_command_suggests_what_its_argument_may_be(tmp_path, monkeypatch, capsys, words, names):
    path = tmp_path / "truth.json"
    path.write_bytes(orjson.dumps(TRUTH))
    monkeypatch.setenv("TRUTH_PATH", str(path))
    for name, value in describe_typed(words).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        app(prog_name="marketswarm")
    assert capsys.readouterr().out.split() == names


@pytest.mark.live
def test_without_a_file_the_buses_are_asked(shell, buses):
    shell.write(TRUTH)
    assert shell("seed").returncode == 0
    (shell.folder / "truth.json").unlink()
    assert suggested(shell, "stop rss") == ["rss_agg", "rss_two"]
    for bus in buses:
        bus.stop()
    assert suggested(shell, "stop rss") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"services": []}',
        '{"services": {"notifier": []}}',
        '{"services": {"\\u001b": {}}}',
    ],
)
def test_a_file_that_is_no_truth_suggests_nothing(tmp_path, monkeypatch, text):
    path = tmp_path / "truth.json"
    path.write_text(text)
    monkeypatch.setenv("TRUTH_PATH", str(path))
    monkeypatch.setattr(completion, "_read_buses", lambda _: None)
    context = SimpleNamespace(params={})
    assert completion.complete_channel(context, "") == []
    assert [name for name in completion.complete_service(context, "") if name != "notifier"] == []
