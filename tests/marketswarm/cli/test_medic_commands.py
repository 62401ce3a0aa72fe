"""`medic approve` and `incident` on real servers: a name that nothing has, and what programs read."""

import time

import orjson
import pytest

from marketswarm.keys import MEDIC_APPROVALS, MEDIC_INCIDENTS, MEDIC_STATE
from marketswarm.operator.healing import ENTRY_FIELD, FUSE, EntryKind, TimelineEntry
from support.rig.shell import SERVICES

pytestmark = pytest.mark.live


@pytest.fixture
def system(shell, buses):
    """system-redis of a fleet with a medic."""
    shell.write({"services": {**SERVICES, "medic": {}}})
    assert shell("seed").returncode == 0
    return buses[0]


def test_what_was_approved_is_json_for_programs(shell, system):
    system.cmd("HSET", MEDIC_STATE, FUSE, orjson.dumps({"blown_at": time.time()}))
    ended = shell("medic", "approve", FUSE, "--by", "kim", "--json")
    assert ended.returncode == 0, ended.stderr
    assert orjson.loads(ended.stdout) == {"id": FUSE, "svc": None, "by": "kim"}
    assert system.cmd("HKEYS", MEDIC_APPROVALS) == [FUSE]


def test_a_proposal_that_waits_for_no_one_has_the_nearest_that_does(shell, system):
    ended = shell("medic", "approve", "fus", "--json")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert (
        "fus waits for no one; those that wait, as `marketswarm medic status` shows them: none"
        in ended.stderr
    )
    system.cmd("HSET", MEDIC_STATE, FUSE, orjson.dumps({"blown_at": time.time()}))
    assert "fus waits for no one; did you mean fuse?" in shell("medic", "approve", "fus").stderr


def test_an_incident_that_is_not_on_record_has_the_nearest_that_is(shell, system):
    entry = TimelineEntry(incident="mesh.1795400736319", ts=time.time(), svc="mesh", what=EntryKind.OPENED)
    system.cmd("XADD", MEDIC_INCIDENTS, "*", ENTRY_FIELD, entry.encode())
    ended = shell("incident", "mesh.1795400736318")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "marketswarm: no incident mesh.1795400736318 is on record; did you mean mesh.1795400736319?\n"
    )
