"""A fleet in containers that MARKETSWARM_PUBLISH publishes; another machine joins it as its page says."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.pages import ROOT, blocks, get_command, shown
from support.rig.compose import BUSES, PAGE, Project, patiently
from support.rig.machines import HAS_IPV6, Machine, OtherMachine, require_closed_bus

OTHER = "docs/second-machine.md"
SHOWN_ADDRESS = "192.0.2.10"
SHOWN_FINGERPRINT = re.findall(r"--fingerprint ([0-9a-f]{64})", (ROOT / OTHER).read_text(encoding="utf-8"))[0]
PUBLISH = "Publish the buses"
REFUSED = 7
"""The exit code of curl where nothing listens; where nothing answers, it is 28."""
pytestmark = [
    pytest.mark.needs("ip", "curl", "script", "redis-cli", "make"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces"),
]


class Published:
    """The fleet, published as the page says at an address of this machine, and the other machine."""

    def __init__(self, fleet: Project, address: str, other: Machine) -> None:
        self.fleet, self.address, self.other = fleet, address, other
        line = get_command(PAGE, PUBLISH, "echo")
        assert SHOWN_ADDRESS in line
        assert line.endswith(">>.env")
        dotenv = other.folder / ".env"  # the checkout may have one of its own
        fleet.env["COMPOSE_ENV_FILES"] = str(dotenv)
        fleet.script(line.replace(SHOWN_ADDRESS, address).replace(">>.env", f">>{dotenv}"))
        printed = fleet.script(get_command(PAGE, PUBLISH, "make up"), within=280)
        [self.fingerprint] = re.findall(r"--fingerprint ([0-9a-f]{64})", printed)
        [summary] = [each for each in blocks(ROOT / PAGE, "text") if SHOWN_FINGERPRINT in each]
        for line in self.here(summary).splitlines()[1:]:
            assert line in printed
        self.password = fleet.script(get_command(PAGE, PUBLISH, "cat /access")).strip()

    def here(self, line: str) -> str:
        """Return a line of that page for this fleet: with its address, its port and its certificate."""
        for page, ours in (
            (SHOWN_ADDRESS, self.address),
            (":6379", f":{self.fleet.ports['system-redis']}"),
            (SHOWN_FINGERPRINT, self.fingerprint),
        ):
            line = line.replace(page, ours)
        return line

    def step(self, heading: str) -> list[str]:
        return self.here(shown(OTHER, heading)).splitlines()

    def said(self, line: str, **env: str) -> str:
        """Type a line on the other machine that must succeed; return what it printed to stdout."""
        done = self.other.run(line, **env)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        return done.stdout

    def by_host(self) -> str:
        return self.fleet.compose("run", "--rm", "operator", "status", "--by", "host")


@pytest.fixture
def published(engine: None, tmp_path: Path) -> Iterator[Published]:
    with Project(tmp_path) as fleet, OtherMachine(tmp_path) as (address, other):
        yield Published(fleet, address, other)


def test_another_machine_joins_by_the_lines_of_its_page_and_nobody_comes_in_otherwise(published):
    its_services_join_and_are_up(published)
    curl_pings_the_board(published)
    no_client_comes_in_without_a_password_or_without_tls(published)
    without_the_variable_the_ports_are_closed(published)


def its_services_join_and_are_up(published: Published) -> None:
    fleet, other = published.fleet, published.other
    truth = json.loads(fleet.truth.read_text(encoding="utf-8"))
    [added] = [json.loads(each) for each in blocks(ROOT / OTHER, "json")]
    truth["services"] |= added["services"]
    fleet.truth.write_text(json.dumps(truth), encoding="utf-8")
    fleet.make("seed")

    [join] = published.step("3. The other machine joins")
    printed = other.answer(join, "Password of join: ", published.password)
    _, joined, *_ = blocks(ROOT / OTHER, "text")
    for line in published.here(joined).splitlines():
        assert line.strip() in printed
    beat, run = shown(OTHER, "4. The other machine beats").splitlines()
    (other.folder / "nginx.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    (other.folder / "backup.sh").write_text("#!/bin/sh\necho 12 files\n", encoding="utf-8")
    (other.folder / "backup.sh").chmod(0o755)
    with other.start(beat.replace("/run/nginx.pid", "nginx.pid")) as nginx:
        at_its_host = rf"^{re.escape(os.uname().nodename)} +all 1 up\nnginx +up "
        patiently(lambda: re.search(at_its_host, published.by_host(), re.MULTILINE), 90, published.by_host())
        run = run.replace("/var/lib/beats", str(other.folder)).replace("/usr/local/bin/", "")
        assert "12 files" in published.said(run)
        assert '"ok":true' in fleet.ask("GET", "run:backup", user="operator")
        nginx.signal(signal.SIGINT)
        assert nginx.wait() == 0, nginx


def curl_pings_the_board(published: Published) -> None:
    """Over TLS alone; to read, it wants a token."""
    fleet = published.fleet
    token, line = shown(OTHER, "5. With curl alone").splitlines()
    words = token.removeprefix("marketswarm ").split()
    uuid = fleet.compose("run", "--rm", "operator", *words).split()[0]
    curl = published.said(f"{line} --board-port {fleet.board_port}").strip()
    assert f"https://{published.address}:" in curl
    assert patiently(lambda: published.other.run(curl, UUID=uuid).stdout == "OK", 30, "a ping")
    page = f"https://{published.address}:{fleet.board_port}/api/v1/fleet"
    trust = re.findall(r"--cacert \S+", curl)[0]
    as_another = published.said(f"curl -s {trust} -o page -w %{{http_code}} {page}")
    assert as_another == "401", "a page needs a token"
    assert published.other.run(curl.replace("https:", "http:"), UUID=uuid).stdout != "OK"


def no_client_comes_in_without_a_password_or_without_tls(published: Published) -> None:
    certificate = published.other.folder / f".marketswarm/joined-{published.fingerprint[:16]}.pem"
    for bus in BUSES:
        port = published.fleet.ports[bus]
        require_closed_bus(published.other, published.address, port, certificate, published.password)


def without_the_variable_the_ports_are_closed(published: Published) -> None:
    fleet = published.fleet
    ports = [*fleet.ports.values(), fleet.board_port]
    fleet.env["COMPOSE_ENV_FILES"] = os.devnull
    fleet.compose("up", "--detach", within=180)
    assert "NOAUTH" in fleet.script("redis-cli PING")
    fleet.script("\n".join(shown(PAGE, PUBLISH).splitlines()[-2:]))
    patiently(lambda: "PONG" in fleet.script("redis-cli PING"), 30, "a client without a password")
    fleet.healthy()
    fleet_ports = [each.said["NetworkSettings"]["Ports"] for each in fleet.containers().values()]
    hosts = {to["HostIp"] for each in fleet_ports for found in each.values() for to in found or ()}
    assert hosts == {"127.0.0.1"}
    for port in ports:
        done = published.other.run(f"curl -sS -m 5 telnet://{published.address}:{port}")
        assert done.returncode == REFUSED, (port, done)


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
def test_a_machine_that_the_engine_gives_the_gateways_address_reads_no_page_without_a_token(engine, tmp_path):
    """As each that comes over IPv6 to a network without it: the engine's own proxy connects in its place."""
    machine = OtherMachine(tmp_path)
    with Project(tmp_path) as fleet, machine as (_, other):
        address = machine.addresses_v6[0]
        fleet.env["MARKETSWARM_PUBLISH"] = f"[{address}]"
        assert f"rediss://join@[{address}]:" in fleet.make("up", within=280)

        def ask(path: str) -> str:
            url = f"https://[{address}]:{fleet.board_port}{path}"
            return other.run(f"curl -sk -o page -w %{{http_code}} '{url}'").stdout

        assert (ask("/healthz"), ask("/api/v1/fleet")) == ("200", "401")
