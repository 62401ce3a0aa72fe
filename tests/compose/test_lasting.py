"""What lasts: an upgrade while beats flow, stops in order, volumes over `down`; and what does not."""

import contextlib
import time

import pytest

from support.rig.compose import AGENTS, BUSES, IMAGE, begins_anew

NEWER = """
FROM {}
USER 0
RUN sed -i 's/^__version__ = ".*"/__version__ = "newer"/' /app/marketswarm/__init__.py
USER 10001:10001
"""
VERSION = "import marketswarm; print(marketswarm.__version__)"


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
    def kept() -> list[object]:
        fleet.passwords_anew()
        return [
            (fleet.ask("GET", "truth:doc", bus=bus), fleet.revision(bus), fleet.passwords) for bus in BUSES
        ]

    before, told = kept(), {bus: fleet.told(bus) for bus in BUSES}
    fleet.compose("stop")
    codes = {service: one.exit_code for service, one in fleet.containers().items()}
    assert codes == dict.fromkeys(codes, 0)  # at the end of its grace it would have been killed: 137
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
