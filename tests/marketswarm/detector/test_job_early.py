"""Jobs whose runs come too early, and healers whose clock is a little wrong."""

from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest

from marketswarm.beat import Beat
from marketswarm.detector import Moment
from marketswarm.detector.clock import HeardAt
from marketswarm.detector.job import Job, measure_lead
from marketswarm.truth import JobRule, Schedule
from support.simulation.manual_jobs import MIDNIGHT, hand_of, listening, misses

# -- early runs

NIGHTLY = JobRule(Schedule("0 3 * * *", "Europe/Berlin"))  # 02:00 UTC


@pytest.mark.parametrize(
    ("started", "ended", "lead"),
    [
        (None, "01:10", 3000),  # within the hour
        (None, "01:00", 3600),
        (None, "00:05", 6900),  # about two hours: a run of five minutes
        ("00:00", "00:50", 7200),
        (None, "00:30", None),  # neither
        ("02:00", "02:10", None),  # in time
        (None, "02:01", None),
        ("02:00", "01:00", None),  # a run of 23 hours
        (None, "12:30", None),  # late rather than early
    ],
)
def test_a_run_shortly_before_its_time_or_by_whole_hours_is_early(started, ended, lead):
    def at(text: str | None) -> float | None:
        return None if text is None else MIDNIGHT + 3600 * int(text[:2]) + 60 * int(text[3:])

    assert measure_lead(NIGHTLY, at(ended), at(started)) == lead  # type: ignore[arg-type]


def test_three_early_runs_in_a_row_are_a_habit_and_one_in_time_ends_it():
    job = Job(NIGHTLY, HeardAt(0.0, 0.0, MIDNIGHT))
    report = Beat("a", 1, 0.0, run="ended")
    for day in range(1, 4):
        assert job.early_sec is None
        sec = 86_400 * day + 3600
        job.take_completion(report, HeardAt(sec, sec, MIDNIGHT + sec))
    assert job.early_sec == 3600
    sec = 86_400 * 4 + 7300
    job.take_completion(report, HeardAt(sec, sec, MIDNIGHT + sec))
    assert job.early_sec is None


@pytest.mark.parametrize(("sec", "want"), [(5, None), (6, 6)])
def test_a_clock_that_is_a_little_wrong_makes_no_run_early(sec, want):
    assert measure_lead(NIGHTLY, MIDNIGHT + 7200 - sec, None) == want
    assert measure_lead(NIGHTLY, MIDNIGHT + 7260, MIDNIGHT + 7200 - sec) == want


def test_an_hourly_job_is_never_called_early():
    assert measure_lead(JobRule(Schedule("0 * * * *")), MIDNIGHT + 3500, None) is None


# -- a healer's clock that is a little wrong


def complete(job: Job, wall: float, rid: str | None = None) -> None:
    """The job reports the end of a run at a time by the healer's wall clock."""
    job.take_completion(Beat("a", 1, wall, run="ended", rid=rid), heard_at(wall))


def heard_at(wall: float) -> HeardAt:
    return HeardAt(wall - MIDNIGHT, wall - MIDNIGHT, wall)


def next_run(job: Job) -> float | None:
    """The scheduled time that the next report is for."""
    return job.rule.schedule.next_run(job.expected.since.wall)


def new_job(schedule: Schedule, since: float = MIDNIGHT, grace: float = 60.0) -> Job:
    return Job(JobRule(schedule, grace), heard_at(since))


