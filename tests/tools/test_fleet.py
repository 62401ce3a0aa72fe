"""tools/fleet.sh with a stand-in for docker: which fleet a word is for, what is asked of it, what is said."""

import json
import os
import re
import shutil
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from support.waiting import until

ROOT = Path(__file__).parents[2]
# what was asked is noted; a file `answer.<words>` beside it says what comes back, and with which code
DOCKER = """#!/bin/sh
echo "$*" >>"$0.asked"
case "$*" in
*"ps --quiet --status running"*) cat "$0.running" 2>/dev/null ;;
*"compose config"*)
    cat "$0.config" 2>/dev/null
    printf 'networks:\\n  front:\\n    name: f\\n  marketswarm-bus:\\n'
    printf '    name: some-bus\\nvolumes:\\n    name: no\\n' ;;
*"network inspect"*) [ -e "$0.network" ] ;;
"inspect --format "*) cat "$0.mounts" 2>/dev/null ;;
*" port system-redis 6390"*) cat "$0.published" 2>/dev/null || echo 127.0.0.1:32768 ;;
*" port "*) echo 127.0.0.1:7379 ;;
*"redis-cli ping"*) cat "$0.pong" 2>/dev/null || echo PONG ;;
*"--format {{.State}} {{.ExitCode}} "*) cat "$0.state.${*##* }" 2>/dev/null ;;
*" up --detach"*) [ ! -e "$0.fails" ] ;;
*" logs "*) cat "$0.log.${*##* }" 2>/dev/null ;;
*" run --rm -T access"*) cat "$0.access" 2>/dev/null && exit 2 || exit 0 ;;
*"operator simulate"*)
    cat "$0.simulate"
    [ ! -e "$0.goes-on" ] || exec sleep 60
    exit "$(cat "$0.code")" ;;
*" stop "*) [ ! -e "$0.fails" ] ;;
esac
"""
MARKETSWARM = """#!/bin/sh
echo "here $*"
"""


