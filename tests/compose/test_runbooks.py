"""The runbooks of the operator's document and its known good checks, letter by letter; what lasts."""

import contextlib
import json
import re
import time

import pytest
import redis

from support.pages import get_command, section, shown
from support.rig.compose import (
    AGENTS,
    BUSES,
    IMAGE,
    PAGE,
    RUNBOOKS,
    WATCHED,
    Project,
    Subscriber,
    begins_anew,
    patiently,
)

pytestmark = pytest.mark.needs("redis-cli", "make")
NEWER = """
FROM {}
USER 0
RUN sed -i 's/^__version__ = ".*"/__version__ = "newer"/' /app/marketswarm/__init__.py
USER 10001:10001
"""
VERSION = "import marketswarm; print(marketswarm.__version__)"


def find_check(part: str) -> str:
    """Return the one known good check that has `part` in it, as the operator's document writes it."""
    [found] = [
        each
        for each in re.findall(r"^\* `([^`]+)`", section(RUNBOOKS, "Known Good Checks"), re.MULTILINE)
        if part in each
    ]
    return found


def test_a_fresh_init_brings_up_all_that_the_truth_names_and_nothing_is_missed(fleet):
    found = fleet.containers()
    assert not fleet.unhealthy()
    assert (found["bootstrap"].status, found["bootstrap"].exit_code) == ("exited", 0)
    assert set(json.loads(fleet.truth.read_text(encoding="utf-8"))["services"]) == set(AGENTS)
    for bus in BUSES:
        assert fleet.ask("GET", "truth:doc", bus=bus) == fleet.truth.read_text(encoding="utf-8")

    def well() -> bool:
        lines = fleet.script(get_command(RUNBOOKS, "Quick Status", "KEYS")).splitlines()
        said = [json.loads(line) for line in lines if line]
        return {one["svc"] for one in said if one["type"].endswith("_ok")} >= set(AGENTS)

    patiently(well, 60, "an ok for each")
    assert [event["svc"] for event in fleet.begun_with if event["type"].endswith("_miss")] == []


def test_all_are_heard_and_known_to_be_up(fleet):
    words = fleet.script(get_command(RUNBOOKS, "Quick Status", "NUMSUB")).split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counts.keys() == {f"{svc}:heartbeat" for svc in WATCHED}
    assert min(counts.values()) >= 1
    rows = {words[0]: words for words in map(str.split, fleet.make("status").splitlines()) if words}
    assert {svc: "up" in rows[svc] for svc in WATCHED} == dict.fromkeys(WATCHED, True)
    assert "rss_agg" in fleet.make("health", "ARGS=rss_agg")


def test_the_known_good_checks_are_good(fleet):
    assert "marketswarm-bus" in fleet.script(find_check("config"))
    for said in (fleet.script(find_check("compose ps")), fleet.make("ps")):
        rows = [line for line in said.splitlines() if " Up " in line]
        assert [svc for svc in (*BUSES, *AGENTS) if not any(svc in row for row in rows)] == []
    logs = fleet.script(find_check("logs"))
    assert "listening" in logs
    assert "monitoring" in logs
    assert '"event":"monitor.monitoring"' in fleet.make("logs", "SVC=healer")


def test_a_simulated_failure_is_published_and_sent_to_people_and_so_is_its_end(fleet, receiver, tmp_path):
    receiver.seen.clear()
    tails = [get_command(RUNBOOKS, "Quick Status", "SUBSCRIBE"), find_check("SUBSCRIBE")]
    with contextlib.ExitStack() as ends:
        both = [
            ends.enter_context(Subscriber(fleet.here(tail), tmp_path / f"alerts{number}"))
            for number, tail in enumerate(tails)
        ]
        patiently(lambda: all("healer:alerts" in each.text() for each in both), 10, "subscriptions")
        stop, start = shown(RUNBOOKS, "Simulate failure").splitlines()
        fleet.script(stop)
        patiently(lambda: all(each.outages("rss_agg") for each in both), 60, "the miss")
        assert receiver.wait("heartbeat_miss", "rss_agg", 30)["timeout_sec"] == 30
        fleet.script(start)
        receiver.wait("heartbeat_ok", "rss_agg", 60)
        wanted = ["heartbeat_miss", "heartbeat_ok"]
        patiently(lambda: all(len(each.outages("rss_agg")) > 1 for each in both), 30, "the ok")
        assert [[event["type"] for event in each.outages("rss_agg")] for each in both] == [wanted] * 2
    fleet.healthy()


