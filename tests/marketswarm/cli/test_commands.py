"""Commands as a user runs them: what is on stdout, what on stderr, which code they end with."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import orjson
import pytest

from marketswarm.bus import Bus
from marketswarm.cli import fleet_view, seed
from marketswarm.exit import Code
from support.rig import Server, TcpProxy, forkserver
from support.rig.shell import SERVICES
from support.waiting import PATIENT_SEC, until

pytestmark = pytest.mark.live


def test_help_and_version_are_quick_and_load_nothing_heavy(shell):
    assert shell("--version").stdout.startswith("marketswarm 0.")
    assert "simulate" in shell("--help").stdout
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, marketswarm.cli.app; print(*sys.modules)"],
        env=shell.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"redis", "pydantic", "structlog", "rich.table"} & set(loaded)


def test_a_wrong_option_is_the_command_lines_fault(shell):
    ended = shell("up", "--prot", "1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--prot" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], "no such command 'statsu'. Did you mean 'status', 'start'?"),
        (["token", "craete"], "no such command 'craete'. Did you mean 'create', 'rotate'?"),
        (["status", "--wach"], "no such option: --wach (Possible options: --watch)"),
        (["ack"], "missing argument 'INCIDENT'."),
        (["silence", "x", "--for", "5 parsecs"], "invalid value for '--for': '5 parsecs' is not a duration;"),
        (["status", "--watch", "--exit-code"], "invalid value: --watch and --exit-code exclude each other"),
    ],
)
def test_a_mistake_on_the_command_line_looks_as_each_other_error_and_names_the_help(shell, words, said):
    ended = shell(*words)
    assert (ended.returncode, ended.stdout) == (2, "")
    mistake, remedy = ended.stderr.splitlines()
    assert mistake.startswith(f"marketswarm: {said}")
    assert remedy.startswith("`")
    assert remedy.endswith(" --help` says what it takes")


def test_a_group_without_a_command_shows_its_help(shell):
    ended = shell("token")
    assert (ended.returncode, ended.stderr) == (2, "")
    assert "Usage: marketswarm token" in ended.stdout


def test_a_valid_truth_is_valid_with_its_warnings(shell):
    shell.write({"services": {"a": {"heartbeat": {"interval_sec": 10, "timeout_sec": 11}}}})
    ended = shell("validate")
    assert ended.returncode == 0
    assert "warning  services.a.heartbeat.timeout_sec" in ended.stdout
    assert "1 service, 1 warning" in ended.stdout


def test_every_problem_of_a_truth_is_told_at_once_and_no_server_is_needed(shell):
    shell.write({"services": {"a": {"heartbeat": {"interval_sec": -5}}, "b": {"depends_on": ["nobody"]}}})
    ended = shell("validate")
    assert ended.returncode == 2
    assert "truth.json: 2 problems" in ended.stderr
    assert "services.a.heartbeat.interval_sec: -5" in ended.stderr
    assert "services.b.depends_on" in ended.stderr


@pytest.mark.parametrize("command", ["validate", "seed", "up"])
def test_a_mistake_in_a_services_own_part_is_a_problem_of_the_truth(shell, command):
    shell.write({"services": {"rss_agg": {"settings": {"poll_sec": -5}, "replicas": 0}}})
    ended = shell(command)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "truth.json: 2 problems" in ended.stderr
    assert "services.rss_agg.replicas: 0 is not a number of processes from 1 to 100" in ended.stderr
    assert "services.rss_agg.settings.poll_sec: -5 is not more than 0" in ended.stderr


@pytest.mark.parametrize("command", [["validate"], ["seed"]])
def test_a_file_that_is_not_there_is_named(shell, command):
    (shell.folder / "truth.json").unlink()
    ended = shell(*command)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "truth.json: No such file or directory" in ended.stderr


def test_up_without_a_truth_names_the_ways_to_get_one(shell):
    (shell.folder / "truth.json").unlink()
    ended = shell("up")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"there is no truth.json in {shell.folder}" in ended.stderr
    assert "marketswarm new prices" in ended.stderr
    assert "marketswarm init" in ended.stderr


@pytest.mark.parametrize("command", [["status"], ["alerts"], ["health"], ["simulate", "mesh"]])
def test_without_a_bus_it_ends_with_3_and_says_how_to_go_on(shell, command):
    ended = shell(
        *command, SYSTEM_REDIS_URL="redis://127.0.0.1:1", MARKET_REDIS_URL="redis://user:hunter2@127.0.0.1:1"
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.splitlines() == [
        "marketswarm: no bus answered. Tried:",
        "  folder .marketswarm: no fleet runs there",
        "  system-redis at 127.0.0.1:1: refused",
        "  market-redis at 127.0.0.1:1: refused",
        "Start a fleet here:  marketswarm up",
        "In another folder:   --data DIR",
        "In containers:       make status",
        "Elsewhere:           SYSTEM_REDIS_URL=redis://HOST:6379 MARKET_REDIS_URL=redis://HOST:6380",
    ]
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [["status"], ["health"], ["simulate", "mesh"]])
def test_without_a_truth_it_ends_with_4(shell, buses, command):
    ended = shell(*command)
    assert ended.returncode == 4
    assert "marketswarm seed" in ended.stderr


@pytest.mark.parametrize("command", ["stop", "start", "kill", "simulate"])
def test_without_an_embedded_fleet_there_is_nothing_to_stop(shell, seeded, command):
    ended = shell(command, "mesh")
    assert ended.returncode == 2
    assert "no embedded fleet runs in .marketswarm" in ended.stderr


def test_a_variable_that_does_not_parse_is_named_without_its_value(shell):
    ended = shell("status", REDIS_URL="http://hunter2")
    assert ended.returncode == 2
    assert "REDIS_URL" in ended.stderr
    assert "hunter2" not in ended.stderr


def test_seeding_says_what_changed(shell, buses):
    assert shell("seed").stdout.splitlines() == [
        "truth.json is revision 1 on system-redis and market-redis",
        "  + rss_agg",
        "  + mesh",
        "  + healer",
    ]
    assert "nothing to do" in shell("seed").stdout
    shell.write({"services": SERVICES | {"mesh": {"tags": ["x"]}, "new": {}}})
    assert shell("seed").stdout.splitlines()[:2] == [
        "truth.json is revision 2 on system-redis and market-redis",
        "  + new",
    ]
    assert [bus.cmd("HGET", "truth:meta", "revision") for bus in buses] == ["2", "2"]
    buses[1].cmd("DEL", "truth:doc")
    assert "still revision 2; put back on market-redis" in shell("seed").stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_between_the_writes_of_a_seeding_undoes_what_was_written(shell, seeded, number):
    system, market = seeded
    before = [bus.cmd("GET", "truth:doc") for bus in seeded]
    shell.write({"services": {**SERVICES, "marker": {}}})
    with TcpProxy(market.port) as wire:
        wire.swallow(only=b"marker", direction="down")
        shell.env["MARKET_REDIS_URL"] = wire.url
        with shell.start("seed") as seeding:
            until(lambda: "marker" in market.cmd("GET", "truth:doc"), what="the second write, unanswered")
            assert "marker" in system.cmd("GET", "truth:doc")
            seeding.send_signal(number)
            assert seeding.wait(PATIENT_SEC) == 128 + number
    assert [bus.cmd("GET", "truth:doc") for bus in seeded] == before


def test_a_signal_after_a_seeding_keeps_no_users_that_it_dropped_and_denies_no_seeding(
    shell, seeded, monkeypatch
):
    kept = []

    async def renew(*_args, keep):
        if not keep:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.05)
        kept.append(keep)
        return False

    monkeypatch.setattr(seed, "_renew_users", renew)
    shell.write({"services": {**SERVICES, "new": {}}})
    ended = shell("seed")
    assert (ended.returncode, kept) == (0, [True, False]), ended.stderr
    assert "is revision 2 on" in ended.stdout


def test_seeding_with_a_bus_away_ends_with_3(shell, buses, monkeypatch):
    monkeypatch.setattr(seed, "_ANSWER_WITHIN_SEC", 0.1)
    buses[1].stop()
    ended = shell("seed")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "not seeded, nothing changed: market-redis: refused" in ended.stderr


def test_seeding_what_is_not_valid_changes_nothing_and_says_so(shell, buses):
    shell.write({"services": {"a": {"heartbeat": {"interval_sec": -1}}}})
    ended = shell("seed")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "not seeded, nothing changed: truth.json: 1 problem\n  services.a.heartbeat" in ended.stderr


def test_seeding_shows_the_warnings_of_the_truth(shell, buses):
    shell.write({"services": {"a": {"heartbeat": {"interval_sec": 10, "timeout_sec": 11}}}})
    assert "  warning  services.a.heartbeat.timeout_sec" in shell.said("seed")


MISS = {"type": "heartbeat_miss", "svc": "mesh", "late_sec": 31.2, "timeout_sec": 30}


def dress(system: Server) -> None:
    """A fleet in which rss_agg is up and mesh is down."""
    system.cmd("HSET", "healer:roster", "rss_agg", '{"verdict":"up"}', "mesh", '{"verdict":"down"}')
    beat = {"svc": "rss_agg", "i": 3, "ts": 1, "boot": "b00t", "rev": 7}
    beat |= {"status": "degraded", "detail": "no feed"}
    system.cmd("SET", "beat:rss_agg", orjson.dumps(beat), "PX", 59_000)
    system.cmd("SET", "beat:healer", '{"svc":"healer","i":1,"ts":1}', "PX", 60_000)
    system.cmd("SET", "mesh:topology", '{"services":{"rss_agg":{"instances":[{"restarts":4},{}]}}}')
    system.cmd("SET", "health:mesh", orjson.dumps(MISS | {"ts": 1}))


def test_status_is_one_row_a_service(shell, seeded):
    dress(seeded[0])
    ended = shell("status")
    assert ended.returncode == 0
    assert max(map(len, ended.stdout.splitlines())) <= 80
    assert "\x1b" not in ended.stdout
    count, head, first, second, third = ended.stdout.splitlines()
    assert count == "1 of 3 down"
    assert head.split() == ["service", "verdict", "silence", "inst", "rev", "restarts", "boot", "state"]
    assert first.split()[:3] == ["mesh", "down", "-"]
    assert second.split()[:2] == ["rss_agg", "up"]
    assert second.split()[4:] == ["2", "7", "4", "b00t", "degraded:", "no", "feed"]
    assert third.split()[:2] == ["healer", "up"]
    assert shell("status", "--exit-code").returncode == 1


def test_status_for_programs_is_json(shell, seeded):
    begun = time.monotonic()
    dress(seeded[0])
    found = orjson.loads(shell("status", "--json").stdout)
    assert found["revision"] == 1
    assert found["services"][1]["verdict"] == "down"
    assert 1 <= found["services"][0]["silence_sec"] < 1.1 + time.monotonic() - begun


def test_status_with_one_bus_away_says_so_and_shows_the_rest(shell, seeded):
    seeded[0].stop()
    ended = shell("status")
    assert ended.returncode == 0
    assert "bus system-redis does not answer: refused" in ended.stdout
    assert "the healer is unknown: verdicts may be old" in ended.stdout


def test_status_can_be_watched_while_a_bus_comes_and_goes(shell, seeded):
    with shell.start("status", "--watch", "--json") as watching:
        assert orjson.loads(watching.stdout.readline())["away"] == {}
        seeded[0].stop()
        seeded[1].stop()
        until(lambda: "no bus answered" in watching.stdout.readline())
        seeded[0].start()
        until(lambda: '"why"' in (line := watching.stdout.readline()) or '"mesh"' in line)
        watching.send_signal(2)
        assert watching.wait(PATIENT_SEC) == 0
        assert watching.stderr.read() == ""


def test_health_is_the_latest_word(shell, seeded):
    dress(seeded[0])
    ended = shell("health")
    assert ended.returncode == 0
    at = time.strftime("%H:%M:%S", time.localtime(1))
    assert f"mesh     {at} ✗ mesh is down: no beat for 31.2 s (timeout 30 s)" in ended.stdout
    assert "rss_agg  -------- · nobody vouches for it" in ended.stdout
    assert orjson.loads(shell("health", "mesh", "--json").stdout)["type"] == "heartbeat_miss"
    assert orjson.loads(shell("health", "--json").stdout)["rss_agg"] is None
    unknown = shell("health", "mash")
    assert unknown.returncode == 2
    assert "did you mean mesh" in unknown.stderr


def test_health_with_a_frozen_bus_says_so_and_ends_with_3(shell, seeded, monkeypatch):
    monkeypatch.setattr(fleet_view, "_READ_WITHIN_SEC", 0.3)
    monkeypatch.setitem(Bus.__init__.__kwdefaults__, "within_sec", 0.3)
    dress(seeded[0])
    seeded[0].freeze()
    ended = shell("health")
    seeded[0].thaw()
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "bus system-redis at 127.0.0.1:" in ended.stderr
    assert "does not answer (timeout)" in ended.stderr


def test_a_locale_of_ascii_alone_ends_no_command(shell, seeded):
    dress(seeded[0])
    seeded[0].cmd(
        "SET", "beat:rss_agg", '{"svc":"rss_agg","i":1,"ts":1,"detail":"\u65e5 \u2717"}', "PX", 59_000
    )
    for command in ("status", "--help"):
        ended = shell(command, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.isascii()


def test_letters_a_terminal_cannot_show_are_replaced(shell, seeded):
    dress(seeded[0])
    assert "x mesh is down" in shell("health", "mesh", PYTHONIOENCODING="ascii").stdout


def miss(system: Server, key: str = "1") -> bytes:
    event = orjson.dumps(MISS | {"id": key})
    system.cmd("XADD", "healer:alerts:log", "*", "event", event)
    return event


def test_alerts_begin_in_the_past_when_asked_and_ctrl_c_is_a_good_end(shell, seeded):
    event = miss(seeded[0])
    with shell.start("alerts", "--since", "1h", "--json") as alerts:
        assert alerts.stdout.readline().encode().strip() == event
        event = miss(seeded[0], "2")
        assert alerts.stdout.readline().encode().strip() == event
        alerts.send_signal(2)
        assert alerts.wait(PATIENT_SEC) == 0
        assert alerts.stderr.read() == ""


def test_alerts_work_without_a_truth(shell, buses):
    miss(buses[0])
    with shell.start("alerts", "--since", "60") as alerts:
        assert "✗ mesh is down: no beat for 31.2 s (timeout 30 s)" in alerts.stdout.readline()
        alerts.kill()


def test_alerts_end_quietly_when_nobody_reads_them(shell, seeded):
    miss(seeded[0])
    with forkserver.real_starts(), shell.start("alerts", "--since", "1h") as alerts:
        alerts.stdout.readline()
        alerts.stdout.close()
        assert alerts.wait(PATIENT_SEC) == 0
        assert alerts.stderr.read().splitlines() == ["nothing is down now; listening, Ctrl-C ends it"]


def test_alerts_that_are_not_followed_end_and_those_that_are_begin_with_what_is_down(shell, seeded):
    event = miss(seeded[0])
    assert shell.said("alerts", "--since", "1h", "--no-follow", "--json").encode().strip() == event
    assert shell("alerts", "--no-follow").returncode == 2
    dress(seeded[0])
    with shell.start("alerts") as alerts:
        assert alerts.stderr.readline() == "down now: mesh; listening, Ctrl-C ends it\n"
        alerts.kill()


def test_alerts_says_what_it_could_not_read(shell, seeded):
    system, market = seeded
    market.cmd("XADD", "healer:alerts:log", "*", "event", orjson.dumps({"type": "bus_lost", "ts": 1.0}))
    system.stop()
    past = shell("alerts", "--since", "24h", "--no-follow", "--json")
    assert past.returncode == Code.NO_BUS
    assert past.stdout.count("bus_lost") == 1, "what the other bus has is printed all the same"
    assert past.stderr.startswith("marketswarm: bus system-redis does not answer: ")
    with shell.start("alerts") as following:
        said = following.stderr.readline()
    assert said.startswith("bus system-redis does not answer: ")
    assert "so what is down now is not known" in said


@pytest.mark.parametrize("since", ["yesterday", "5q", "-1h", ""])
def test_since_when_must_be_a_duration(shell, since):
    ended = shell("alerts", "--since", since)
    assert ended.returncode == 2
    assert "write 30s, 10m, 1h, 2d, 2w or 1y" in " ".join(ended.stderr.replace("│", " ").split())


def test_a_pipe_that_breaks_is_no_error(shell, seeded):
    for command in ("health", "status"):
        with forkserver.real_starts(), shell.start(command) as ended:
            ended.stdout.close()
            assert ended.wait(PATIENT_SEC) in (0, 1)
            assert ended.stderr.read() == ""
