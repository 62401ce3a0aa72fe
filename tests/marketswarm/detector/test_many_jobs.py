"""Many jobs: none is looked at before anything of it can have changed, and few in one evaluation."""

from collections import Counter

import pytest

from marketswarm.detector.bus import JOB_WEIGHT, MAX_PER_EVALUATION
from marketswarm.detector.job import Job
from marketswarm.truth import JobRule, Schedule, Watch
from support.simulation.manual_detector import Hand

HOURLY = JobRule(Schedule("0 * * * *"), 600.0)
COUNT = 500


@pytest.fixture
def evaluated(monkeypatch):
    """How often each job was evaluated since the counter was cleared."""
    found: Counter[Job] = Counter()
    evaluate = Job.evaluate

    def count(job, *args):
        found[job] += 1
        evaluate(job, *args)

    monkeypatch.setattr(Job, "evaluate", count)
    return found


def jobs(count: int, bus: str = "bus") -> list[Watch]:
    names = [f"job{n}" for n in range(count)]
    return [Watch(svc, bus, f"{svc}:heartbeat", 3600.0, 4200.0, job=HOURLY) for svc in names]


def test_a_job_is_evaluated_when_something_has_changed_and_not_all_the_time(evaluated):
    hand = Hand(*jobs(1))
    hand.run(5)
    evaluated.clear()
    hand.run(300)
    assert evaluated.total() == 0
    hand.beat("job0", run="ended")
    hand.run(300)
    assert evaluated.total() <= 2
    hand.lose()
    hand.run(2)
    hand.find()
    hand.run(5)
    assert 1 <= evaluated.total() <= 6


def test_few_jobs_are_evaluated_at_once_and_all_of_them_in_the_end(evaluated):
    hand = Hand(*jobs(COUNT))
    most = 0
    for _ in range(COUNT):
        evaluated.clear()
        if hand.detector.tick(hand.now).wake_in_sec > 0 and not evaluated:
            break
        most = max(most, evaluated.total())
    assert 0 < most <= MAX_PER_EVALUATION // JOB_WEIGHT
    assert all(service.job.due_at < float("inf") for service in hand.detector.jobs.values())


def test_gap_after_gap_leaves_no_entries_behind():
    hand = Hand(*jobs(3))
    for _ in range(300):
        hand.lose()
        hand.run(0.3)
        hand.find()
        hand.run(0.6)
    assert len(hand.detector.buses["bus"].jobs) < 100