def test_a_forced_reseed_of_the_same_truth_is_missed_by_nobody_and_restarts_no_agent(fleet):
    before, begun, revision = fleet.containers(), len(fleet.told()), fleet.revision()
    fleet.script(shown(RUNBOOKS, "Force reseed truth"))
    after = fleet.containers()
    assert {svc: after[svc].id for svc in (*AGENTS, *BUSES)} == {
        svc: before[svc].id for svc in (*AGENTS, *BUSES)
    }
    assert after["bootstrap"].id != before["bootstrap"].id
    assert (fleet.revision(), fleet.told()[begun:]) == (revision, [])


def test_a_reseed_of_the_same_changes_nothing(fleet):
    revision = fleet.revision()
    fleet.make("seed")
    assert fleet.revision() == revision


def test_a_new_password_is_in_force_and_the_old_one_is_refused(fleet):
    old, others = fleet.url(user="rss_agg"), fleet.passwords | {"rss_agg": ""}
    at = time.monotonic()
    with contextlib.closing(fleet.beats("rss_agg")) as heard:
        fleet.script(shown(PAGE, "New passwords"))
        begins_anew(heard, at)
    fleet.passwords_anew()
    assert fleet.url(user="rss_agg") != old
    assert fleet.passwords | {"rss_agg": ""} == others
    assert fleet.ask("PING", user="rss_agg")
    with redis.Redis.from_url(old) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    fleet.healthy()


@pytest.mark.nightly("a crash of a container is missed by nobody in every run, and a password is renewed")
def test_an_upgrade_of_one_agent_after_the_other_is_missed_by_nobody(fleet):
    newer = f"{fleet.name}-newer"
    fleet.run("docker", "build", "--tag", f"{IMAGE}:{newer}", "-", feed=NEWER.format(fleet.image))
    begun = len(fleet.told())
    with contextlib.ExitStack() as ends:
        heard = {svc: ends.enter_context(contextlib.closing(fleet.beats(svc))) for svc in AGENTS}
        fleet.env["MARKETSWARM_TAG"] = newer
        for svc in AGENTS:
            at = time.monotonic()
            fleet.compose("up", "--detach", "--no-deps", svc)
            begins_anew(heard[svc], at)
    fleet.healthy()
    assert {fleet.inside(svc, VERSION).strip() for svc in AGENTS} == {"newer"}
    assert fleet.told()[begun:] == []


@pytest.mark.nightly("test_access.py: what starts along has a folder to mount, whatever the truth names")
def test_by_name_a_fleet_starts_whose_truth_does_not_name_all_that_the_healer_brings(engine, tmp_path):
    with Project(tmp_path) as project:
        services = json.loads(project.truth.read_text(encoding="utf-8"))["services"]
        named = {svc: services[svc] for svc in ("mesh", "healer", "sentinel", "notifier", "board")}
        project.truth.write_text(json.dumps({"services": named}), encoding="utf-8")
        project.run("docker", "network", "create", project.network)
        project.compose("up", "--build", "bootstrap", within=240)
        project.compose("up", "--detach", "mesh", "healer", "sentinel", within=120)
        patiently(lambda: not project.unhealthy((*BUSES, *named)), 90, "all that the truth names")
        patiently(lambda: project["medic"].restarts, 60, "the one without a section, which ends with 2")
        override = tmp_path / "override.yaml"
        override.write_text("services: {medic: {profiles: [never]}}", encoding="utf-8")
        project.env["COMPOSE_FILE"] = f"compose.yaml:{override}"
        project.compose("up", "--detach", "--remove-orphans", "healer")
        assert project["healer"].status == "running"


def test_a_stop_ends_in_order_and_truth_log_and_passwords_outlive_the_containers(fleet):
    """It comes last: of the fleet, no more is started again than the buses."""

    def kept() -> list[object]:
        fleet.passwords_anew()
        return [
            (fleet.ask("GET", "truth:doc", bus=bus), fleet.revision(bus), fleet.passwords) for bus in BUSES
        ]

    before, told = kept(), {bus: fleet.told(bus) for bus in BUSES}
    fleet.compose("stop")
    codes = {service: one.exit_code for service, one in fleet.containers().items()}
    assert codes == dict.fromkeys(codes, 0)  # at the end of its grace it would have been killed: 137
    assert "volumes" in fleet.make("down")
    assert fleet.containers() == {}
    fleet.compose("up", "--detach", "--wait", *BUSES)
    assert kept() == before
    for bus in BUSES:  # of the stop, the healer may have told before it ended
        assert fleet.told(bus)[: len(told[bus])] == told[bus]
