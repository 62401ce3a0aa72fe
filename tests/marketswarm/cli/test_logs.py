"""`marketswarm logs`: the last lines in the order of their times, and new ones as they come."""

import signal

import orjson
import pytest
from typer.testing import CliRunner

from marketswarm.cli.app import app
from marketswarm.exit import Exit
from marketswarm.fleet.agent_logs import LogFiles
from support.waiting import PATIENT_SEC


def record(second: int, event: str = "a.b", **more) -> bytes:
    return orjson.dumps({"ts": f"2025-11-06T12:50:{second:02}.000Z", "level": "info", "event": event, **more})


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    files = LogFiles(tmp_path / ".marketswarm", lambda _: None)
    yield files
    files.close()


def run(*words: str) -> str:
    ended = CliRunner().invoke(app, ["logs", *words])
    if isinstance(ended.exception, Exit):
        raise ended.exception
    return ended.output


def test_lines_of_several_agents_are_in_the_order_of_their_times(files):
    files.append("healer", record(1, "healer.started"))
    files.append("healer", record(5, "service.down", svc="mesh"))
    files.append("mesh", record(3, "mesh.stopping"))
    assert [line.split() for line in run().splitlines()] == [
        ["2025-11-06", "12:50:01", "healer", "healer.started"],
        ["2025-11-06", "12:50:03", "mesh", "mesh.stopping"],
        ["2025-11-06", "12:50:05", "healer", "service.down", "svc=mesh"],
    ]


def test_what_is_no_log_line_is_shown_as_it_is_and_keeps_its_place(files):
    files.append("mesh", record(1, "mesh.started"))
    files.append("mesh", record(2, "program.output", line="Traceback: \x1b[2J"))
    files.append("mesh", b"half a li")
    files.append("healer", record(4, "healer.started"))
    shown = run().splitlines()
    assert shown[1].endswith("mesh   Traceback: \\x1b[2J")
    assert shown[2].endswith("half a li")
    assert "healer.started" in shown[3]


def test_of_each_process_the_last_lines_are_shown(files):
    for number in range(60):
        files.append("mesh", record(number, f"mesh.n{number}"))
    files.append("healer", record(0, "healer.started"))
    assert len(run("mesh").splitlines()) == 50
    shown = run("--lines", "2").splitlines()
    assert [line.split()[3] for line in shown] == ["healer.started", "mesh.n58", "mesh.n59"]


def test_the_name_of_a_service_means_all_its_processes(files):
    for name in ("rss_agg", "rss_agg/2", "rss_agg2"):
        files.append(name, record(1, name))
    shown = [line.split()[2] for line in run("rss_agg").splitlines()]
    assert shown == ["rss_agg", "rss_agg/2"]
    assert run("rss_agg/2").split()[2] == "rss_agg/2"
    assert run("rss_agg/1").split()[2:3] == ["rss_agg"]
    assert len(run("rss_agg/1").splitlines()) == 1


def test_for_programs_the_lines_are_as_they_were_written(files):
    files.append("mesh", record(1, "mesh.started", n=1))
    assert orjson.loads(run("--json")) == orjson.loads(record(1, "mesh.started", n=1))


def test_an_unknown_service_is_refused_with_the_nearest(files, tmp_path):
    files.append("mesh", record(1))
    with pytest.raises(Exit) as end:
        run("mash")
    assert end.value.code == 2
    assert "did you mean mesh?" in end.value.message
    assert str(tmp_path / ".marketswarm/logs") in end.value.message


def test_without_logs_it_says_where_it_looked_and_what_writes_them(tmp_path):
    with pytest.raises(Exit) as end:
        run("--data", str(tmp_path / "other"))
    assert end.value.code == 2
    assert str(tmp_path / "other/logs") in end.value.message
    assert "`marketswarm up` writes them" in end.value.message


@pytest.mark.live
def test_it_follows_until_ctrl_c_across_a_rotation_and_shows_who_starts_later(shell):
    files = LogFiles(shell.folder / ".marketswarm", lambda _: None, max_bytes=300)
    files.append("mesh", record(1, "mesh.started"))
    with shell.start("logs", "--follow", "--json") as logs:
        assert orjson.loads(logs.stdout.readline())["event"] == "mesh.started"
        for number in range(6):  # three or four fit into a file, and three files are kept
            files.append("mesh", record(number, f"mesh.n{number}"))
        assert [orjson.loads(logs.stdout.readline())["event"] for _ in range(6)] == [
            f"mesh.n{number}" for number in range(6)
        ]
        files.append("late", record(9, "late.started"))
        assert orjson.loads(logs.stdout.readline())["event"] == "late.started"
        logs.send_signal(signal.SIGINT)
        assert logs.wait(PATIENT_SEC) == 130
        assert logs.stderr.read() == ""
    files.close()
