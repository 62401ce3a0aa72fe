"""`marketswarm exec`: the command is run as it would be without it, and its runs are told of."""

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import orjson
import pytest
import redis

from marketswarm.pings import JobPing, PingForm, PingKind, parse_pings
from support.rig import AlertTail, Server, forkserver
from support.rig.shell import SERVICES, Shell
from support.scenes.agent import seed
from support.waiting import PATIENT_SEC, fault_lasts, until

pytestmark = pytest.mark.live

HASTY = {"heartbeat": {"interval_sec": 0.2, "timeout_sec": 60}}

OURS = {"OF_OURS_PASSWORD": "kiwi-and-plum"}
PATCHED = """
from marketswarm.cli import beat, exec, main
{}
main()
"""


@pytest.fixture
def patched(shell, monkeypatch):
    """Run commands with a limit of the product changed."""
    run = forkserver.run

    def patch(assignment: str) -> None:
        (shell.folder / "patched.py").write_text(PATCHED.format(assignment), encoding="utf-8")
        monkeypatch.setattr(forkserver, "run", lambda _module, *rest, **how: run("patched", *rest, **how))

    return patch


@pytest.fixture
def patient(patched):
    """Have commands wait long for their last beat: one second is short on a busy machine."""
    patched("exec._GOODBYE_SEC = 15.0; exec._KEEP_SEC = exec._CLEAN_SEC = 30.0")


@pytest.fixture
def system(shell, buses, patient):
    seed(buses, {"services": SERVICES | {"backup": HASTY}}, 1)
    return buses[0]


def run_of(server: Server) -> dict:
    return orjson.loads(server.cmd("GET", "run:backup"))


@contextlib.contextmanager
def started(shell: Shell, *words: str, **how) -> "Iterator[subprocess.Popen[bytes]]":
    """`marketswarm exec --svc backup …`, in the foreground of nothing, as cron starts it."""
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True} | how
    line = [sys.executable, "-m", "patched", "exec", "--svc", "backup", *words]
    with ended(subprocess.Popen(line, cwd=shell.folder, env=shell.env, **how)) as running:
        yield running


@contextlib.contextmanager
def ended(running: "subprocess.Popen[bytes]") -> "Iterator[subprocess.Popen[bytes]]":
    """Ends it, and so its command, whatever became of the test."""
    with running:
        try:
            yield running
        finally:
            running.terminate()
            try:
                running.wait(PATIENT_SEC)
            except subprocess.TimeoutExpired:
                running.kill()


def test_it_beats_while_the_command_runs_and_tells_its_end(shell, system):
    with AlertTail(system.url, "backup:heartbeat") as heard:
        script = "until [ -e enough ]; do sleep 0.05; done; exit 3"
        with started(shell, "--", "sh", "-c", script) as running:
            until(lambda: len(heard.seen) >= 2)
            (shell.folder / "enough").touch()
            assert running.communicate(timeout=20) == (b"", b"")
        assert running.returncode == 3
        until(lambda: heard.seen and heard.seen[-1][1].get("status") == "stopping")
    beats = [beat for _, beat in heard.seen]
    assert len(beats) >= 3
    assert [beat["i"] for beat in beats] == list(range(1, len(beats) + 1))
    assert len({beat["boot"] for beat in beats}) == 1
    assert {beat["rev"] for beat in beats} == {1}
    assert {beat.get("every") for beat in beats[:-1]} == {0.2}
    assert beats[-1]["detail"].startswith("exit 3 after ")
    assert beats[-1]["exit_code"] == 3
    run = run_of(system)
    assert (run["svc"], run["ok"], run["code"], run["said"]) == ("backup", False, 3, beats[-1]["detail"])
    assert 0.2 <= run["took_sec"] < 60
    assert 34 * 86_400 < system.cmd("TTL", "run:backup") <= 35 * 86_400


def pings_of(server: Server) -> list[JobPing]:
    with redis.Redis.from_url(server.url) as client:
        return parse_pings(client.xrange("pings:backup"))


