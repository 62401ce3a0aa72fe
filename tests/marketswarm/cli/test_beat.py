"""`marketswarm beat`: where a beat goes, and what comes of a bus that does not take it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from marketswarm.beat import Beat, parse_beat
from marketswarm.exit import Code
from support.rig import AlertTail, Server, free_port
from support.rig.process import alive
from support.rig.shell import SERVICES
from support.scenes.agent import seed
from support.waiting import PATIENT_SEC, until

pytestmark = pytest.mark.live

BACKUP = {
    "heartbeat": {"redis_url": "redis://market-redis:6379", "channel": "team:backup", "timeout_sec": 90}
}


@pytest.fixture
def known(buses):
    seed(buses, {"services": SERVICES}, 1)
    return buses


def beat_of(server: Server, svc: str) -> Beat:
    found = parse_beat(server.cmd("GET", f"beat:{svc}").encode(), svc)
    assert isinstance(found, Beat)
    return found


def test_a_beat_goes_where_the_truth_says(shell, buses):
    system, market = buses
    seed(buses, {"services": SERVICES | {"backup": BACKUP}}, 1)
    with AlertTail(market.url, "team:backup") as heard:
        ended = shell("beat", "backup", "--detail", "disk 2 of 3")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        until(lambda: heard.seen)
    assert list(heard.seen[0][1]) == ["svc", "i", "ts", "status", "detail", "life"]
    beat = beat_of(market, "backup")
    assert (beat.i, beat.boot, beat.rev, beat.status, beat.detail) == (1, None, None, "ok", "disk 2 of 3")
    assert abs(beat.ts - time.time()) < 10
    assert 170_000 < market.cmd("PTTL", "beat:backup") <= 180_000
    assert system.cmd("EXISTS", "beat:backup") == 0
    # a goodbye is no life
    market.cmd("PEXPIRE", "beat:backup", 60_000)
    assert shell("beat", "backup", "--status", "stopping").returncode == 0
    assert beat_of(market, "backup").status == "stopping"
    assert 50_000 < market.cmd("PTTL", "beat:backup") <= 60_000
    assert "on team:backup, market-redis at" in shell("beat", "backup", "-v").stdout


def test_a_remark_in_another_encoding_than_utf_8_ends_no_beat(shell, known):
    ended = shell("beat", "rss_agg", "--detail", os.fsdecode(b"last copied: caf\xe9"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert beat_of(known[0], "rss_agg").detail == "last copied: caf?"


def test_without_a_truth_or_a_section_it_has_the_defaults_and_says_that_nobody_watches(shell, buses):
    system, market = buses
    ended = shell("beat", "backup")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "no truth was found that may name backup (sent to backup:heartbeat on" in ended.stderr
    assert 50_000 < system.cmd("PTTL", "beat:backup") <= 60_000
    market.kill()  # not the bus of its beats
    assert shell("beat", "backup").returncode == 0
    seed([system], {"services": SERVICES | {"backup": BACKUP}}, 1)
    ended = shell("beat", "bakcup")
    assert ended.returncode == Code.NOT_WATCHED
    assert ended.stderr.startswith(
        "marketswarm: nobody watches bakcup: the truth names no bakcup; did you mean backup? (sent to "
    )


def test_one_that_beats_on_ends_by_whether_the_last_beat_was_watched(shell, buses):
    seed(buses, {"services": SERVICES}, 1)
    with (
        shell.start("beat", "backup", "--every", "0.1s") as named_later,
        shell.start("beat", "nope", "--every", "0.1s") as never_named,
    ):
        until(lambda: all(buses[0].cmd("EXISTS", f"beat:{svc}") for svc in ("backup", "nope")))
        seed(buses, {"services": SERVICES | {"backup": {}}}, 2)
        until(lambda: beat_of(buses[0], "backup").rev == 2)
        for beating in (named_later, never_named):
            beating.send_signal(signal.SIGINT)
        ends = [beating.wait(PATIENT_SEC) for beating in (named_later, never_named)]
    assert ends == [0, Code.NOT_WATCHED]


def test_a_bus_that_is_away_or_refuses_is_code_3_and_one_line(shell, known):
    system, _ = known
    system.cmd("CONFIG", "SET", "requirepass", "hunter2")
    refused = shell("beat", "mesh")
    system.password = "hunter2"  # noqa: S105 - the test's own
    taken = shell("beat", "mesh", SYSTEM_REDIS_URL=system.url.replace("//", "//:hunter2@"))
    assert taken.returncode == 0
    system.freeze()
    hangs = shell("beat", "mesh", SYSTEM_REDIS_URL=system.url.replace("//", "//:hunter2@"))
    system.thaw()
    system.stop()
    away = shell("beat", "mesh")
    for ended, reason in ((refused, "auth"), (hangs, "timeout"), (away, "refused")):
        assert (ended.returncode, ended.stdout) == (3, ""), ended.stderr
        assert ended.stderr.startswith(
            f"marketswarm: no beat: system-redis at 127.0.0.1:{system.port}: {reason}"
        )
        assert ended.stderr.count("\n") == 1
        assert "hunter2" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        (["a b"], {}, "is not a name"),
        (["mesh", "--status", "fine"], {}, "stopping"),
        (["mesh", "--every", "soon"], {}, "is not a duration"),
        (["mesh"], {"REDIS_URL": "http://hunter2"}, "REDIS_URL: must be redis://"),
        (["mesh"], {"DEFAULT_TIMEOUT_SEC": "x"}, "DEFAULT_TIMEOUT_SEC"),
    ],
)
def test_what_can_not_be_is_code_2(shell, words, env, said):
    ended = shell("beat", *words, **env)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert "hunter2" not in ended.stderr


def test_it_goes_on_until_it_is_told_to_stop_over_an_outage_and_a_reseed(shell, known):
    system, _ = known
    with shell.start("beat", "mesh", "--every", "0.1s", "--status", "degraded") as beating:
        until(lambda: system.cmd("EXISTS", "beat:mesh") and beat_of(system, "mesh").i > 2)
        first = beat_of(system, "mesh")
        assert (first.rev, first.status, first.every) == (1, "degraded", 0.1)
        assert first.boot
        system.stop()
        assert "no beat: system-redis" in beating.stderr.readline()
        system.start()
        # it may have met a server that still loads its data
        until(lambda: "beats arrive again" in beating.stderr.readline())
        moved = {"mesh": {"heartbeat": {"channel": "team:mesh"}}}
        with AlertTail(system.url, "team:mesh") as heard:
            seed(known, {"services": SERVICES | moved}, 2)
            until(lambda: heard.seen)
        beating.send_signal(signal.SIGTERM)
        assert beating.wait(PATIENT_SEC) == 0
    last = beat_of(system, "mesh")
    assert (last.boot, last.rev, last.status) == (first.boot, 2, "stopping")


NEEDS_A_SECRET = {"buses": {"market-redis": {"url": "env:MARKET_SECRET_URL"}}}
ON_MARKET = {"mesh": {"heartbeat": {"redis_url": "redis://market-redis:6379", "channel": "team:mesh"}}}


def test_a_bus_that_this_machine_has_no_url_of_ends_no_beats_and_a_service_that_moves_there_says_so(
    shell, known
):
    system, market = known
    seed(known, {"services": SERVICES} | NEEDS_A_SECRET, 2)
    shell.env.pop("MARKET_REDIS_URL")
    with shell.start("beat", "mesh", "--every", "0.1s") as beating:
        until(lambda: system.cmd("EXISTS", "beat:mesh") and beat_of(system, "mesh").i > 3)
        seed(known, {"services": SERVICES | ON_MARKET} | NEEDS_A_SECRET, 3)
        said = beating.stderr.readline()
        assert "no beat: market-redis: error (buses.market-redis.url: " in said
        assert "MARKET_SECRET_URL" in said
        moved = {"services": SERVICES | ON_MARKET, "buses": {"market-redis": {"url": market.url}}}
        seed(known, moved, 4)
        assert "beats arrive again" in beating.stderr.readline()
        # the bus keeps the URL that it had
        seed(known, {"services": SERVICES | ON_MARKET} | NEEDS_A_SECRET, 5)
        assert "market-redis: its URL is the one from before" in beating.stderr.readline()
        until(lambda: beat_of(market, "mesh").rev == 5)
        beating.send_signal(signal.SIGTERM)
        assert beating.wait(PATIENT_SEC) == 0
    assert beat_of(market, "mesh").status == "stopping"
    refused = shell("beat", "mesh")
    assert refused.returncode == Code.CONFIGURATION
    assert "MARKET_SECRET_URL" in refused.stderr


def test_a_file_with_a_url_that_is_written_anew_holds_no_beat_back(shell, known):
    system, _ = known
    url = shell.folder / "url"
    url.write_text(shell.env.pop("SYSTEM_REDIS_URL"), encoding="utf-8")
    shell.env["SYSTEM_REDIS_URL_FILE"] = str(url)
    with shell.start("beat", "mesh", "--every", "0.1s") as beating:
        until(lambda: system.cmd("EXISTS", "beat:mesh") and beat_of(system, "mesh").i > 1)
        url.write_text("", encoding="utf-8")
        assert "SYSTEM_REDIS_URL_FILE" in beating.stderr.readline()
        before = beat_of(system, "mesh").i
        until(lambda: beat_of(system, "mesh").i > before + 1)
        url.write_text(system.url, encoding="utf-8")
        assert "beats arrive again" in beating.stderr.readline()
        beating.send_signal(signal.SIGTERM)
        assert beating.wait(PATIENT_SEC) == 0


def test_it_does_not_outlive_who_started_it(shell, known):
    system, _ = known
    script = f"{sys.executable} -m marketswarm beat mesh --every 0.1s & echo $!; wait"
    with subprocess.Popen(
        ["sh", "-c", script], cwd=shell.folder, env=shell.env, stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        until(lambda: system.cmd("EXISTS", "beat:mesh") and beat_of(system, "mesh").i > 1)
        parent.kill()
        until(lambda: not alive(pid))
    assert beat_of(system, "mesh").status == "ok"  # a crash says no goodbye


def test_it_finds_its_way_over_tls_and_through_a_file(shell, tmp_path):
    """What is beyond plain TCP is the library's, and says the same."""
    with Server(tmp_path / "one") as server:
        (tmp_path / "url").write_text(f"{server.url}/0?socket_keepalive=true\n", encoding="utf-8")
        ended = shell(
            "beat",
            "mesh",
            SYSTEM_REDIS_URL_FILE=str(tmp_path / "url"),
            MARKET_REDIS_URL="redis://127.0.0.1:1",
        )
        assert ended.returncode == 0, ended.stderr
        assert server.cmd("EXISTS", "beat:mesh") == 1
    away = shell(
        "beat",
        "mesh",
        SYSTEM_REDIS_URL=f"rediss://127.0.0.1:{free_port()}",
        MARKET_REDIS_URL="redis://127.0.0.1:1",
    )
    assert away.returncode == 3
    assert away.stderr.count("\n") == 1


def test_it_loads_only_what_a_beat_needs(shell, known):
    """cron and shell loops start it again and again."""
    script = "import sys; sys.argv = ['marketswarm', 'beat', 'mesh']\nimport marketswarm.cli\n"
    script += "try: marketswarm.cli.main()\nexcept SystemExit: print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        cwd=shell.folder,
        env=shell.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "marketswarm.cli.beat" in loaded
    assert not {"rich.console", "httpx", "prometheus_client"} & set(loaded)
