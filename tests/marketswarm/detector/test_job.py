"""Jobs: when a run is overdue or has taken too long, since when it is down, and clocks that are set."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.beat import Beat
from marketswarm.detector import Moment, SavedJob, SavedService, State, adopt_state
from marketswarm.detector.clock import HeardAt
from marketswarm.detector.job import Basis, Job
from marketswarm.monitor import VerdictEncoder
from marketswarm.truth import JobRule, Schedule
from support.simulation.manual_detector import Hand, watch
from support.simulation.manual_jobs import MIDNIGHT, hand_of, listening, minutely, misses

# -- overdue


def test_a_job_that_reports_each_run_is_never_missed():
    hand = hand_of()
    hand.at(5)
    for _ in range(5):
        hand.beat(boot="b", run="ended")
        hand.run(60)
    assert misses(hand) == []
    assert [verdict.state for verdict in hand.verdicts] == [State.UP]


@pytest.mark.parametrize("run", ["ended", None])
def test_a_run_that_is_not_reported_within_the_grace_is_overdue(run):
    hand = hand_of()
    hand.at(5).beat(run=run)
    hand.at(79)
    assert misses(hand) == []
    hand.at(84)
    assert misses(hand) == [(80, "overdue")]
    miss = hand.verdicts[-1]
    assert (miss.since, round(miss.late_sec)) == (MIDNIGHT + 5, 75)
    hand.beat(run=run)
    assert hand.verdicts[-1].state is State.UP


def test_a_job_that_never_ran_is_overdue_after_its_first_scheduled_time():
    hand = hand_of()
    hand.at(100)
    assert misses(hand) == [(80, "overdue")]
    assert hand.verdicts[-1].since is None


@pytest.mark.parametrize("run", ["started", "log"])
def test_neither_a_start_nor_a_log_line_completes_a_run(run):
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(65).beat(run=run)
    hand.at(85)
    assert misses(hand) == [(80, "overdue")]


def test_a_run_that_failed_is_missed_at_once_and_the_next_complete_one_is_its_ok():
    hand = hand_of()
    hand.at(5).beat(run="failed", exit_code=2)
    hand.at(6)
    assert misses(hand) == [(5, "failed")]
    hand.at(206).beat(run="ended")
    hand.at(207)
    assert [verdict.state for verdict in hand.verdicts] == [State.DOWN, State.UP]
    hand.at(287)
    assert misses(hand)[1:] == [(260, "overdue")]


def test_changes_within_one_millisecond_are_events_of_different_times_in_their_order():
    hand = hand_of()
    encoder = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
    hand.at(5)
    for _ in range(3):
        hand.beat(run="failed", exit_code=2)
        hand.beat(run="ended")
    events = [event for verdict in hand.verdicts if (event := encoder.build_event(verdict)) is not None]
    assert [event.type for event in events] == ["heartbeat_miss", "heartbeat_ok"] * 3
    assert len({event.id for event in events}) == 6, "who hears them knows them by their ids"
    told_ms = [round((event.ts - hand.now.wall) * 1000) for event in events]
    assert told_ms == list(range(6))


# -- since when it is down


def outage(hand: Hand) -> tuple[str | None, float | None, float | None]:
    """The reason of the last miss, and the `down_since` and `down_sec` of its ok, seconds after midnight."""
    miss, ok = hand.verdicts[-2:]
    assert (miss.state, ok.state, ok.down_since) == (State.DOWN, State.UP, miss.down_since)
    since = None if ok.down_since is None else round(ok.down_since - MIDNIGHT, 2)
    return miss.reason, since, None if ok.down_sec is None else round(ok.down_sec, 2)


def test_an_overdue_job_is_down_since_the_scheduled_time_that_passed_and_not_since_its_last_run():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(100).beat(run="ended")
    assert outage(hand) == ("overdue", 60.0, 40.0)
    assert hand.verdicts[-1].since == MIDNIGHT + 5
    hand.at(250).beat(run="ended")  # one late run is no later outage's beginning
    assert outage(hand) == ("overdue", 120.0, 130.0)


def test_a_job_that_never_ran_is_down_since_its_first_scheduled_time():
    hand = hand_of()
    hand.at(100).beat(run="ended")
    assert outage(hand) == ("overdue", 60.0, 40.0)


def test_a_failed_run_is_down_since_its_report_and_up_with_its_retry():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(61).beat(run="failed", exit_code=2)
    hand.at(62).beat(run="ended")
    assert outage(hand) == ("failed", 61.0, 1.0)


def test_a_run_that_never_ended_is_down_since_its_longest_time_was_over():
    hand = hand_of(minutely(max_run=30.0))
    hand.at(5).beat(run="ended")
    hand.at(65).beat(run="started", rid="1")
    hand.at(110).beat(run="ended", rid="1")
    assert outage(hand) == ("never_ended", 95.0, 15.0)


def test_a_silent_service_is_down_since_its_last_beat():
    hand = Hand(watch(), wall=MIDNIGHT)
    hand.at(5).beat()
    hand.at(45).beat()
    assert outage(hand) == ("silent", None, 40.0)


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_job_is_down_since_a_scheduled_time_of_the_clock_in_force_and_never_since_the_future(step):
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.step_wall(step)
    hand.at(100).beat(run="ended")
    assert outage(hand) == ("overdue", 60.0 + step, 40.0)


def test_a_job_without_a_witness_is_down_since_the_run_that_was_provably_not_reported():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(61).cut()  # the run of 60 may have been reported here
    hand.at(153).beat(run="ended")
    assert outage(hand) == ("overdue", 120.0, 33.0)


def test_a_job_that_is_down_goes_on_being_down_since_then_after_a_restart_a_takeover_and_a_reseed():
    down = SavedService(State.DOWN, since=MIDNIGHT - 3600, missed_at=MIDNIGHT - 40, boot="b", i=1)
    saved = replace(down, job=SavedJob(MIDNIGHT - 3600), down_since=MIDNIGHT - 60)
    hand = hand_of(known={"a": saved})
    hand.at(10).rewatch(minutely(grace=30.0))
    hand.at(20).beat(run="ended")
    (ok,) = hand.verdicts
    assert (ok.since, ok.down_since, round(ok.down_sec)) == (MIDNIGHT - 3600, MIDNIGHT - 60, 80)
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(65)
    published = replace(saved, down_since=MIDNIGHT + 60, missed_at=MIDNIGHT + 64)
    assert adopt_state(hand.detector, "a", published, hand.now) is None
    hand.at(70).beat(run="ended")
    assert (hand.verdicts[-1].down_since, hand.verdicts[-1].down_sec) == (MIDNIGHT + 60, 10)


# -- runs that take too long


def test_a_run_that_does_not_end_within_its_longest_time_is_missed():
    hand = hand_of(minutely(max_run=30.0))
    hand.at(5).beat(run="started", rid="1")
    hand.at(45)
    ((at, reason),) = misses(hand)
    assert (35 <= at <= 41, reason) == (True, "never_ended")


def test_a_run_that_ends_in_time_is_not_missed():
    hand = hand_of(minutely(max_run=30.0))
    for rid in "1234":
        hand.run(62 if rid == "1" else 32)
        hand.beat(run="started", rid=rid)
        hand.run(28)
        hand.beat(run="ended", rid=rid)
    assert misses(hand) == []


def test_the_schedule_waits_for_a_run_that_has_a_longest_time():
    hand = hand_of(minutely(max_run=60.0))
    hand.at(5).beat(run="ended")
    hand.at(65).beat(run="started", rid="2")  # overdue at 80
    hand.at(120)
    assert misses(hand) == []
    hand.at(132)
    ((at, reason),) = misses(hand)
    assert (125 <= at <= 131, reason) == (True, "never_ended")


def test_after_a_run_the_next_is_overdue_by_its_schedule_and_not_by_the_longest_time_of_that_run():
    hand = hand_of(minutely(max_run=100.0))
    hand.at(5).beat(run="ended")
    hand.at(65).beat(run="started", rid="1")
    hand.at(90).beat(run="ended", rid="1")
    hand.at(170)
    assert misses(hand) == [(140, "overdue")]


def test_without_a_schedule_a_run_that_never_ends_is_missed_though_the_service_beats():
    hand = hand_of(replace(watch(), job=JobRule(max_run_sec=30.0)))
    hand.beat(boot="b", run="started", rid="1")
    hand.beating(60, 10, boot="b")
    ((at, reason),) = misses(hand)
    assert (30 <= at <= 36, reason) == (True, "never_ended")


def test_a_start_that_is_repeated_moves_no_deadline():
    hand = hand_of(minutely(max_run=30.0))
    hand.at(5)
    for _ in range(8):
        hand.beat(run="started")
        hand.run(5)
    assert [reason for _, reason in misses(hand)] == ["never_ended"]


def test_another_run_that_ends_leaves_the_one_that_hangs():
    hand = hand_of(minutely(max_run=30.0))
    hand.at(5).beat(run="started", rid="1")
    hand.beat(run="started", rid="2")
    hand.at(15).beat(run="ended", rid="2")
    hand.at(45)
    assert [reason for _, reason in misses(hand)] == ["never_ended"]


def test_the_number_of_runs_that_are_followed_is_limited():
    hand = hand_of(minutely(max_run=30.0))
    for n in range(100):
        hand.beat(run="started", rid=str(n))
    job = hand.detector.services["a"].job
    assert job is not None
    assert len(job.runs) == 32


def test_a_run_whose_end_may_have_been_in_a_gap_is_not_waited_for():
    hand = hand_of(minutely(max_run=30.0))
    hand.at(5).beat(run="ended")
    hand.beat(run="started", rid="1")
    hand.cut()
    hand.at(72)
    assert misses(hand) == []
    hand.at(92)
    assert [reason for _, reason in misses(hand)] == ["overdue"]  # the schedule holds


# -- the wall clock


@pytest.mark.parametrize("step", [3600.0, -3600.0, 10.0, -3.0, 86_400.0 * 400, -86_400.0 * 400])
def test_a_wall_clock_that_is_set_causes_no_miss_of_a_job_that_runs(step):
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(35).step_wall(step)
    hand.at(65)
    for _ in range(4):  # by a clock that was not set
        hand.beat(run="ended")
        hand.run(60)
    assert misses(hand) == []


def test_a_wall_clock_that_was_wrong_when_a_run_was_heard_and_is_put_right_causes_no_miss():
    hand = hand_of()
    hand.step_wall(-12)
    hand.at(65).beat(run="ended")  # 00:00:53 by that clock: as if it were early for 00:01
    hand.step_wall(12)
    hand.at(125)
    assert misses(hand) == []
    hand.at(145)
    assert misses(hand) == [(140, "overdue")]


@pytest.mark.parametrize("step", [3600.0, -3600.0, 15.0, -15.0, 86_400.0 * 400, -86_400.0 * 400])
def test_a_wall_clock_that_is_set_delays_a_miss_by_a_longest_pause_at_most(step):
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(35).step_wall(step)
    hand.at(155)
    ((at, reason),) = misses(hand)
    assert (80 <= at <= 141, reason) == (True, "overdue")


# -- properties: any schedule, any zone


@given(
    st.sampled_from(
        ["30 2 * * *", "0 * * * *", "*/30 * * * *", "5 4 * * SUN", "0 1-4 * * *", "02:30", "hourly"]
    ),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    st.integers(int(MIDNIGHT), int(MIDNIGHT) + 366 * 86_400),
    st.integers(1, 86_400),
)
def test_a_job_is_never_due_before_its_time_and_never_later_than_that_and_its_grace(
    expression, zone, wall, grace
):
    schedule = Schedule(expression, zone)
    clock = listening(wall)
    job = Job(JobRule(schedule, float(grace)), HeardAt(0.0, 0.0, wall))
    job.evaluate(clock, Moment(0.0, wall))
    fires_at = schedule.next_run(wall)
    assert fires_at is not None
    assert fires_at - wall < job.evaluation.due_at <= fires_at - wall + grace + 1


# -- what is known of the run from which on the next one is expected

HERE = HeardAt(100.0, 1100.0, MIDNIGHT + 100)
KNOWN_RUN, NO_RUN = SavedJob(MIDNIGHT + 5), SavedJob(MIDNIGHT + 5, has_run=False)
NOW = Moment(HERE.mono, HERE.wall)


def complete(job: Job) -> None:
    job.take_completion(Beat("a", 1, HERE.wall, run="ended"), HERE)


def restore(job: Job, saved: SavedJob | None) -> None:
    job.restore(saved, HERE._replace(wall=HERE.wall - 50), HERE)


@pytest.mark.parametrize(
    ("steps", "basis"),
    [
        ([], Basis.WATCHED),
        ([complete], Basis.HEARD),
        ([lambda job: restore(job, NO_RUN)], Basis.WATCHED),
        ([lambda job: restore(job, None)], Basis.WATCHED),
        ([lambda job: restore(job, KNOWN_RUN)], Basis.KNOWN),
        ([lambda job: restore(job, KNOWN_RUN._replace(schedule="0 3 * * * UTC"))], Basis.KNOWN),
        ([complete, lambda job: restore(job, KNOWN_RUN)], Basis.HEARD),
        ([complete, lambda job: restore(job, NO_RUN)], Basis.HEARD),
        ([lambda job: restore(job, KNOWN_RUN), complete], Basis.HEARD),
        ([lambda job: job.adopt(None, listening(MIDNIGHT), NOW)], Basis.KNOWN),
        ([lambda job: job.adopt(KNOWN_RUN, listening(MIDNIGHT), NOW)], Basis.KNOWN),
    ],
)
def test_the_next_run_is_expected_after_one_that_was_heard_or_is_known_or_else_from_now_on(steps, basis):
    job = Job(minutely().job, HeardAt(0.0, 1000.0, MIDNIGHT))
    for step in steps:
        step(job)
    assert job.expected.basis is basis
    assert job.to_saved().has_run is (basis is not Basis.WATCHED)


def test_an_evaluation_is_of_what_is_expected_now_or_is_made_again():
    job = Job(minutely().job, HeardAt(0.0, 1000.0, MIDNIGHT))
    assert job.look_at == 0.0
    job.evaluate(listening(MIDNIGHT), NOW)
    assert job.look_at == float("inf")
    complete(job)
    assert job.look_at == HERE.at
    job.evaluate(listening(MIDNIGHT), NOW)
    job.note_no_witness()
    assert job.look_at == HERE.at
    complete(job)  # the same again is no other run
    assert not job.expected.is_witnessed