def test_each_run_is_kept_with_the_end_of_what_it_wrote_without_secrets(shell, system):
    script = "echo begun; echo secret is $OF_OURS_PASSWORD >&2; echo password=hunter22hunter; exit 3"
    ended = shell("exec", "--svc", "backup", "--", "sh", "-c", script, **OURS)
    assert (ended.returncode, ended.stdout) == (3, "begun\npassword=hunter22hunter\n")
    assert ended.stderr == "secret is kiwi-and-plum\n"
    shell("exec", "--svc", "backup", "--on-success-only", "--no-output", "--", "echo", "private")
    shell("exec", "--svc", "backup", "--", "./not-there")
    first, second, third = pings_of(system)
    assert sorted(first.text.split("\n")) == ["begun", "password=[removed]", "secret is [removed]"]
    assert (first.kind, first.form, first.exit_code) == (PingKind.FAIL, PingForm.EXEC, 3)
    assert first.size == len(ended.stdout) + len(ended.stderr)
    assert 0 < first.took_sec < 60
    assert (second.kind, second.body, second.size) == (PingKind.SUCCESS, b"", 0)
    assert third.text == "not started: No such file or directory"
    assert 34 * 86_400 < system.cmd("TTL", "pings:backup") <= 35 * 86_400
    assert third.ts == run_of(system)["ts"], "they are of the same run"


def test_a_failure_says_the_last_line_of_its_output_without_secrets(shell, system):
    with AlertTail(system.url, "backup:heartbeat") as heard:
        line = "disk full on /backup, \\033[31mpassword=hunter22hunter\\033[0m"
        script = f"echo begun; printf '{line}\\n\\n'; exit 3"
        shell("exec", "--svc", "backup", "--", "sh", "-c", script)
        until(lambda: heard.seen and heard.seen[-1][1].get("status") == "stopping")
        goodbye = heard.seen[-1][1]
    run = run_of(system)
    wanted = r"exit 3 after [\d.]+ s: disk full on /backup, password=\[removed\]"
    assert re.fullmatch(wanted, goodbye["detail"])
    assert run["detail"] == goodbye["detail"]
    assert re.fullmatch(r"exit 3 after [\d.]+ s", run["said"])
    said = " ".join(shell("status", COLUMNS="200").stdout.split())
    assert said.count("exit 3 after") == 1
    shell("exec", "--svc", "backup", "--no-output", "--", "sh", "-c", "echo private; exit 4")
    run = run_of(system)
    assert run["detail"] == run["said"]


def test_without_the_right_to_add_a_run_a_line_says_so_and_the_outcome_is_told(shell, system):
    system.cmd("ACL", "SETUSER", "default", "-xadd")
    try:
        ended = shell("exec", "--svc", "backup", "--", "sh", "-c", "echo out; exit 3")
    finally:
        system.cmd("ACL", "SETUSER", "default", "+@all")
    assert (ended.returncode, ended.stdout) == (3, "out\n")
    assert ended.stderr.startswith("marketswarm: what backup wrote could not be kept (")
    assert ended.stderr.count("\n") == 1
    assert run_of(system)["code"] == 3


def test_on_success_only_is_one_beat_for_a_success_and_none_for_a_failure(shell, system):
    with AlertTail(system.url, "backup:heartbeat") as heard:
        for command, code in (("true", 0), ("false", 1), ("true", 0)):
            assert shell("exec", "--svc", "backup", "--on-success-only", "--", command).returncode == code
            assert run_of(system)["code"] == code
            assert run_of(system).get("quiet", False) is (code != 0), "the healer is to miss none"
        until(lambda: len(heard.seen) >= 2)
    assert [(beat["i"], beat["detail"][:13]) for _, beat in heard.seen] == [(1, "exit 0 after ")] * 2
    assert not any("boot" in beat for _, beat in heard.seen)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--on-success-only", "--", "sh", "-c", "exit 3"], 3),
        (["--on-success-only", "--", "no-such-command"], 127),
        (["--", "no-such-command"], 127),
    ],
)
@pytest.mark.usefixtures("patient")
def test_a_failure_is_told_without_a_beat_before_it_if_the_truth_wants_an_alert(shell, buses, words, code):
    seed(buses, {"services": SERVICES | {"backup": HASTY | {"alert_on_failure": True}}}, 1)
    with AlertTail(buses[0].url, "backup:heartbeat") as heard:
        assert shell("exec", "--svc", "backup", *words).returncode == code
        until(lambda: heard.seen)
    [(_, beat)] = heard.seen
    assert (beat["status"], beat["exit_code"]) == ("stopping", code)