class Place:
    """A checkout with a stand-in for docker before everything else on the PATH."""

    def __init__(self, root: Path):
        self.root, self.docker = root, root / "bin" / "docker"
        for folder in ("bin", "tools", ".venv/bin"):
            (root / folder).mkdir(parents=True)
        shutil.copy(ROOT / "tools/fleet.sh", root / "tools")
        self._program(root / "tools/environment.sh", "")
        self._program(root / ".venv/bin/marketswarm", MARKETSWARM)
        self._program(self.docker, DOCKER)

    def _program(self, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def answers(self, **files: str) -> None:
        for name, text in files.items():
            own = name.replace("__", ".").replace("_", "-")
            Path(f"{self.docker}.{own}").write_text(text, encoding="utf-8")

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.root / 'bin'}:/usr/bin:/bin"
        return subprocess.run(
            ["sh", self.root / "tools/fleet.sh", *words],
            env={"PATH": path, "HOME": str(self.root), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def asked(self) -> list[str]:
        path = Path(f"{self.docker}.asked")
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "a checkout")


def test_where_no_fleet_runs_that_is_said_and_no_environment_is_made_for_it(place):
    for word in ("seed", "status", "alerts", "health", "simulate"):
        said = place.run(word, "rss_agg")
        assert said.returncode == 3, word
        assert "make run" in said.stderr
        assert "make up" in said.stderr
    (place.root / ".venv/made-of").touch()  # where there is one, the command says it
    assert place.run("status", "--watch").stdout == "here status --watch\n"


def test_one_on_this_machine_goes_first_unless_it_ended_and_so_do_buses_that_are_named(place):
    place.answers(running="c0ffee\n")
    (place.root / ".marketswarm").mkdir()
    state = place.root / ".marketswarm/fleet.json"
    state.write_text(json.dumps({"pid": os.getpid()}, separators=(",", ":")))
    assert place.run("status").stdout == "here status\n"
    assert not place.asked()
    state.write_text('{"pid":4194305}')
    place.run("status")
    assert place.asked()[-1].endswith(" operator status")
    for name in ("SYSTEM_REDIS_URL", "REDIS_URL", "TRUTH_REDIS_URL", "MARKET_REDIS_URL_FILE"):
        assert place.run("status", **{name: "redis://127.0.0.1:1"}).stdout == "here status\n", name


def test_a_seeding_lets_new_services_in_before_they_are_told_of(place):
    place.answers(running="c0ffee\n")
    assert place.run("seed").returncode == 0
    first, second = place.asked()[-2:]
    assert first.endswith(" run --rm -T access")
    assert second.endswith(" operator seed")


def test_a_seeding_ends_with_words_when_they_can_not_be_let_in(place):
    place.answers(
        running="c0ffee\n",
        access='{"event":"program.exit","agent":"access","code":2,"message":"say \\"that\\" again"}',
    )
    said = place.run("seed")
    assert said.returncode == 2
    assert said.stderr == '  say "that" again\n'
    assert not place.asked()[-1].endswith("operator seed")


def test_a_simulation_that_ends_early_starts_again_what_it_stopped(place):
    place.answers(running="c0ffee\n", code="5", simulate="stop a now\n")
    assert place.run("simulate", "a").returncode == 5
    assert place.asked()[-1].endswith(" start a")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_simulation_whose_terminal_is_closed_starts_again_what_it_stopped(place, number):
    """Each process of it gets the signal, and nobody reads any more what they write."""
    place.answers(running="c0ffee\n", code="0", simulate="stop a now\n", goes_on="")
    with subprocess.Popen(
        ["sh", place.root / "tools/fleet.sh", "simulate", "a"],
        env={"PATH": f"{place.root / 'bin'}:/usr/bin:/bin", "HOME": str(place.root)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as simulating:
        assert simulating.stdout.readline() == "a stopped\n"
        simulating.stdout.close()
        os.killpg(simulating.pid, number)
        until(lambda: place.asked()[-1].endswith(" start a"), what="the start")


def test_a_simulation_goes_on_when_nobody_reads_it_and_a_stop_that_fails_is_undone(place):
    place.answers(running="c0ffee\n", code="0", simulate="a line\nstop a now\n")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            ["sh", place.root / "tools/fleet.sh", "simulate", "a"],
            env={"PATH": f"{place.root / 'bin'}:/usr/bin:/bin", "HOME": str(place.root)},
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0
    assert place.asked()[-1].endswith(" start a")
    place.answers(fails="")
    assert place.run("simulate", "a").returncode == 1
    assert place.asked()[-1].endswith(" start a")


def test_a_network_that_is_missing_is_made_and_what_came_up_is_summed_up(place):
    place.answers(log__notifier='{"event":"channels.named","channels":["webhook to h:9","email to m:25"]}\n')
    said = place.run("up").stdout
    assert "The network some-bus is made." in said
    assert "network create some-bus" in place.asked()
    assert "redis://127.0.0.1:7379" in said
    assert "Notifications: webhook to h:9, email to m:25\n" in said
    assert "make simulate SVC=" in said
    place.answers(log__notifier="", network="")
    again = place.run("up").stdout
    assert "Nobody is notified: set WEBHOOK_URL" in again
    assert "is made" not in again


def test_a_server_whose_configuration_was_written_after_its_start_is_restarted_one_after_the_other(place):
    early, late = "2026-11-20T10:00:00.123456789Z", "2026-11-20T12:00:00.123456789Z"
    written = datetime(2026, 11, 20, 11, tzinfo=UTC).timestamp()
    for name in ("redis/limits.conf", "redis/start.sh", "prometheus/rules.yml", "brand/README.md"):
        path = place.root / "deploy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (written, written - 10_000 * (path.name == "start.sh")))
    (place.root / "truth.json").touch()
    mounts = [
        (early, "system-redis", "deploy/redis/start.sh"),
        (early, "system-redis", "deploy/redis/limits.conf"),
        (late, "market-redis", "deploy/redis/limits.conf"),
        (early, "grafana", "deploy/redis/start.sh"),
        (early, "prometheus", "deploy/prometheus"),
        (early, "board", "deploy/brand"),
        (early, "operator", "truth.json"),
    ]
    lines = [f"{started} {svc} {place.root / path}\n" for started, svc, path in mounts]
    place.answers(network="", mounts="".join(lines))
    said = place.run("up")
    assert said.returncode == 0
    assert re.findall(r"^(\S+) is restarted: ", said.stdout, re.MULTILINE) == ["prometheus", "system-redis"]
    done = [line for line in place.asked() if " restart " in line or "--no-deps" in line]
    assert done == [
        f"compose --progress quiet {what} {svc}"
        for svc in ("prometheus", "system-redis")
        for what in ("restart", "up --detach --no-deps --wait")
    ]
    assert "is restarted" not in place.run("up", "board").stdout


def test_a_fleet_that_is_published_is_summed_up_with_the_line_for_the_other_machine(place):
    assert "marketswarm join" not in (plain := place.run("up").stdout)
    assert "redis-cli -p 7379 SUBSCRIBE" in plain
    assert "may look at the buses, and no more" in plain
    logged = [{"event": "access.published", "fingerprint": each * 64} for each in "0a"]
    for published, host in (
        ("192.0.2.10:7379", "192.0.2.10"),
        ("fd00::2:7379", "[fd00::2]"),
        ("[::2]:7379", "[::2]"),
    ):
        place.answers(
            published=f"{published}\n",
            pong="NOAUTH Authentication required.\n",
            log__access="\n".join(json.dumps(each, separators=(",", ":")) for each in logged),
        )
        said = place.run("up").stdout
        assert f"  marketswarm join rediss://join@{host}:7379 \\\n    --fingerprint {'a' * 64}\n" in said
        assert "secrets/join" in said
        assert "may not even look" in said
        assert "redis-cli" not in said, "who has no password may not"


@pytest.mark.parametrize(
    ("files", "truth"),
    [
        ("compose.yaml", "./examples/healing-fleet.json"),
        ("compose.yaml:compose.market.yaml", "./examples/healing-market.json"),
    ],
)
def test_who_lets_medic_act_is_told_which_truth_takes_the_place_of_theirs(place, files, truth):
    said = place.run("up", HEALING="1", COMPOSE_FILE=files).stdout
    assert f"The truth is {truth}, and no other." in said
    own = place.run("up", HEALING="1", COMPOSE_FILE=files, TRUTH_FILE="./truth.json").stdout
    assert "The truth is" not in own


def test_a_port_that_is_taken_is_named_with_the_way_on(place):
    place.answers(fails="", state__access="running 0\n", state__system_redis="created 0\n")
    said = place.run("up")
    assert said.returncode == 1
    assert "system-redis did not start" in said.stderr
    assert "make up SYSTEM_REDIS_PORT=7379" in said.stderr
    # as Compose writes it
    for value, address in (("0.0.0.0", "0.0.0.0"), ("'[::]'", "[::]")):  # noqa: S104 - refused
        place.answers(config=f"    environment:\n      MARKETSWARM_PUBLISH: {value}\n")
        wrong = place.run("up").stderr
        assert f"MARKETSWARM_PUBLISH is {address}: it has to be one address of this host" in wrong
    place.answers(config="      MARKETSWARM_PUBLISH: null\n")
    assert place.run("up").stderr == said.stderr


def test_where_no_container_could_be_made_docker_has_said_why(place):
    place.answers(fails="", state__system_redis="created 0\n")
    said = place.run("up")
    assert (said.returncode, said.stderr) == (1, "\nNothing was started.\n")


def test_mistakes_in_the_truth_are_told_as_bootstrap_found_them(place):
    place.answers(
        fails="",
        state__access="exited 0\n",
        state__bootstrap="exited 2\n",
        log__bootstrap='{"event":"truth.error","problem":"services.a: \\"x\\" is no number"}\n'
        '{"event":"program.exit","code":2,"message":"truth.json has 1 mistake; nothing was written"}\n',
    )
    said = place.run("up").stderr
    assert '\nbootstrap failed:\n  services.a: "x" is no number\n  truth.json has 1 mistake' in said


def test_the_end_says_what_stays_and_takes_the_standby_with_it(place):
    assert "volumes" in place.run("down").stdout
    assert place.asked()[-1] == "compose --progress quiet --profile * down"
    assert "volumes" not in place.run("down", "-v").stdout


def test_without_docker_it_says_what_goes_without(place):
    place.docker.unlink()
    said = subprocess.run(
        ["/bin/sh", place.root / "tools/fleet.sh", "up"],
        env={"PATH": str(place.root / "bin")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode != 0
    assert "make run" in said.stderr
