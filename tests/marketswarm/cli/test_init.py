"""`marketswarm init` writes a truth that is valid, explains it, and never touches one that is there."""

import pytest
from typer.testing import CliRunner

from marketswarm.cli.app import app
from marketswarm.exit import Exit
from marketswarm.truth import parse_truth


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> str:
    ended = CliRunner().invoke(app, list(words))
    if isinstance(ended.exception, Exit):
        raise ended.exception
    assert ended.exit_code == 0, ended.output
    return ended.output


def test_it_writes_a_truth_without_a_warning_and_explains_each_key(folder):
    said = run("init")
    loaded = parse_truth((folder / "truth.json").read_bytes())
    assert loaded.warnings == ()
    assert list(loaded.truth.services) == ["healer", "sentinel", "notifier"]
    for svc in loaded.truth.services:
        assert f"services.{svc}" in said
    assert "heartbeat_cadence" in said
    assert "1 warning" not in run("validate")


def test_the_section_that_it_shows_fits_in(folder):
    snippet = next(line for line in run("init").splitlines() if '"my_svc"' in line)
    text = (folder / "truth.json").read_text(encoding="utf-8")
    (folder / "truth.json").write_text(text.replace('"services": {', f'"services": {{{snippet},', 1))
    truth = parse_truth((folder / "truth.json").read_bytes()).truth
    assert truth.services["my_svc"].heartbeat.interval_sec == 10


@pytest.mark.parametrize("there", ["file", "link"])
def test_what_is_there_is_never_touched(folder, there):
    if there == "file":
        (folder / "truth.json").write_bytes(b"mine")
    else:
        (folder / "truth.json").symlink_to("nowhere")
    with pytest.raises(Exit) as end:
        run("init")
    assert end.value.code == 2
    assert "is there already" in end.value.message
    assert [path.name for path in folder.iterdir()] == ["truth.json"]
    assert there == "link" or (folder / "truth.json").read_bytes() == b"mine"


def test_another_name_is_in_all_that_is_to_be_typed(folder):
    said = run("init", "--truth", "other.json")
    assert parse_truth((folder / "other.json").read_bytes())
    assert "marketswarm up --truth other.json" in said
    assert "marketswarm validate other.json" in said


def test_a_folder_that_cannot_be_written_to_is_named(folder):
    with pytest.raises(Exit) as end:
        run("init", "--truth", "missing/truth.json")
    assert "missing/truth.json: No such file or directory; nothing was written" in end.value.message


def test_up_in_an_empty_folder_says_how_to_get_a_truth(folder):
    with pytest.raises(Exit) as end:
        run("up")
    assert end.value.code == 2
    assert f"there is no truth.json in {folder}" in end.value.message
    for command in ("marketswarm new prices", "marketswarm init", "--truth FILE"):
        assert command in end.value.message
    assert list(folder.iterdir()) == []
