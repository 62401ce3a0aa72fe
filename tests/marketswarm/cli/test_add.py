"""`marketswarm add`, `edit`, `pause`, `resume` and `remove`, on a truth file and on two servers."""

import io
import json
import shlex
import subprocess
import sys
from unittest.mock import patch

import orjson
import pytest

from marketswarm.cli import truth_change
from marketswarm.cli.validate import load_document
from marketswarm.keys import BOARD_PING_KEYS
from marketswarm.operator.ping_lines import make_ping_lines
from marketswarm.truth.document_edit import AddedKind

TEXT = '{\n  "services": {\n    "healer": {},   "board":{},\n    "mesh": {}\n  }\n}\n'
JOB = ("add", "job", "backup", "--schedule", "0 3 * * *", "--by", "kim")
live = pytest.mark.live


@pytest.fixture
def written(shell):
    """A truth file as a person wrote it, and no bus."""
    shell.write(TEXT.encode())
    shell.env |= {"SYSTEM_REDIS_URL": "redis://127.0.0.1:1", "MARKET_REDIS_URL": "redis://127.0.0.1:1"}
    return shell


@pytest.fixture
def fleet(shell, buses):
    shell.write(TEXT.encode())
    shell.said("seed")
    return buses


def read(shell) -> str:
    return (shell.folder / "truth.json").read_text("utf-8")


def test_without_a_bus_the_file_alone_is_changed_and_the_one_before_is_kept(written):
    said = written.said(*JOB, "--yes")
    assert "truth.json is written; no bus answers, so seed it later: `marketswarm seed truth.json`" in said
    assert "next 03:00 UTC" in said
    assert read(written).startswith(TEXT[: TEXT.index('"mesh": {}')])
    assert json.loads(read(written))["services"]["backup"] == {"heartbeat": {"schedule": "0 3 * * *"}}
    assert (written.folder / "truth.json.bak").read_text("utf-8") == TEXT
    assert sorted(path.name for path in written.folder.iterdir()) == ["truth.json", "truth.json.bak"]


@pytest.mark.parametrize(
    "words",
    [
        ("add", "job", "backup", "--schedule", "0 3 * *", "--yes"),
        ("add", "job", "b p", "--every", "1d", "--yes"),
        ("add", "page", "shop", "shop.example", "--yes"),
        ("add", "daemon", "worker", "--depends-on", "nobody", "--yes"),
        ("add", "daemon", "worker", "--severity", "high", "--yes"),
        ("edit", "mesh", "--every", "1h", "--yes"),
    ],
)
def test_what_validate_refuses_is_refused_in_its_words_and_nothing_is_changed(written, words):
    tried = []

    def record(raw, name):
        tried.append(raw)
        return load_document(raw, name)

    with patch.object(truth_change, "load_document", record):
        refused = written(*words)
    assert (refused.returncode, refused.stdout, read(written)) == (2, "", TEXT)
    assert refused.stderr.startswith("marketswarm: nothing changed: truth.json: 1 problem\n")
    written.write(tried[0])
    by_validate = written("validate").stderr
    assert by_validate.splitlines()[1:] == refused.stderr.splitlines()[1:]


@pytest.mark.parametrize("words", [("add", "job", "backup"), ("pause", "nobody"), ("remove", "mash")])
def test_what_makes_no_sense_is_refused_and_nothing_is_changed(written, words):
    refused = written(*words, "--yes")
    assert (refused.returncode, read(written)) == (2, TEXT)
    assert refused.stderr.startswith("marketswarm: nothing changed: ")


def test_nobody_is_asked_without_a_terminal(written):
    refused = written(*JOB)
    assert (refused.returncode, read(written)) == (2, TEXT)
    assert "no terminal; pass --yes to confirm" in refused.stderr


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("y\n", 0)])
def test_a_person_at_a_terminal_is_asked_after_the_preview(written, answer, code):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with patch.object(sys, "stdin", Terminal(answer)):
        done = written(*JOB)
    assert (done.returncode, read(written) == TEXT) == (code, code == 1)
    assert '"backup": {' in done.stdout
    assert "Change truth.json, and seed it? [y/N]" in done.stdout + done.stderr


@live
def test_a_job_is_seeded_and_gets_a_key_and_lines_to_paste(shell, fleet):
    said = orjson.loads(shell.said(*JOB, "--yes", "--json", BOARD_PORT="1"))
    assert (said["name"], said["kind"], said["seeded"], said["first_sign"]) == ("backup", "job", True, None)
    assert said["said"] == ["truth.json is revision 2 on system-redis and market-redis", "  + backup"]
    assert set(said["lines"]) == {"curl", "cron", "systemd", "Docker", "Python", "PowerShell"}
    assert said["ping_url"].startswith("http://127.0.0.1:1/ping/")
    keys = fleet[0].cmd("HGETALL", BOARD_PING_KEYS)
    keys.pop("version")
    (key,) = map(orjson.loads, keys.values())
    assert (key["svc"], key["author"]) == ("backup", "kim")
    assert fleet[1].cmd("GET", "truth:doc") == read(shell)


@live
def test_a_first_sign_of_life_is_said_and_one_of_before_is_none(shell, fleet):
    fleet[0].cmd("SET", "beat:backup", '{"svc":"backup","ts":1,"i":1}')
    late = shell(*JOB, "--yes", "--wait", "1s", BOARD_PORT="1")
    assert late.returncode == 1
    assert "no sign of life of backup yet" in late.stderr
    with shell.start("add", "daemon", "worker", "--yes", "--wait", "30s") as command:
        for line in command.stdout:
            if line.startswith("waiting for the first sign of life of worker"):
                break
        fleet[0].cmd(
            "SET", "beat:worker", '{"svc":"worker","ts":1,"i":1,"run":"failed","detail":"disk full"}'
        )
        assert "✗ first sign of life of worker, and it says: disk full" in command.stdout.readline()
        assert command.wait(10) == 0