@pytest.mark.parametrize("how", [[], ["--on-success-only"]])
def test_a_name_that_the_truth_does_not_know_is_told(shell, system, how):
    ended = shell("exec", "--svc", "bakcup", *how, "--", "sh", "-c", "exit 3")
    assert ended.returncode == 3
    assert ended.stderr == (
        "marketswarm: nobody watches bakcup: the truth names no bakcup; did you mean backup?\n"
    )


def test_status_shows_the_last_run(shell, system):
    shell("exec", "--svc", "backup", "--on-success-only", "--", "sh", "-c", "exit 7")
    assert "last run exit 7 after" in " ".join(shell("status", COLUMNS="200").stdout.split())
    [row] = [
        row for row in orjson.loads(shell("status", "--json").stdout)["services"] if row["svc"] == "backup"
    ]
    assert (row["last_run"]["code"], row["silence_sec"]) == (7, None)
    shell("exec", "--svc", "backup", "--", "sh", "-c", "exit 8")
    said = " ".join(shell("status", COLUMNS="200").stdout.split())
    assert "stopping: exit 8 after" in said
    assert "last run" not in said  # the goodbye says it


def test_what_goes_in_and_out_is_the_commands_own(shell, system):
    (shell.folder / "more").write_text("a file of ours", encoding="utf-8")
    more = os.open(shell.folder / "more", os.O_RDONLY)
    script = f"cat; echo to stderr >&2; printf '%s|' \"$@\"; cat <&{more}"
    words = ("--", "bash", "-c", script, "x", "--svc", "-h", "a b", "")
    with started(shell, *words, stdin=subprocess.PIPE, pass_fds=[more]) as running:
        os.close(more)
        out, errors = running.communicate(b"through\n", timeout=20)
    assert running.returncode == 0
    assert out == b"through\n--svc|-h|a b||a file of ours"
    assert errors == b"to stderr\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["sh", "-c", "kill -9 $$"], 137, "ended by SIGKILL after "),
        (["./not-there"], 127, "not started: No such file or directory"),
        (["./truth.json"], 126, "not started: Permission denied"),
        (
            ["--limit", "0.3s", "--", "sleep", "60"],
            124,
            "ended by SIGTERM after",
        ),
    ],
)
def test_the_exit_code_is_what_a_shell_would_say(shell, system, words, code, said):
    ended = shell("exec", "--svc", "backup", *words)
    assert ended.returncode == code
    run = run_of(system)
    assert (run["code"], run["ok"]) == (code, False)
    assert run["said"].startswith(said)
    assert (ended.stderr == "") == ("not started" not in said)
    # what was never started never beat
    assert system.cmd("EXISTS", "beat:backup") == ("not started" not in said)


@pytest.mark.parametrize("command", ["./copy", "copy"])
def test_a_script_without_a_line_for_its_interpreter_is_run_by_the_shell(shell, system, command):
    """As the shell of cron, env and nohup run it."""
    script = shell.folder / "copy"
    script.write_text('printf "%s|" "$@"; exit 3\n', encoding="ascii")
    script.chmod(0o755)
    path = f"{shell.folder}:{shell.env['PATH']}"
    ended = shell("exec", "--svc", "backup", "--", command, "--full", "a b", PATH=path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "--full|a b|", "")
    assert run_of(system)["code"] == 3


def test_a_program_for_another_processor_is_not_run_by_the_shell(shell, system):
    program = shell.folder / "copy"
    program.write_bytes(b"\x7fELF\x02\x01\x01\0\ntouch ran\n")
    program.chmod(0o755)
    assert shell("exec", "--svc", "backup", "--", "./copy").returncode == 126
    assert run_of(system)["said"] == "not started: Exec format error"