@pytest.mark.parametrize(
    ("expression", "zone", "day", "tolerance"),
    [
        ("* * * * *", "UTC", "2026-03-10", 5),
        ("0 * * * *", "UTC", "2026-03-10", 5),
        ("0 2 * * *", "UTC", "2026-03-10", 5),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28", 5),  # that hour is left out the night after
        ("30 2 * * *", "Europe/Berlin", "2026-10-24", 5),  # and is there twice
        ("*/10 2 * * *", "Europe/Berlin", "2026-10-24", 5),
        ("*-*-* 02:30:00", "Europe/Berlin", "2026-03-28", 5),
        ("0 0 1 * *", "America/New_York", "2026-02-10", 5),
        ("*-*-* *:*:0/10", "UTC", "2026-03-10", 1),
    ],
)
@pytest.mark.parametrize("off", [-10, -6, -5, -4.9, -1.2, -1, -0.3, 0, 0.1, 2.5, 8])
def test_a_report_a_little_before_its_time_is_that_of_the_run_to_come(expression, zone, day, tolerance, off):
    since = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()
    schedule = Schedule(expression, zone)
    runs = list(islice(schedule.runs_after(since), 5))
    job = new_job(schedule, since, 0.25)
    for run, following in pairwise(runs):
        complete(job, run + off)
        assert next_run(job) == (following if off >= -tolerance else run)


@pytest.mark.parametrize(
    ("sec", "following"), [(59.6, 60), (59.8, 63), (62.6, 63), (62.8, 120), (119.8, 123)]
)
def test_the_shorter_one_of_the_pauses_beside_a_run_says_how_early_it_may_be(sec, following):
    job = new_job(Schedule("*-*-* *:*:0,3"), MIDNIGHT + 50, 0.1)
    complete(job, MIDNIGHT + sec)
    assert next_run(job) == MIDNIGHT + following


def test_a_healer_whose_clock_is_slow_tells_of_no_missing_run():
    hand = hand_of()
    hand.at(58)
    for _ in range(4):
        hand.beat(boot="b", run="ended")
        hand.run(60)
    assert misses(hand) == []
    hand.run(21)  # 319: the run of 300 was not reported, however early the one of 240 was
    assert misses(hand) == []
    hand.run(2)
    assert misses(hand) == [(320, "overdue")]
    assert hand.verdicts[-1].down_since == MIDNIGHT + 300


def test_two_early_reports_of_one_run_are_not_those_of_two():
    job = new_job(NIGHTLY.schedule)
    for sec in (7196, 7199, 7200.5, 7260):
        complete(job, MIDNIGHT + sec)
        assert next_run(job) == MIDNIGHT + 86_400 + 7200


@pytest.mark.parametrize(("started", "early"), [(2 * 3600 - 4, True), (2 * 3600 - 6, False), (10, False)])
def test_a_run_that_began_too_early_is_not_that_of_the_time_at_which_it_ends(started, early):
    job = new_job(NIGHTLY.schedule)
    job.take_start(
        Beat("a", 1, 0.0, run="started", rid="r"), heard_at(MIDNIGHT + started), listening(MIDNIGHT)
    )
    complete(job, MIDNIGHT + 7200 - 3, "r")
    assert next_run(job) == MIDNIGHT + 7200 + (86_400 if early else 0)


@pytest.mark.parametrize(("grace", "completes"), [(3600.0, "01:00"), (3500.0, "02:00")])
def test_one_report_completes_the_run_that_can_still_be_in_time_and_not_the_next_one_too(grace, completes):
    job = new_job(Schedule("0 * * * *"), grace=grace)
    complete(job, MIDNIGHT + 5)
    complete(job, MIDNIGHT + 7200 - 3)  # of the run at 01:00, or of that at 02:00
    assert next_run(job) == MIDNIGHT + (7200 if completes == "01:00" else 10_800)


def test_an_early_report_is_known_after_a_restart_and_to_a_standby():
    saved_by = new_job(NIGHTLY.schedule)
    complete(saved_by, MIDNIGHT + 7197)
    saved = saved_by.to_saved()
    now = Moment(7300.0, MIDNIGHT + 7300)
    restored, standby = new_job(NIGHTLY.schedule), new_job(NIGHTLY.schedule)
    restored.restore(saved, heard_at(MIDNIGHT + 7197), HeardAt(0.0, now.mono, now.wall))
    standby.adopt(saved, listening(MIDNIGHT), now)
    assert next_run(restored) == next_run(standby) == MIDNIGHT + 86_400 + 7200