@live
def test_without_a_board_there_is_a_line_for_this_machine_and_no_key(shell, buses):
    shell.said("seed")
    said = shell.said(*JOB, "--yes")
    assert "marketswarm exec --svc backup -- /usr/local/bin/backup" in said
    assert "the truth has no board, which takes pings over HTTP" in said
    assert buses[0].cmd("EXISTS", BOARD_PING_KEYS) == 0


@live
@pytest.mark.parametrize("words", [(), ("--data", "my fleet")])
def test_that_line_finds_the_fleet_from_any_folder(shell, buses, words):
    folder = shell.folder / (words[1] if words else ".marketswarm")
    folder.mkdir(mode=0o700)
    shell.said("seed")
    option = f"--data {shlex.quote(str(folder))}"
    said = shell.said(*JOB, "--yes", *words)
    assert f"marketswarm exec --svc backup {option} -- /usr/local/bin/backup\n" in said
    said = shell.said("add", "daemon", "worker", "--yes", "--no-wait", *words)
    assert f"marketswarm beat worker {option}\n" in said


@live
def test_a_file_that_is_not_in_force_undoes_nobodys_change(shell, fleet):
    other = json.loads(TEXT)
    other["services"]["theirs"] = {}
    shell.write(other)
    shell.said("seed")
    shell.write(TEXT.encode())
    refused = shell(*JOB, "--yes")
    assert (refused.returncode, read(shell)) == (2, TEXT)
    assert (
        "truth.json is not the truth in force, revision 2, it would also change:\n  - theirs"
        in refused.stderr
    )
    assert "theirs" in fleet[0].cmd("GET", "truth:doc")
    take_over = "`marketswarm truth show > truth.json` takes over"
    assert take_over in refused.stderr
    unknown = shell("remove", "theirs", "--yes")
    assert unknown.stderr.startswith("marketswarm: nothing changed: the truth names no theirs")
    assert take_over in unknown.stderr, "the truth in force has it, and the file has not"
    (shell.folder / "truth.json").write_text(shell.said("truth", "show"), encoding="utf-8")
    shell.said(*JOB, "--yes")
    assert {"theirs", "backup"} <= json.loads(read(shell))["services"].keys()
    assert "takes over" not in shell("remove", "nobody", "--yes").stderr
    shell.said("remove", "theirs", "--yes")


@live
def test_a_file_that_was_changed_meanwhile_is_not_replaced(shell, fleet):
    changed = TEXT.replace("mesh", "mash")

    def answer(*_given, **_options):
        shell.write(changed.encode())

    with (
        patch.object(truth_change, "confirm_change", answer),
        patch("marketswarm.cli.edit.confirm_change", answer),
    ):
        refused = shell("pause", "mesh", "--yes")
    assert (refused.returncode, read(shell)) == (2, changed)
    assert "truth.json is not written: it was changed meanwhile" in refused.stderr
    assert fleet[0].cmd("GET", "truth:doc") == TEXT


@live
def test_a_service_is_edited_paused_resumed_and_removed(shell, fleet):
    shell.said(*JOB, "--yes", BOARD_PORT="1")
    assert "~ backup: heartbeat.grace_sec 3600 → 1800" in shell.said(
        "edit", "backup", "--grace", "30m", "--yes"
    )
    shell.said("edit", "backup", "--grace", "", "--yes")
    assert "grace_sec" not in fleet[0].cmd("GET", "truth:doc")
    shell.said("edit", "backup", "--grace", "30m", "--yes")
    assert "~ backup: heartbeat.monitored true → false" in shell.said("pause", "backup", "--yes")
    assert orjson.loads(shell.said("resume", "backup", "--yes", "--json"))["seeded"] is True
    assert "- backup" in shell.said("remove", "backup", "--yes")
    assert (read(shell), fleet[0].cmd("GET", "truth:doc")) == (TEXT, TEXT)


@pytest.mark.parametrize("certificate", ["", "/srv/tls/certificate.pem", "/srv/my fleet/certificate.pem"])
@pytest.mark.parametrize("kind", [AddedKind.JOB, AddedKind.DAEMON])
def test_each_line_has_the_address_and_those_for_a_shell_can_be_read_by_it(kind, certificate):
    lines = make_ping_lines(kind, "backup", "http://127.0.0.1:1/ping/KEY", "@daily", certificate)
    assert certificate == "" or all(certificate in text for text in lines.values())
    assert all("http://127.0.0.1:1/ping/KEY" in text for text in lines.values())
    shown = [lines["curl"], lines["cron"].replace("@daily", "").replace("* * * * *", "")]
    if kind is AddedKind.JOB:
        assert lines["cron"].startswith("@daily  ")
        shown.append(lines["Docker"])
        shown.append(lines["systemd"].partition("ExecStopPost=")[2])
    for text in shown:
        subprocess.run(["sh", "-nc", text], check=True)
        words = shlex.split(text)
        words = shlex.split(words[2]) if words[0] == "/bin/sh" else words
        assert certificate == "" or certificate in words
    compile(lines["Python"], "line", "exec")


def test_a_schedule_that_cron_does_not_know_is_not_put_into_a_crontab():
    lines = make_ping_lines(AddedKind.JOB, "backup", "http://x/", "Mon..Fri 18:30")
    assert lines["cron"].startswith("0 3 * * *  ")
