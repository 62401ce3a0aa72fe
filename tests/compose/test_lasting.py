"""What lasts: an upgrade while beats flow, stops in order, volumes over `down`; and what does not."""

import contextlib
import time

import pytest
import redis

from support.pages import shown
from support.rig.compose import AGENTS, BUSES, IMAGE, PAGE, Project, begins_anew

NEWER = """
FROM {}
USER 0
RUN sed -i 's/^__version__ = ".*"/__version__ = "newer"/' /app/marketswarm/__init__.py
USER 10001:10001
"""
VERSION = "import marketswarm; print(marketswarm.__version__)"


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


def test_what_is_told_to_stop_ends_in_order_and_within_its_grace(fleet):
    fleet.compose("stop")
    codes = {service: one.exit_code for service, one in fleet.containers().items()}
    fleet.compose("start")
    fleet.healthy()
    assert codes == dict.fromkeys(codes, 0)  # at the end of its grace it would have been killed: 137


def test_truth_log_and_passwords_are_kept_when_the_containers_go(fleet):
    def kept() -> list[object]:
        fleet.passwords_anew()
        return [
            (fleet.ask("GET", "truth:doc", bus=bus), fleet.revision(bus), fleet.passwords) for bus in BUSES
        ]

    before, told = kept(), {bus: fleet.told(bus) for bus in BUSES}
    fleet.make("down")
    assert fleet.containers() == {}
    fleet.compose("up", "--detach", "--wait", *BUSES)
    assert kept() == before
    for bus in BUSES:  # of the stop of a test before, the healer may have told a timeout later
        assert fleet.told(bus)[: len(told[bus])] == told[bus]
    said = fleet.make("up", within=240)
    assert "All containers are well" in said
    assert not fleet.unhealthy()
    assert fleet.revision() == before[0][1]


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


def test_down_with_its_volumes_leaves_nothing(engine, tmp_path):
    with Project(tmp_path) as project:
        project.script("docker network create marketswarm-bus")
        project.compose("up", "--build", "--detach", "mesh", within=240)
        assert {"mesh", *BUSES} <= set(project.containers())
        assert all(project.left().values())
        project.compose("down", "--volumes")
        project.run("docker", "network", "rm", project.network)
        assert project.left() == {"containers": [], "volumes": [], "networks": []}