def test_signals_go_to_the_command_and_all_it_started(shell, system):
    script = """
        trap 'echo asked; exit 5' TERM; trap 'echo again' USR1
        sh -c 'trap "" USR1; trap "echo its child; exit" TERM; echo ready; while :; do sleep 0.05; done' &
        while :; do sleep 0.05; done
    """
    with started(shell, "--", "bash", "-c", script) as running:
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGUSR1)
        assert running.stdout.readline() == b"again\n"
        running.send_signal(signal.SIGTERM)
        assert sorted(running.stdout.read().split(b"\n")) == [b"", b"asked", b"its child"]
        assert running.wait(PATIENT_SEC) == 5
    assert run_of(system)["said"].startswith("exit 5")


def test_what_is_to_be_ignored_stays_so(shell, system):
    """Of nohup, and of a shell's background jobs."""
    script = "trap '' INT; exec \"$@\""
    line = ["sh", "-c", script, "x", sys.executable, "-m", "marketswarm", "exec", "--svc", "backup", "--"]
    line += ["sh", "-c", "echo ready; sleep 0.5; echo done"]
    how = {"stdout": subprocess.PIPE, "start_new_session": True}
    with ended(subprocess.Popen(line, cwd=shell.folder, env=shell.env, **how)) as running:
        assert running.stdout.readline() == b"ready\n"
        os.killpg(running.pid, signal.SIGINT)
        assert running.stdout.read() == b"done\n"
        assert running.wait(PATIENT_SEC) == 0


def test_the_exit_code_is_known_below_a_parent_that_does_not_want_to_know_of_its_children(shell, system):
    """As below Perl with $SIG{CHLD} = 'IGNORE': the kernel would forget how our command ended."""
    script = (
        "import os, sys; from signal import *; signal(SIGCHLD, SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    line = [sys.executable, "-c", script, sys.executable, "-m", "marketswarm", "exec", "--svc", "backup"]
    command = ["--", "sh", "-c", "exit 3"]
    ended = subprocess.run([*line, *command], cwd=shell.folder, env=shell.env, timeout=30, check=False)
    assert ended.returncode == 3
    assert (run_of(system)["code"], run_of(system)["ok"]) == (3, False)


ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "patched", *sys.argv[1:]])
"""
SLOW_START = """
import subprocess, time
start, wait = subprocess.Popen.__init__, exec.ChildProcess.wait
def start_slowly(*words, **how):
    start(*words, **how)
    time.sleep(1)
def tell_and_wait(child):
    open("started", "x").close()
    return wait(child)
