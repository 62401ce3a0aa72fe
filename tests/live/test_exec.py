"""What a healer makes of a command under `marketswarm exec`: while it runs, when it ends, and from cron."""

import os
import signal

import orjson
import pytest

from support.rig import Fleet, Proc
from support.waiting import until

HEARTBEAT = {"interval_sec": 0.3, "timeout_sec": 1.5}
TRUTH = {
    "services": {
        "backup": {"heartbeat": HEARTBEAT},
        "nightly": {"heartbeat": HEARTBEAT},
        "healer": {"heartbeat": {"interval_sec": 1}, "threshold": {"heartbeat_cadence": 3}},
    }
}


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path, TRUTH, ["healer"]) as fleet:
        until(lambda: "system-redis" in [line["bus"] for line in fleet["healer"].logs("monitor.listening")])
        yield fleet


def execute(fleet: Fleet, svc: str, *words: str) -> Proc:
    return Proc("marketswarm", fleet.env, fleet.folder, "exec", "--svc", svc, *words)


def health(fleet: Fleet, svc: str) -> dict:
    return orjson.loads(fleet.system.cmd("GET", f"health:{svc}") or "{}")


def missed(fleet: Fleet, svc: str, count: int = 1) -> dict:
    """The `count`th miss of one that had come; one slow to start is told too, as never seen."""

    def told() -> list[dict]:
        return [miss for miss in fleet.alerts.of("heartbeat_miss", svc) if miss["reason"] != "never_seen"]

    until(lambda: len(told()) >= count, what=lambda: f"miss no. {count} of {svc}; heard {fleet.alerts.of()}")
    return told()[count - 1]


def back(fleet: Fleet, svc: str, miss: dict) -> dict:
    """The ok that ended the outage of this miss."""

    def told() -> list[dict]:
        return [ok for ok in fleet.alerts.of("heartbeat_ok", svc) if ok["ts"] > miss["ts"]]

    until(told, what=lambda: f"the end of {miss}; heard {fleet.alerts.of()}")
    return told()[0]


def test_it_is_up_while_it_runs_and_its_end_is_a_goodbye(fleet):
    with execute(fleet, "backup", "--", "sleep", "60") as backup:
        until(lambda: health(fleet, "backup").get("type") == "heartbeat_ok")
        assert backup.stop() == 143
        beat = orjson.loads(fleet.system.cmd("GET", "beat:backup"))  # before it expires
    miss = missed(fleet, "backup")
    assert miss["reason"] == "stopped"
    assert 1.5 <= miss["late_sec"] < 15
    assert (beat["status"], beat["detail"][:16]) == ("stopping", "ended by SIGTERM")

    # the next run ends the outage; one that is killed with no time for a goodbye is silent
    with execute(fleet, "backup", "--", "sh", "-c", "echo $$ >pid; exec sleep 60") as backup:
        assert back(fleet, "backup", miss)["down_sec"] >= 1.5
        written = fleet.folder / "pid"
        pid = until(lambda: written.exists() and written.read_text().strip(), what="the command's pid")
        backup.kill()
        os.kill(int(pid), signal.SIGKILL)  # the command went on
    assert missed(fleet, "backup", 2)["reason"] == "silent"


def test_a_job_of_crons_is_missed_when_it_does_not_come_round_or_does_not_do_well(fleet):
    def run(command: str, code: int) -> None:
        with execute(fleet, "nightly", "--on-success-only", "--", command) as job:
            assert job.wait(15) == code

    run("true", 0)
    run("false", 1)  # it came round, and that does not count
    miss = missed(fleet, "nightly")
    assert miss["reason"] == "silent"
    assert orjson.loads(fleet.system.cmd("GET", "run:nightly"))["code"] == 1
    run("true", 0)
    assert back(fleet, "nightly", miss)["since"] < miss["ts"]
