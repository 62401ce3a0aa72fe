"""What people read of an outage that the medic heals on a real fleet: one line, and no miss."""

import os
import signal

import orjson

from marketswarm.testing import Fleet
from support.rig.process import descendants
from support.rig.receiver import Receiver

BEATS = {"interval_sec": 0.3, "timeout_sec": 1.5}
MEDIC = {"mode": "act", "every_sec": 0.2, "wait_sec": 0.2, "stable_sec": 3, "start_grace_sec": 1}
TRUTH = {
    "services": {
        "healer": {"heartbeat": BEATS},
        "mesh": {"heartbeat": BEATS},
        "medic": {"heartbeat": BEATS, "settings": MEDIC},
        "notifier": {"heartbeat": BEATS, "settings": {"digest_sec": 0}},
    }
}


def freeze_and_await_return(fleet, bus):
    """Freeze mesh; return once the medic has nothing to do any more."""
    is_quiet = lambda: not any(name.startswith("repair:") for name in bus.hkeys("medic:state"))  # noqa: E731
    fleet.until(is_quiet, 60, "no open outage")
    (pid,) = [pid for pid, line in descendants(fleet.pid) if "services.mesh" in line]
    before = len(fleet.alerts())
    os.kill(pid, signal.SIGSTOP)
    back = lambda: ("heartbeat_ok", "mesh") in [(e["type"], e["svc"]) for e in fleet.alerts()[before:]]  # noqa: E731
    fleet.until(back, 60, "mesh is up again")
    fleet.until(is_quiet, 60, "no open outage")


def test_people_read_one_line_of_what_was_healed_and_no_miss(tmp_path):
    with Receiver() as receiver:
        healed = lambda: [each for each in receiver.seen if each.data["title"] == "mesh was healed"]  # noqa: E731
        env = {"WEBHOOK_URL": receiver.url}
        with Fleet(tmp_path, "mesh", "medic", "notifier", truth=TRUTH, env=env) as fleet:
            bus = fleet.bus("system-redis")
            for _ in range(
                3
            ):  # a machine that stalls makes the medic wait, and then people are told, rightly
                freeze_and_await_return(fleet, bus)
                if healed():
                    break
            line = healed()[0]
            entries = [orjson.loads(fields["entry"]) for _, fields in bus.xrange("medic:incidents")]
            told = [each["text"] for each in entries if each["what"] == "told" and each["svc"] == "mesh"]
            assert "in the digest of what was healed" in told
            assert "restarted at " in line.data["text"]
            assert [event["type"] for event in line.data["events"]] == ["heartbeat_miss", "heartbeat_ok"]
            told = [event["id"] for each in receiver.seen for event in each.data["events"]]
            assert [told.count(event["id"]) for event in line.data["events"]] == [1, 1]
