"""What people read about the runs of a job."""

from datetime import UTC, datetime

import pytest

from marketswarm.status.job_text import describe_job
from marketswarm.status.service_rows import JobStatus

NOW = datetime(2026, 3, 10, 20, tzinfo=UTC).timestamp()
BERLIN = {"schedule": "0 3 * * *", "time_zone": "Europe/Berlin"}
AT_3 = datetime(2026, 3, 11, 2, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (JobStatus(**BERLIN), []),
        (JobStatus(**BERLIN, next_run_at=AT_3, next_due_at=AT_3 + 3600), ["next at 21600 s"]),
        (
            JobStatus("0 3 * * *", next_run_at=AT_3 + 3600 + 5 * 86_400, next_due_at=AT_3 + 9e5),
            ["next at 457200 s"],
        ),
        (
            JobStatus(**BERLIN, next_run_at=NOW - 7200, next_due_at=NOW - 3600),
            ["overdue since at -3600 s"],
        ),
        (
            JobStatus(**BERLIN, next_run_at=AT_3, next_due_at=AT_3 + 3600, running_since=NOW - 240),
            ["running for 4 min", "next at 21600 s"],
        ),
        (
            JobStatus(**BERLIN, next_run_at=AT_3, next_due_at=AT_3 + 3600, early_sec=3590.0),
            [
                "next at 21600 s",
                "it pings 1 h early for 03:00 Europe/Berlin = 02:00 UTC: is the zone right?",
            ],
        ),
        (JobStatus(early_sec=3600.0), ["it pings 1 h early: is the zone right?"]),
    ],
)
def test_a_job_reads_like_this(job, words):
    assert describe_job(job, NOW, lambda at: f"at {round(at - NOW)} s") == words