subprocess.Popen.__init__, exec.ChildProcess.wait = start_slowly, tell_and_wait
"""
"""For a second the child runs, and its parent does not know it yet."""


@pytest.mark.parametrize("is_slow", [False, True])
def test_at_a_terminal_ctrl_c_is_the_commands(shell, system, patched, is_slow):
    if is_slow:
        patched(SLOW_START)
    script = "trap 'echo heard' INT; read -r a; echo \"<$a>\"; "
    script += 'until read -r b; do :; done; echo "<$b>"; exit 4'
    line = [sys.executable, "-c", ON_A_TERMINAL, "exec", "--svc", "backup", "--", "sh", "-c", script]
    ours, theirs = pty.openpty()
    how = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    with (
        os.fdopen(ours, "r+b", buffering=0) as screen,
        ended(subprocess.Popen(line, cwd=shell.folder, env=shell.env, **how)) as running,
    ):
        os.close(theirs)
        shown = b""
        for typed, awaited in ((b"hello\n", b"<hello>"), (b"\x03", b"heard"), (b"bye\n", b"<bye>")):
            screen.write(typed)
            while awaited not in shown:
                assert select.select([screen], [], [], 20)[0], shown
                shown += screen.read(1000)
            if is_slow and awaited == b"heard":
                until((shell.folder / "started").exists)
        assert running.wait(PATIENT_SEC) == 4
    assert shown.count(b"heard") == 1


@pytest.mark.parametrize("fault", ["away", "frozen"])
def test_a_bus_that_is_away_neither_stops_nor_delays_the_command(shell, buses, patched, fault):
    for bus in buses:
        bus.stop() if fault == "away" else bus.freeze()
    patched("beat.WITHIN_SEC = 60.0")  # for a look at a frozen bus: it would delay the command as long
    shell("--version")  # the first command of a test process takes longer to start
    begun = time.time()
    ended = shell("exec", "--svc", "backup", "--", "touch", "ran")
    ended_at, ran_at = time.time(), (shell.folder / "ran").stat().st_mtime
    assert ended.returncode == 0
    assert ran_at - begun < 30
    assert ended.stderr.startswith("marketswarm: the end of backup could not be told (")
    assert ended.stderr.count("\n") == 1
    assert ended_at - ran_at < 8  # for the beat of a success it would wait 10 s
    for bus in buses:
        if fault == "frozen":
            bus.thaw()


@pytest.mark.parametrize(
    ("command", "code"), [(["sh", "-c", "exit 3"], 3), (["true"], 0), (["./not-there"], 127)]
)
@pytest.mark.parametrize("is_full", [True, False])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(shell, system, command, code, is_full):
    """Its reader may be gone, as in `2>&1 | head -1`, or its disk full."""
    reading, writing = os.pipe()
    os.close(reading)
    stderr = os.open("/dev/full", os.O_WRONLY) if is_full else os.dup(writing)
    line = [sys.executable, "-m", "marketswarm", "exec", "--svc", "bakcup", "--no-output", "--", *command]
    ended = subprocess.run(line, cwd=shell.folder, env=shell.env, stderr=stderr, timeout=30, check=False)
    os.close(writing)
    os.close(stderr)
    assert ended.returncode == code


def test_a_wrong_variable_is_told_at_the_end_and_keeps_no_command_from_running(shell):
    script = "echo copied; touch ran; exit 3"
    ended = shell("exec", "--svc", "backup", "--", "sh", "-c", script, LOG_LEVEL="verbose")
    assert (ended.returncode, ended.stdout) == (3, "copied\n")
    assert (shell.folder / "ran").exists()
    assert ended.stderr.startswith("marketswarm: the end of backup could not be told (")
    assert "LOG_LEVEL" in ended.stderr


def test_in_a_folder_that_was_removed_the_command_runs_and_is_reported(shell, system):
    """As that of an old release below a scheduler that runs on."""
    removed = shell.folder / "release"
    removed.mkdir()
    line = [
        "sh",
        "-c",
        'rmdir "$PWD"; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "marketswarm",
        "exec",
        "--svc",
        "backup",
    ]
    job = ["--", "sh", "-c", "exit 3"]
    ended = subprocess.run([*line, *job], cwd=removed, env=shell.env, timeout=30, check=False)
    assert ended.returncode == 3
    assert run_of(system)["code"] == 3


def test_with_its_standard_streams_closed_the_command_runs_and_is_reported(shell, system):
    script = '<&- >&- 2>&-; exec "$@"'
    line = [
        "sh",
        "-c",
        f"exec {script}",
        "sh",
        sys.executable,
        "-m",
        "marketswarm",
        "exec",
        "--svc",
        "backup",
    ]
    job = ["--", "sh", "-c", "echo copied; echo oh >&2; touch ran; exit 3"]
    ended = subprocess.run([*line, *job], cwd=shell.folder, env=shell.env, timeout=30, check=False)
    assert ended.returncode == 3
    assert (shell.folder / "ran").exists()
    assert run_of(system)["code"] == 3


def test_a_success_waits_a_little_for_the_bus_that_is_to_hear_of_it(shell, system):
    system.stop()
    with started(shell, "--on-success-only", "--", "touch", "done") as running:
        until((shell.folder / "done").exists)
        fault_lasts(0.3)  # it tries, in vain
        system.start()
        assert running.wait(PATIENT_SEC) == 0
        assert running.stderr.read() == b""
    assert run_of(system)["ok"]
    assert system.cmd("EXISTS", "beat:backup") == 1


@pytest.mark.parametrize(("words", "section"), [([], {"schedule": "0 3 * * *"}), (["--on-success-only"], {})])
def test_the_end_of_a_run_is_published_once_however_often_storing_the_run_fails(
    shell, buses, patched, words, section
):
    seed(buses, {"services": SERVICES | {"backup": {"heartbeat": section}}}, 1)
    patched("exec._SUCCESS_BEAT_SEC = 1.5")
    with AlertTail(buses[0].url, "backup:heartbeat") as heard:
        buses[0].cmd("ACL", "SETUSER", "default", "resetkeys", "%R~*", "~beat:*")
        try:
            ended = shell("exec", "--svc", "backup", *words, "--", "true")
        finally:
            buses[0].cmd("ACL", "SETUSER", "default", "allkeys")
        assert ended.returncode == 0
        assert ended.stderr != "", "it was tried, and refused"
        assert buses[0].cmd("PUBLISH", "backup:heartbeat", '{"detail": "last"}')
        until(lambda: heard.seen and heard.seen[-1][1] == {"detail": "last"})
    details = [beat["detail"][:6] for _, beat in heard.seen if "detail" in beat]
    assert details == ["exit 0", "last"]
    assert buses[0].cmd("EXISTS", "run:backup") == 0


def test_beats_begin_again_when_the_bus_is_back_and_follow_a_reseed(shell, buses, system):
    system.stop()
    with started(shell, "--", "sh", "-c", "touch begun; sleep 60") as running:
        until((shell.folder / "begun").exists)
        fault_lasts(0.5)  # it beats, in vain
        system.start()
        until(lambda: system.cmd("EXISTS", "beat:backup"))
        shell.write(
            {"services": SERVICES | {"backup": {"heartbeat": HASTY["heartbeat"] | {"channel": "team:b"}}}}
        )
        with AlertTail(system.url, "team:b") as heard:
            assert shell("seed").returncode == 0
            until(lambda: heard.seen)
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENT_SEC) == 143


def test_a_bus_that_the_truth_names_and_this_machine_has_no_url_of_ends_no_beats(shell, buses, system):
    elsewhere = {"market-redis": {"url": "env:MARKET_SECRET_URL"}}
    seed(buses, {"services": SERVICES | {"backup": HASTY}, "buses": elsewhere}, 2)
    shell.env.pop("MARKET_REDIS_URL")
    with AlertTail(system.url, "backup:heartbeat") as heard:
        with started(shell, "--", "sh", "-c", "until [ -e enough ]; do sleep 0.05; done; exit 3") as running:
            until(lambda: len(heard.seen) >= 3)
            (shell.folder / "enough").touch()
            assert running.communicate(timeout=20) == (b"", b"")
        until(lambda: heard.seen[-1][1].get("status") == "stopping")
    assert run_of(system)["code"] == 3


@pytest.mark.parametrize("is_job", [True, False])
def test_the_end_of_a_run_goes_where_the_truth_of_that_moment_says(shell, buses, system, is_job):
    _, market = buses
    section = (
        {"schedule": "0 3 * * *", "grace_sec": 60} if is_job else {"interval_sec": 60, "timeout_sec": 90}
    )
    seed(buses, {"services": SERVICES | {"backup": {"heartbeat": section}}}, 2)
    script = "until [ -e enough ]; do sleep 0.05; done; exit 3"
    with AlertTail(system.url, "backup:heartbeat") as old, AlertTail(market.url, "team:b") as new:
        with started(shell, "--", "sh", "-c", script) as running:
            until(lambda: old.seen)
            moved = {"redis_url": "redis://market-redis:6379", "channel": "team:b", "timeout_sec": 7e6}
            if is_job:
                moved["grace_sec"] = moved.pop("timeout_sec")
            shell.write({"services": SERVICES | {"backup": {"heartbeat": section | moved}}})
            assert shell("seed").returncode == 0
            (shell.folder / "enough").touch()
            assert running.wait(PATIENT_SEC) == 3
        until(lambda: new.seen)
    assert [beat.get("run") for _, beat in old.seen] == ["started" if is_job else None]
    end = new.seen[-1][1]
    assert (end.get("run"), end["exit_code"]) == ("failed" if is_job else None, 3)
    assert run_of(market)["code"] == 3
    assert system.cmd("EXISTS", "run:backup") == 0
    assert market.cmd("TTL", "run:backup") > 100 * 86_400, "twice the new timeout"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "true"], "--svc"),
        (["--svc", "a b", "--", "true"], "is not a name"),
        (["--svc", "backup"], "COMMAND"),
        (["--svc", "backup", "--limit", "0", "--", "true"], "--limit"),
    ],
)
def test_what_can_not_be_is_code_2(shell, words, said):
    ended = shell("exec", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
