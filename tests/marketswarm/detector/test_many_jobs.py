"""Many jobs: none is looked at before anything of it can have changed, and few in one evaluation."""

import pickle
from collections import Counter

import pytest

from marketswarm.detector.bus import JOB_WEIGHT, MAX_PER_EVALUATION
from marketswarm.detector.job import MAX_RUNS, Job
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
    hand.cut()
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
    assert all(service.job.evaluation.due_at < float("inf") for service in hand.detector.jobs.values())


# -- each run is a process, with a boot of its own


EACH_MINUTE = Watch("job0", "bus", "job0:heartbeat", 60.0, 90_000.0, job=JobRule(Schedule("* * * * *"), 30.0))


def run_of(hand: Hand, n: int) -> None:
    """A run under `exec`, its start and its end; then a minute passes."""
    hand.beat("job0", boot=f"{n:032x}", run="started", rid=str(n))
    hand.beat("job0", boot=f"{n:032x}", run="ended", rid=str(n))
    hand.run(60)


def test_a_job_takes_no_more_room_after_many_runs_than_after_few():
    hand = Hand(EACH_MINUTE, wall=60.0 * 29_373_890 + 5)
    service = hand.detector.services["job0"]

    def size() -> int:
        return len(pickle.dumps(service.instances))

    for n in range(10):
        run_of(hand, n)
    few = size()
    for n in range(10, 60):
        run_of(hand, n)
    assert size() <= few + 100
    assert few < 1000
    assert service.other_instances() == ()
    saved = hand.restarts.take_unsaved(hand.now.mono)["job0"]
    assert saved.others == {}
    assert len(saved.boot) == 32
    hand.run(60)
    assert [verdict.state for verdict in hand.verdicts] == ["up", "down"], "each run in time counted"


def test_what_is_sent_again_of_the_last_runs_and_of_those_under_way_is_known():
    rule = JobRule(HOURLY.schedule, HOURLY.grace_sec, 7200.0)
    hand = Hand(Watch("job0", "bus", "job0:heartbeat", 3600.0, 4200.0, job=rule))
    for n in range(4):
        run_of(hand, n)
    for run, i in ("started", 1), ("ended", 2):
        for n in range(100, 100 + MAX_RUNS):
            hand.beat("job0", boot=str(n), run=run, rid=str(n), i=i)
        for n in range(100, 100 + MAX_RUNS):
            hand.beat("job0", boot=str(n), run=run, rid=str(n), i=i)
    assert hand.detector.counts.replayed == 2 * MAX_RUNS
    assert hand.detector.jobs["job0"].job.runs == {}
    hand.beat("job0", boot="new", run="ended", rid="new")
    assert len(hand.detector.jobs["job0"].instances) <= 8


def test_a_service_that_becomes_a_job_by_a_reseed_drops_what_it_knew_of_others():
    hand = Hand(Watch("job0", "bus", "job0:heartbeat", 3600.0, 4200.0))
    for n in range(50):
        hand.beat("job0", boot=f"b{n}")
    assert len(hand.detector.services["job0"].other_instances()) == 49
    hand.rewatch(*jobs(1))
    hand.beat("job0", boot="new")
    service = hand.detector.services["job0"]
    assert (service.other_instances(), service.instances.find_newest()[0]) == ((), "new")
    assert len(service.instances) <= 8
