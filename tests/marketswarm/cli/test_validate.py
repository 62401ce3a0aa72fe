"""`marketswarm validate` shows when the jobs of a truth run next."""

from datetime import UTC, datetime

import orjson

from marketswarm.cli.validate import list_next_runs
from marketswarm.truth import parse_truth

NOW = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()


def truth_of(**heartbeats):
    services = {svc: {"heartbeat": heartbeat} for svc, heartbeat in heartbeats.items()}
    return parse_truth(orjson.dumps({"services": services})).truth


def test_the_next_runs_of_each_job_are_shown_in_its_zone_also_over_a_change_of_clocks():
    truth = truth_of(backup={"schedule": "30 2 * * *", "time_zone": "Europe/Berlin"}, a={"interval_sec": 5})
    assert list_next_runs(truth, NOW) == [
        (
            "job      backup: next 03:00 Europe/Berlin, Mon 30 Mar 2026 02:30 Europe/Berlin,"
            " Tue 31 Mar 2026 02:30 Europe/Berlin; overdue 1 h after each"
        )
    ]


def test_a_schedule_that_has_ended_says_so():
    truth = truth_of(once={"schedule": "2024-01-05,06 03:00"})
    assert list_next_runs(truth, NOW) == ["job      once: next never: its schedule has ended"]
