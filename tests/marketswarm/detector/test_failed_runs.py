"""Failures of jobs that nobody heard, and that `run:<svc>` shows: each is one miss, and none is false."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from marketswarm.detector import FailedRun, SavedJob, SavedService, State, Verdict
from marketswarm.truth import JobRule, Schedule, Watch
from support.simulation.manual_detector import Hand, watch

MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC).timestamp()
BEFORE_SEC = 5.0
"""How long before it is found the run failed, in a gap."""


def hourly(schedule: Schedule | None = Schedule("0 * * * *")) -> Watch:  # noqa: B008 - frozen
    rule = JobRule(schedule, 600.0, 1800.0)
    return replace(watch(interval=3600.0, timeout=4200.0), job=rule)


def hand_after_a_gap(job: Watch | None = None) -> Hand:
    """A run was complete 5 s after midnight, 10 s before a gap of 8 s."""
    hand = Hand(job or hourly(), wall=MIDNIGHT)
    hand.at(5).beat(boot="b", run="ended")
    hand.at(15).cut(8)
    return hand


def take(hand: Hand, ago_sec: float = BEFORE_SEC, **more) -> Verdict | None:
    failed = FailedRun(hand.now.wall - ago_sec, **more)
    verdict = hand.detector.take_failed_run("a", failed, hand.now, hand.now)
    hand.record([verdict])
    return verdict


@pytest.mark.parametrize("schedule", [Schedule("0 * * * *"), None])
def test_a_failure_in_a_gap_is_missed_once_and_the_next_run_ends_it(schedule):
    hand = hand_after_a_gap(hourly(schedule))
    miss = take(hand, exit_code=3, detail="disk full")
    assert miss is not None
    assert (miss.state, miss.reason, miss.exit_code) == (State.DOWN, "failed", 3)
    assert miss.detail == "disk full"
    failed_ago_sec = BEFORE_SEC
    assert take(hand, failed_ago_sec) is None
    hand.run(60)
    hand.beat(boot="b", run="ended")
    assert hand.verdicts[-1].state is State.UP
    assert take(hand, failed_ago_sec + 60) is None
    hand.run(60)
    assert [state for _, _, state in hand.said] == ["up", "down", "up"]


@pytest.mark.parametrize(
    ("ago_sec", "more"),
    [
        (18.5, {}),  # a complete run was heard after it
        (-61.0, {}),  # in the future
        (-1e12, {}),
        (BEFORE_SEC, {"alive": BEFORE_SEC - 1}),  # a sign of life followed, and is under `beat:a`
        (BEFORE_SEC, {"alive": BEFORE_SEC}),
    ],
)
def test_what_is_no_news_is_no_miss(ago_sec, more):
    hand = hand_after_a_gap()
    alive = {"alive_ts": hand.now.wall - more["alive"]} if more else {}
    assert take(hand, ago_sec, **alive) is None
    hand.run(60)
    assert [state for _, _, state in hand.said] == ["up"]


def test_an_older_sign_of_life_under_its_key_hides_no_failure():
    hand = hand_after_a_gap()
    assert take(hand, alive_ts=hand.now.wall - 20) is not None


def test_what_is_heard_while_the_key_is_read_is_newer_than_the_answer():
    hand = hand_after_a_gap()
    asked = hand.now
    failed = FailedRun(hand.now.wall + 2.0)  # by a clock that is ahead
    hand.elapsed += 0.1
    hand.beat(boot="b", run="ended")
    assert hand.detector.take_failed_run("a", failed, asked, hand.now) is None


def test_a_failure_that_was_heard_is_not_found_again_though_its_clock_is_ahead():
    hand = hand_after_a_gap()
    ahead = hand.now.wall + 30
    payload = b'{"svc":"a","i":9,"ts":%.3f,"boot":"b","run":"failed"}' % ahead
    hand.beat(raw=payload)
    hand.run(1)
    hand.beat(boot="c")  # of another client, which leaves no run
    hand.run(1)
    assert [state for _, _, state in hand.said] == ["up", "down", "up"]
    assert hand.detector.take_failed_run("a", FailedRun(round(ahead, 3)), hand.now, hand.now) is None


@pytest.mark.parametrize("ago_sec", [100.0, 2000.0])
def test_a_failure_while_the_healer_restarted_is_missed(ago_sec):
    """The run before it was 30 minutes ago; the state was saved 60 s ago, after the failure or not."""
    job = SavedJob(MIDNIGHT - 1800, schedule="0 * * * * UTC")
    known = SavedService(State.UP, since=MIDNIGHT - 60, job=job)
    hand = Hand(hourly(), wall=MIDNIGHT, known={"a": known})
    found = take(hand, ago_sec)
    assert (found is not None) is (ago_sec < 1800)


def test_a_service_that_is_no_job_or_unknown_or_refused_or_not_restored_is_not_missed():
    plain = Hand(watch())
    plain.beat()
    assert take(plain) is None
    refused = hand_after_a_gap()
    refused.detector.set_refused_channels("bus", ["a:heartbeat"], refused.now)
    assert take(refused) is None
    held = Hand(hourly(), held=True)
    assert take(held) is None
    held.rewatch()
    assert take(held) is None


def test_only_jobs_that_are_not_down_are_looked_for():
    hand = hand_after_a_gap()
    assert hand.detector.find_jobs_not_down("bus") == ["a"]
    assert hand.detector.find_jobs_not_down("spare") == []
    take(hand)
    assert hand.detector.find_jobs_not_down("bus") == []


def test_a_run_that_failed_in_a_gap_is_not_waited_for():
    hand = Hand(hourly(), wall=MIDNIGHT)
    hand.beat(boot="b", run="ended", rid="1")
    hand.at(5).beat(boot="b", run="started", rid="2")
    hand.at(15).cut(8)
    hand.beat(boot="b", run="started", rid="3")  # after the failure
    assert take(hand) is not None
    job = hand.detector.jobs["a"].job
    assert {rid: started.wall for rid, started in job.runs.items()} == {"3": MIDNIGHT + 23}
