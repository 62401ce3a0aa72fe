"""The truth of a market station whose medic may act, `examples/healing-market.json`, in a real fleet.

Its ladders are of remedies, and of no owner. Here `marketswarm up` restarts the processes, and with
containers the engine does, by the same last rung (`tests/compose/test_market.py`). The rungs before that are
for services that beat `degraded`: to an agent that stands still the restart is left, whatever its ladder is.
"""

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from marketswarm.operator.healing import BESIDE, TimelineEntry
from marketswarm.testing import Fleet
from support.rig.process import descendants

TRUTH = Path(__file__).parents[2] / "examples/healing-market.json"
QUICK = {"every_sec": 0.2, "wait_sec": 0.2, "settle_sec": 120, "stable_sec": 2, "start_grace_sec": 1}
"""Instead of minutes; what the medic may do, and by which ladders, is that of the truth."""
LADDERS = {
    "sources": ["resume_sources", "reload_series", "restart"],
    "bars": None,
    "archive": ["reconnect", "repeat_backup", "restart"],
    "board": ["reconnect", "restart"],
}
WITHIN_SEC = 240.0
HEALED = ["opened", "waiting", "intended restart", "acted restart", "verified restart", "resolved"]


@pytest.fixture
def folder():
    """A folder that the user of the database can reach, which a test's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="healing-market-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def load_truth():
    document = json.loads(TRUTH.read_bytes())
    document["services"]["medic"]["settings"] |= QUICK
    return document


def find_pid(fleet, svc):
    lines = ((pid, line) for pid, line in descendants(fleet.pid))
    return next((pid for pid, line in lines if f"-m services.{svc} " in f"{line} "), None)


def read_steps(fleet, svc):
    """Return the steps of a service's outages, but for those that others did."""
    raws = (fields["entry"].encode() for _, fields in fleet.bus("system-redis").xrange("medic:incidents"))
    entries = [each for each in map(TimelineEntry.parse, raws) if each.svc == svc]
    told = [each for each in entries if each.what not in (*BESIDE, "refused")]  # it may be too young at first
    return [f"{each.what} {each.remedy}".strip() if each.remedy != "wait" else each.what for each in told]


def is_quiet(fleet):
    bus = fleet.bus("system-redis")
    are_up = all('"up"' in (bus.hget("healer:roster", svc) or "") for svc in LADDERS)
    return are_up and not [name for name in bus.hkeys("medic:state") if name.startswith("repair:")]


@pytest.mark.nightly(
    "tests/live/test_medic.py, with one agent; tests/deploy/test_compose_file.py, the ladders"
)
def test_an_agent_of_the_market_that_stands_still_is_restarted_by_its_ladder_and_verified(folder):
    document = load_truth()
    targets = document["services"]["medic"]["settings"]["targets"]
    assert {svc: targets[svc].get("ladder") for svc in LADDERS} == LADDERS
    with Fleet(folder, *LADDERS, "medic", truth=document, interval_sec=0.5, timeout_sec=4) as fleet:
        for svc in LADDERS:
            fleet.until(lambda: is_quiet(fleet), WITHIN_SEC, "no open outage")
            fleet.bus("system-redis").delete("medic:incidents")  # of a slow start
            before, boot = {each: find_pid(fleet, each) for each in LADDERS}, fleet.beat(svc)["boot"]
            os.kill(before[svc], signal.SIGSTOP)
            done = lambda svc=svc: "resolved" in read_steps(fleet, svc)  # noqa: E731 - asked again and again
            fleet.until(done, WITHIN_SEC, f"the end of the outage of {svc}")
            assert read_steps(fleet, svc) == HEALED
            assert fleet.beat(svc)["boot"] != boot
            after = {each: find_pid(fleet, each) for each in LADDERS}
            assert None not in after.values()
            assert [each for each in LADDERS if after[each] != before[each]] == [svc]
