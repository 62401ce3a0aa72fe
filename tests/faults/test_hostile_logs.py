"""FAILURES row 61: what stands in a log, or in its place, keeps no service from being healed."""

import os
import signal
import sys
from subprocess import run

import orjson

from marketswarm.operator.healing import TimelineEntry, fold_incidents
from marketswarm.testing import Fleet
from support.rig.process import descendants

BEATS = {"interval_sec": 0.3, "timeout_sec": 1.5}
SETTINGS = {
    "mode": "act",
    "every_sec": 0.2,
    "wait_sec": 0.2,
    "settle_sec": 20,
    "stable_sec": 1,
    "start_grace_sec": 1,
    "rules_every_sec": 1,
}
TRUTH = {
    "services": {
        "healer": {"heartbeat": BEATS},
        "mesh": {"heartbeat": BEATS},
        "medic": {"heartbeat": BEATS, "settings": SETTINGS},
    }
}
HOSTILE = "x-api-" * 10_000
"""Words of one of the rules about secrets, which once took 43 s; those of others are in its tests."""


def pid_of(fleet, svc):
    return next((pid for pid, line in descendants(fleet.pid) if f"services.{svc}" in line), None)


def incidents(bus):
    entries = [TimelineEntry.parse(fields["entry"].encode()) for _, fields in bus.xrange("medic:incidents")]
    return fold_incidents(entries)


def test_row_61_a_hostile_line_a_pipe_and_a_link_keep_no_service_from_being_healed(tmp_path):
    with Fleet(tmp_path, "mesh", "medic", truth=TRUTH, timeout_sec=1.5) as fleet:
        bus, logs = fleet.bus("system-redis"), tmp_path / "fleet" / "logs"
        (tmp_path / "key").write_text("kite horse\n")
        os.mkfifo(logs / "mesh@2.log")
        (logs / "mesh@3.log").symlink_to(tmp_path / "key")
        with (logs / "mesh.log").open("a") as file:
            file.write(f"{HOSTILE}\n")
        pid, before = pid_of(fleet, "mesh"), len(fleet.alerts())
        os.kill(pid, signal.SIGSTOP)
        fleet.until(
            lambda: any(each.resolution == "healed" for each in incidents(bus)), 20.0, "mesh to be healed"
        )
        assert pid_of(fleet, "mesh") != pid
        missed = [event["svc"] for event in fleet.alerts()[before:] if event["type"] == "heartbeat_miss"]
        assert set(missed) == {"mesh"}, "the medic works all the time"
        fleet.until(
            lambda: "mesh@" in str(fleet.beat("medic")), what="the medic to say what it does not read"
        )
        assert fleet.beat("medic")["status"] == "degraded"
        command = [sys.executable, "-m", "marketswarm", "incident", incidents(bus)[0].id]
        shown = run([*command, "--data", str(tmp_path / "fleet")], capture_output=True, check=True, text=True)
        assert "lines of its log:" in shown.stdout
        assert "kite horse" not in shown.stdout
        lines = map(orjson.loads, (logs / "medic.log").read_bytes().splitlines())
        refused = [line["file"] for line in lines if line["event"] == "medic.log_unreadable"]
        assert sorted(refused) == ["mesh@2.log", "mesh@3.log"], "each once"
