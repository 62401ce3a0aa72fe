"""The runbooks of the operator's document and its known good checks, as the page shows them; what lasts."""

import contextlib
import json
import time

import pytest
import redis

from support.pages import get_command, shown
from support.rig.compose import AGENTS, BUSES, IMAGE, PAGE, WATCHED, begins_anew, patiently

pytestmark = pytest.mark.needs("redis-cli", "make")
NEWER = """
FROM {}
USER 0
RUN sed -i 's/^__version__ = ".*"/__version__ = "newer"/' /app/marketswarm/__init__.py
USER 10001:10001
"""
VERSION = "import marketswarm; print(marketswarm.__version__)"


def test_a_fresh_init_brings_up_all_of_it_and_the_known_good_checks_are_good(fleet):
    found = fleet.containers()
    assert not fleet.unhealthy()
    assert (found["bootstrap"].status, found["bootstrap"].exit_code) == ("exited", 0)
    for bus in BUSES:
        assert fleet.ask("GET", "truth:doc", bus=bus) == fleet.truth.read_text(encoding="utf-8")
    assert "marketswarm-bus" in fleet.script(get_command(PAGE, "Known good checks", "config"))
    for said in (fleet.script(get_command(PAGE, "Known good checks", "compose ps")), fleet.make("ps")):
        assert [svc for svc in (*BUSES, *AGENTS) if svc not in said] == []
    logs = fleet.script(get_command(PAGE, "Known good checks", "logs"))
    assert "listening" in logs
    assert "monitoring" in logs
    assert '"event":"monitor.monitoring"' in fleet.make("logs", "SVC=healer")


def test_all_are_heard_and_known_to_be_up(fleet):
    words = fleet.script(get_command(PAGE, "Quick status", "NUMSUB")).split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counts.keys() == {f"{svc}:heartbeat" for svc in WATCHED}
    assert min(counts.values()) >= 1

    def well() -> bool:
        said = fleet.script(get_command(PAGE, "Quick status", "KEYS")).splitlines()
        found = [json.loads(line) for line in said if line]
        return {one["svc"] for one in found if one["type"] == "heartbeat_ok"} >= set(WATCHED)

    patiently(well, 30, "an ok for each")
    rows = {words[0]: words for words in map(str.split, fleet.make("status").splitlines()) if words}
    assert {svc: "up" in rows[svc] for svc in WATCHED} == dict.fromkeys(WATCHED, True)
    assert "rss_agg" in fleet.make("health", "ARGS=rss_agg")


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
