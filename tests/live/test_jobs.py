"""Jobs on a real fleet: runs by `marketswarm exec` and by hand, overdue ones, and a healer that is killed."""

import orjson
import pytest

from support.rig import Fleet, Proc
from support.rig.shell import Shell
from support.waiting import until

TRUTH = {
    "services": {
        "often": {"heartbeat": {"schedule": "*:*:0/4", "grace_sec": 3}},  # each four seconds
        "nightly": {"heartbeat": {"schedule": "0 3 * * *", "time_zone": "Europe/Berlin", "max_run_sec": 1.5}},
        "healer": {"heartbeat": {"interval_sec": 1}, "threshold": {"heartbeat_cadence": 3}},
    }
}


@pytest.fixture
def fleet(tmp_path):
    with Fleet(tmp_path, TRUTH, ["healer"]) as fleet:
        until(lambda: "system-redis" in [line["bus"] for line in fleet["healer"].logs("monitor.listening")])
        yield fleet


def execute(fleet: Fleet, svc: str, *command: str) -> Proc:
    return Proc("marketswarm", fleet.env, fleet.folder, "exec", "--svc", svc, "--", *command)


def run(fleet: Fleet, svc: str, *command: str) -> int:
    with execute(fleet, svc, *command) as job:
        return job.wait(15)


def misses(fleet: Fleet, svc: str, reason: str) -> list[dict]:
    return [miss for miss in fleet.alerts.of("heartbeat_miss", svc) if miss["reason"] == reason]


def test_a_job_that_does_not_come_round_is_overdue_and_its_next_run_is_the_ok(fleet):
    assert run(fleet, "often", "true") == 0
    until(lambda: fleet.system.cmd("GET", "health:often"), what="the job to be up")
    until(lambda: misses(fleet, "often", "overdue"), what="a run to be overdue")
    miss = misses(fleet, "often", "overdue")[-1]
    assert miss["late_sec"] < 15
    assert run(fleet, "often", "true") == 0
    until(
        lambda: [ok for ok in fleet.alerts.of("heartbeat_ok", "often") if ok["ts"] > miss["ts"]],
        what="its ok",
    )


def test_a_run_that_fails_and_one_that_hangs_are_missed(fleet):
    assert run(fleet, "nightly", "true") == 0
    assert run(fleet, "nightly", "sh", "-c", "exit 3") == 3
    until(lambda: misses(fleet, "nightly", "failed"), what="the failure")
    assert misses(fleet, "nightly", "failed")[0]["exit_code"] == 3
    assert misses(fleet, "nightly", "failed")[0]["detail"].startswith("exit 3 after ")
    last_run = orjson.loads(fleet.system.cmd("GET", "run:nightly"))
    assert (last_run["ok"], last_run["code"]) == (False, 3)
    assert run(fleet, "nightly", "true") == 0
    with execute(fleet, "nightly", "sleep", "60") as hangs:
        until(lambda: misses(fleet, "nightly", "never_ended"), what="a run that never ends")
        hangs.stop()


def test_a_killed_healer_knows_the_jobs_again_and_repeats_nothing(fleet):
    assert run(fleet, "nightly", "true") == 0

    def known() -> dict:
        return orjson.loads(fleet.system.cmd("HGET", "healer:jobs", "nightly") or "{}")

    until(lambda: known().get("has_run"), what=lambda: f"the run to be saved; there is {known()}")
    before = known()["expected_from"]
    fleet["healer"].kill()
    fleet["healer"].start()
    until(
        lambda: len(fleet["healer"].logs("monitor.state_loaded")) == 2,
        what="the second healer to know the jobs",
    )

    def epochs() -> set[int]:
        return {line["epoch"] for line in fleet["healer"].logs("lease.held") if line["bus"] == "system-redis"}

    until(lambda: len(epochs()) == 2, what="the second healer to lead")
    shell = Shell(fleet.folder)
    found = {row["svc"]: row for row in orjson.loads(shell.said("status", "--json", **fleet.env))["services"]}
    job = found["nightly"]["job"]
    assert (job["time_zone"], job["running_since"], job["early_sec"]) == ("Europe/Berlin", None, None)
    assert 0 < job["next_run_at"] - before <= 25 * 3600
    assert job["next_due_at"] == job["next_run_at"] + 3600
    assert known()["expected_from"] == before
    assert not fleet.alerts.of("heartbeat_miss", "nightly")


def test_a_run_that_fails_while_the_healer_is_away_is_missed_once_it_is_back(fleet):
    assert run(fleet, "nightly", "true") == 0
    until(lambda: fleet.system.cmd("HGET", "healer:jobs", "nightly"), what="the run to be saved")
    fleet["healer"].kill()
    assert run(fleet, "nightly", "sh", "-c", "exit 3") == 3
    fleet["healer"].start()
    until(lambda: misses(fleet, "nightly", "failed"), what="the failure that nobody heard")
    miss = misses(fleet, "nightly", "failed")[0]
    assert (miss["exit_code"], miss["detail"][:13]) == (3, "exit 3 after ")
    fleet["healer"].kill()
    fleet["healer"].start()
    until(
        lambda: len(fleet["healer"].logs("monitor.state_loaded")) == 3, what="a third healer to know the jobs"
    )
    until(lambda: fleet.system.cmd("GET", "health:nightly"), what="the third healer to lead")
    kept = orjson.loads(fleet.system.cmd("GET", "health:nightly"))
    assert kept["detail"] == miss["detail"], "what a healer restored, it goes on showing"
    shell = Shell(fleet.folder)
    assert "its command ended with exit code 3 after " in shell.said("health", "nightly", **fleet.env)
    assert run(fleet, "nightly", "true") == 0
    until(lambda: fleet.alerts.of("heartbeat_ok", "nightly"), what="its ok")
    assert len(misses(fleet, "nightly", "failed")) == 1
