"""Jobs: when a run is overdue, has taken too long or comes too early; clocks that are set, gaps, restarts."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.beat import Beat
from marketswarm.detector import ListeningClock, Moment, SavedService, State, adopt_state, is_miss_overruled
from marketswarm.detector.clock import HeardAt
from marketswarm.detector.job import Job, SavedJob, measure_lead
from marketswarm.truth import JobRule, Schedule, Watch
from support.simulation.manual_detector import Hand, gaps, says, watch

MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC).timestamp()
GRACE = 20.0
EVERY_MINUTE = Schedule("* * * * *")
UP = SavedService(State.UP, since=MIDNIGHT, silent_sec=5.0)


def minutely(grace: float = GRACE, max_run: float | None = None, schedule: Schedule = EVERY_MINUTE) -> Watch:
    """A job that is to run each minute: due 20 s after it, at 80 s if it ran at 5 s."""
    rule = JobRule(schedule, grace, max_run)
    return replace(watch(interval=60.0, timeout=60.0 + grace), job=rule)


def hand_of(*watches: Watch, **more) -> Hand:
    return Hand(*(watches or (minutely(),)), wall=MIDNIGHT, **more)


def misses(hand: Hand) -> list[tuple[int, str | None]]:
    """When, to the second, and why."""
    return [
        (round(each.at), each.verdict.reason)
        for each in hand.told
        if each.verdict.svc == "a" and getattr(each.verdict, "state", None) is State.DOWN
    ]


# -- overdue


def test_a_job_that_reports_each_run_is_never_missed():
    hand = hand_of()
    hand.run(5)
    for _ in range(5):
        hand.beat(boot="b", run="ended")
        hand.run(60)
    assert misses(hand) == []
    assert [verdict.state for verdict in hand.verdicts] == [State.UP]


@pytest.mark.parametrize("run", ["ended", None])
def test_a_run_that_is_not_reported_within_the_grace_is_overdue(run):
    hand = hand_of()
    hand.run(5)
    hand.beat(run=run)
    hand.run(74)
    assert misses(hand) == []
    hand.run(5)
    assert misses(hand) == [(80, "overdue")]
    miss = hand.verdicts[-1]
    assert (miss.since, round(miss.late_sec)) == (MIDNIGHT + 5, 75)
    hand.beat(run=run)
    assert hand.verdicts[-1].state is State.UP


def test_a_job_that_never_ran_is_overdue_after_its_first_scheduled_time():
    hand = hand_of()
    hand.run(100)
    assert misses(hand) == [(80, "overdue")]
    assert hand.verdicts[-1].since is None


@pytest.mark.parametrize("run", ["started", "log"])
def test_neither_a_start_nor_a_log_line_completes_a_run(run):
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    hand.beat(run=run)
    hand.run(20)
    assert misses(hand) == [(80, "overdue")]


def test_a_run_that_failed_is_missed_at_once_and_the_next_complete_one_is_its_ok():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="failed", exit_code=2)
    hand.run(1)
    assert misses(hand) == [(5, "failed")]
    hand.run(200)
    hand.beat(run="ended")
    hand.run(1)
    assert [verdict.state for verdict in hand.verdicts] == [State.DOWN, State.UP]
    hand.run(80)
    assert misses(hand)[1:] == [(260, "overdue")]


# -- since when it is down


def outage(hand: Hand) -> tuple[str | None, float | None, float | None]:
    """The reason of the last miss, and the `down_since` and `down_sec` of its ok, seconds after midnight."""
    miss, ok = hand.verdicts[-2:]
    assert (miss.state, ok.state, ok.down_since) == (State.DOWN, State.UP, miss.down_since)
    since = None if ok.down_since is None else round(ok.down_since - MIDNIGHT, 2)
    return miss.reason, since, None if ok.down_sec is None else round(ok.down_sec, 2)


def test_an_overdue_job_is_down_since_the_scheduled_time_that_passed_and_not_since_its_last_run():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(95)
    hand.beat(run="ended")
    assert outage(hand) == ("overdue", 60.0, 40.0)
    assert hand.verdicts[-1].since == MIDNIGHT + 5
    hand.run(150)  # one late run is no later outage's beginning
    hand.beat(run="ended")
    assert outage(hand) == ("overdue", 120.0, 130.0)


def test_a_job_that_never_ran_is_down_since_its_first_scheduled_time():
    hand = hand_of()
    hand.run(100)
    hand.beat(run="ended")
    assert outage(hand) == ("overdue", 60.0, 40.0)


def test_a_failed_run_is_down_since_its_report_and_up_with_its_retry():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(56)
    hand.beat(run="failed", exit_code=2)
    hand.run(1)
    hand.beat(run="ended")
    assert outage(hand) == ("failed", 61.0, 1.0)


def test_a_run_that_never_ended_is_down_since_its_longest_time_was_over():
    hand = hand_of(minutely(max_run=30.0))
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    hand.beat(run="started", rid="1")
    hand.run(45)
    hand.beat(run="ended", rid="1")
    assert outage(hand) == ("never_ended", 95.0, 15.0)


def test_a_silent_service_is_down_since_its_last_beat():
    hand = Hand(watch(), wall=MIDNIGHT)
    hand.run(5)
    hand.beat()
    hand.run(40)
    hand.beat()
    assert outage(hand) == ("silent", None, 40.0)


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_job_is_down_since_a_scheduled_time_of_the_clock_in_force_and_never_since_the_future(step):
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.step_wall(step)
    hand.run(95)
    hand.beat(run="ended")
    assert outage(hand) == ("overdue", 60.0 + step, 40.0)


def test_a_job_without_a_witness_is_down_since_the_run_that_was_provably_not_reported():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(56)
    hand.lose()  # the run of 60 may have been reported here
    hand.run(2)
    hand.find()
    hand.run(90)
    hand.beat(run="ended")
    assert outage(hand) == ("overdue", 120.0, 33.0)


def test_a_job_that_is_down_goes_on_being_down_since_then_after_a_restart_a_takeover_and_a_reseed():
    down = SavedService(State.DOWN, since=MIDNIGHT - 3600, missed_at=MIDNIGHT - 40, boot="b", i=1)
    saved = replace(down, job=SavedJob(MIDNIGHT - 3600), down_since=MIDNIGHT - 60)
    hand = hand_of(known={"a": saved})
    hand.run(10)
    hand.rewatch(minutely(grace=30.0))
    hand.run(10)
    hand.beat(run="ended")
    (ok,) = hand.verdicts
    assert (ok.since, ok.down_since, round(ok.down_sec)) == (MIDNIGHT - 3600, MIDNIGHT - 60, 80)
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    adopt_state(hand.detector, "a", replace(saved, down_since=MIDNIGHT + 60), hand.now)
    hand.run(5)
    hand.beat(run="ended")
    assert (hand.verdicts[-1].down_since, hand.verdicts[-1].down_sec) == (MIDNIGHT + 60, 10)


# -- runs that take too long


def test_a_run_that_does_not_end_within_its_longest_time_is_missed():
    hand = hand_of(minutely(max_run=30.0))
    hand.run(5)
    hand.beat(run="started", rid="1")
    hand.run(40)
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
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    hand.beat(run="started", rid="2")  # at 65; overdue at 80
    hand.run(55)
    assert misses(hand) == []
    hand.run(12)
    ((at, reason),) = misses(hand)
    assert (125 <= at <= 131, reason) == (True, "never_ended")


def test_after_a_run_the_next_is_overdue_by_its_schedule_and_not_by_the_longest_time_of_that_run():
    hand = hand_of(minutely(max_run=100.0))
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    hand.beat(run="started", rid="1")
    hand.run(25)
    hand.beat(run="ended", rid="1")
    hand.run(80)
    assert misses(hand) == [(140, "overdue")]


def test_without_a_schedule_a_run_that_never_ends_is_missed_though_the_service_beats():
    hand = hand_of(replace(watch(), job=JobRule(max_run_sec=30.0)))
    hand.beat(boot="b", run="started", rid="1")
    hand.beating(60, 10, boot="b")
    ((at, reason),) = misses(hand)
    assert (30 <= at <= 36, reason) == (True, "never_ended")


def test_a_start_that_is_repeated_moves_no_deadline():
    hand = hand_of(minutely(max_run=30.0))
    hand.run(5)
    for _ in range(8):
        hand.beat(run="started")
        hand.run(5)
    assert [reason for _, reason in misses(hand)] == ["never_ended"]


def test_another_run_that_ends_leaves_the_one_that_hangs():
    hand = hand_of(minutely(max_run=30.0))
    hand.run(5)
    hand.beat(run="started", rid="1")
    hand.beat(run="started", rid="2")
    hand.run(10)
    hand.beat(run="ended", rid="2")
    hand.run(30)
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
    hand.run(5)
    hand.beat(run="ended")
    hand.beat(run="started", rid="1")
    hand.lose()
    hand.run(2)
    hand.find()
    hand.run(65)
    assert misses(hand) == []
    hand.run(20)
    assert [reason for _, reason in misses(hand)] == ["overdue"]  # the schedule holds


# -- long runs through gaps and restarts

HOURLY = Schedule("1 * * * *")  # a minute after the hour: its first run is due at 80 s


def long_runs() -> Watch:
    """An hourly job whose runs may take two minutes; without one under way, 20 s are its grace."""
    return replace(minutely(max_run=120.0, schedule=HOURLY), timeout_sec=7300.0)


def cut(hand: Hand, sec: float = 2.0) -> None:
    """The session is cut for so long."""
    hand.lose()
    hand.run(sec)
    hand.find()


def run_that_is_cut() -> Hand:
    """A run starts at 65 and is cut at 70, after one that ended at 5; the witness knows the latter."""
    hand = hand_of(long_runs())
    hand.run(5)
    hand.beat(boot="b", run="ended", rid="0")
    hand.attest("a", 0.0, i=1, boot="b", run="ended", rid="0")
    hand.run(60)
    hand.beat(boot="b", run="started", rid="1")
    hand.run(5)
    cut(hand)
    return hand


def test_a_gap_in_a_long_run_makes_no_miss():
    hand = run_that_is_cut()
    hand.run(108)  # until 180
    hand.beat(boot="b", run="ended", rid="1")
    hand.run(3490)
    assert misses(hand) == []
    hand.run(30)
    assert misses(hand) == [(3680, "overdue")]


def test_a_long_run_with_a_gap_that_does_not_end_is_missed_by_its_longest_time():
    hand = run_that_is_cut()
    hand.run(200)
    ((at, reason),) = misses(hand)
    assert (185 <= at <= 193, reason) == (True, "never_ended")


def test_a_long_run_whose_end_was_in_the_gap_is_complete_by_its_witness():
    hand = run_that_is_cut()
    hand.attest("a", 1.0, i=3, boot="b", run="ended", rid="1")
    hand.run(1000)
    assert misses(hand) == []
    job = hand.detector.services["a"].job
    assert job is not None
    assert job.runs == {}


def test_a_gap_in_a_long_run_without_a_witness_makes_no_miss_either():
    hand = hand_of(long_runs())
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    hand.beat(run="started", rid="1")
    hand.run(5)
    cut(hand)
    hand.run(108)
    hand.beat(run="ended", rid="1")
    hand.run(3480)
    assert misses(hand) == []


def test_a_run_whose_end_another_one_may_have_overwritten_is_not_waited_for():
    hand = run_that_is_cut()
    hand.beat(boot="b", i=4, run="started", rid="2")
    hand.run(10)
    hand.beat(boot="b", i=5, run="ended", rid="2")  # that of 1 may have come before
    hand.attest("a", 0.0, i=5, boot="b", run="ended", rid="2")
    hand.run(1000)
    assert misses(hand) == []


def test_a_long_run_whose_start_was_in_a_gap_is_not_overdue():
    hand = hand_of(long_runs())
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.run(60)
    cut(hand)  # at 65: it starts
    hand.run(110)
    hand.beat(boot="b", i=3, run="ended")
    hand.run(1000)
    assert misses(hand) == []


def test_a_job_that_does_not_start_is_overdue_after_its_longest_run_if_a_gap_may_have_hidden_its_start():
    hand = hand_of(long_runs())
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.run(60)
    cut(hand)  # until 67
    hand.run(200)
    ((at, reason),) = misses(hand)
    assert (187 <= at <= 190, reason) == (True, "overdue")


@pytest.mark.parametrize(("end", "missed"), [(100.0, []), (None, ["never_ended"])])
def test_a_restarted_healer_goes_on_with_a_long_run(end, missed):
    job = SavedJob(MIDNIGHT - 3600, runs=(("1", MIDNIGHT - 10),))
    saved = replace(UP, since=MIDNIGHT - 3600, job=job, boot="b", i=2)
    hand = hand_of(long_runs(), known={"a": saved}, beats={"a": says(3600.0, i=1, boot="b", run="ended")})
    hand.run(end or 130)
    if end:
        hand.beat(boot="b", i=3, run="ended", rid="1")
    hand.run(20)
    assert [reason for _, reason in misses(hand)] == missed


def test_a_start_that_is_sent_again_after_its_end_begins_no_run():
    hand = hand_of(long_runs())
    hand.run(65)
    for run in ("started", "ended", "started"):
        hand.beat(boot="b", run=run, rid="1")
    hand.run(300)
    assert misses(hand) == []


# -- gaps


def test_a_gap_before_the_scheduled_time_delays_nothing():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.lose()
    hand.run(30)
    hand.find()
    hand.run(50)
    assert misses(hand) == [(80, "overdue")]


def test_a_run_that_may_have_been_reported_in_a_gap_is_not_missed_but_the_next_one_is():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    hand.lose()
    hand.run(3)
    hand.find()
    hand.run(70)
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [(140, "overdue")]


def test_with_a_witness_that_shows_the_last_run_a_gap_delays_a_miss_by_a_minute_at_most():
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.run(60)
    hand.lose()
    hand.run(3)
    hand.find()
    hand.run(30)
    ((at, reason),) = misses(hand)
    assert (80 <= at <= 89, reason) == (True, "overdue")


@pytest.mark.parametrize("boot", ["c", None])
def test_a_run_that_only_the_witness_heard_is_complete(boot):
    hand = hand_of()
    hand.run(5)
    hand.beat(boot=boot, run="ended")
    hand.run(20)
    hand.lose()
    hand.run(45)
    hand.attest("a", 0.0, i=2, boot=boot, run="ended")  # at 70
    hand.run(5)
    hand.find()
    hand.run(60)
    assert misses(hand) == []
    hand.run(10)
    assert [reason for _, reason in misses(hand)] == ["overdue"]


def test_gap_after_gap_delays_a_miss_by_one_longest_pause_of_listening():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    while hand.elapsed < 400:
        hand.run(14)
        hand.lose()
        hand.run(1)
        hand.find()
    ((at, reason),) = misses(hand)
    assert reason == "overdue"
    assert at < 180


@pytest.mark.parametrize("end", [149.0, None])
def test_after_one_run_whose_end_was_in_a_gap_the_next_has_its_longest_time_if_its_start_was_in_another(end):
    hand = hand_of(minutely(max_run=30.0))
    hand.run(5)
    hand.beat(run="ended")
    hand.run(57)
    hand.beat(run="started", rid="1")
    hand.run(8)
    cut(hand)  # until 72: it ends
    hand.run(47)
    cut(hand, 3.0)  # until 122: the next one starts
    hand.run(27)
    assert misses(hand) == []
    if end:
        hand.beat(run="ended", rid="2")
    hand.run(30)
    assert [reason for _, reason in misses(hand)] == ([] if end else ["overdue"])


def test_in_a_gap_nothing_is_missed():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(30)
    hand.lose()
    hand.run(600)
    assert misses(hand) == []


def test_another_process_after_a_gap_is_the_next_run_and_no_restart():
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.run(20)
    hand.lose()
    hand.run(3)
    hand.find()
    hand.run(37)
    for boot in "cdef":
        hand.beat(boot=boot, run="ended")
        hand.run(60)
    assert gaps(hand) == []
    assert misses(hand) == []


# -- reports that are no sign of life, between what was lost and what is asked


@pytest.mark.parametrize("run", ["log", "started", "failed"])
def test_a_success_that_was_lost_in_a_gap_is_news_though_a_later_report_of_its_boot_was_heard(run):
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.run(58)
    hand.lose()
    hand.run(2)
    hand.attest("a", 0.0, i=3, boot="b", run="ended")  # i=2 was a start
    hand.find()
    hand.run(2)
    hand.beat(boot="b", i=4, run=run)
    hand.run(40)
    assert [reason for _, reason in misses(hand)] == (["failed"] if run == "failed" else [])


def test_a_success_that_was_heard_is_no_news_after_a_later_report_of_its_boot():
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    for run in ("log", "started", "log"):
        hand.beat(boot="b", run=run)
    hand.run(90)
    assert misses(hand) == [(80, "overdue")]


# -- outages that end unheard


def states(hand: Hand) -> list[State]:
    """What was told of the job."""
    return [verdict.state for verdict in hand.verdicts if verdict.svc == "a"]


def down_at_85() -> Hand:
    """A job that ran at 5 and was missed at 80; its session is cut at 85."""
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.run(80)
    assert misses(hand) == [(80, "overdue")]
    hand.lose()
    hand.run(10)
    return hand


@pytest.mark.parametrize("boot", ["b", "c"])
def test_a_job_that_is_down_and_completes_a_run_in_a_gap_is_up_after_it(boot):
    hand = down_at_85()
    hand.attest("a", 4.0, i=2, boot=boot, run="ended")  # at 91
    hand.find()
    ok = hand.verdicts[-1]
    assert (ok.state, ok.since, ok.down_sec, ok.age_sec) == (State.UP, MIDNIGHT + 5, 31.0, 4.0)
    hand.run(40)
    assert states(hand) == [State.UP, State.DOWN, State.UP]
    hand.run(10)
    assert misses(hand)[1:] == [(140, "overdue")]


@pytest.mark.parametrize(
    "word",
    [
        {"age": 90.0, "i": 1, "boot": "b", "run": "ended"},  # the one that was heard
        {"age": 20.0, "i": 2, "boot": "b", "run": "ended"},  # older than the miss
        {"age": 4.0, "i": 2, "boot": "b", "run": "started"},
        {"age": 4.0, "i": 2, "boot": "b", "status": "stopping"},
        {"age": None, "i": 2, "boot": "b", "run": "ended"},
    ],
)
def test_what_shows_no_run_since_the_miss_leaves_a_job_down(word):
    hand = down_at_85()
    hand.attest("a", word.pop("age"), **word)
    hand.find()
    hand.run(30)
    assert states(hand) == [State.UP, State.DOWN]


def test_a_success_before_a_failure_does_not_end_its_outage():
    hand = hand_of()
    hand.run(5)
    hand.lose()
    hand.run(2)
    hand.attest("a", 1.0, i=1, boot="b", run="ended")  # at 6
    hand.find()
    hand.run(2)
    hand.beat(boot="b", i=2, run="failed")
    hand.run(5)
    hand.lose()
    hand.find()
    hand.run(5)
    assert states(hand) == [State.DOWN]


def test_a_job_that_is_down_and_completes_a_run_while_the_healer_restarts_is_up():
    down = SavedService(State.DOWN, since=MIDNIGHT - 600, missed_at=MIDNIGHT - 500, boot="b", i=1)
    saved = replace(down, job=SavedJob(MIDNIGHT - 600))
    hand = hand_of(known={"a": saved}, beats={"a": says(50.0, i=1, boot="c", run="ended")})
    (ok,) = hand.verdicts
    assert (ok.state, ok.since, ok.down_sec, ok.age_sec) == (State.UP, MIDNIGHT - 600, 550.0, 50.0)
    hand.run(90)
    assert misses(hand) == [(20, "overdue")]  # the run of midnight


def test_a_service_without_a_schedule_is_up_by_a_beat_that_is_younger_than_its_timeout():
    down = SavedService(State.DOWN, since=MIDNIGHT - 600, missed_at=MIDNIGHT - 500, boot="b", i=1)
    for age, told in ((29.0, [State.UP]), (31.0, [])):
        hand = Hand(watch(), wall=MIDNIGHT, known={"a": down}, beats={"a": says(age, i=7, boot="b")})
        assert states(hand) == told


# -- the wall clock


@pytest.mark.parametrize("step", [3600.0, -3600.0, 10.0, -3.0, 86_400.0 * 400, -86_400.0 * 400])
def test_a_wall_clock_that_is_set_causes_no_miss_of_a_job_that_runs(step):
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(30)
    hand.step_wall(step)
    hand.run(30)
    for _ in range(4):  # by a clock that was not set
        hand.beat(run="ended")
        hand.run(60)
    assert misses(hand) == []


def test_a_wall_clock_that_was_wrong_when_a_run_was_heard_and_is_put_right_causes_no_miss():
    hand = hand_of()
    hand.step_wall(-12)
    hand.run(65)
    hand.beat(run="ended")  # at 00:00:53 by that clock: as if it were early for 00:01
    hand.step_wall(12)
    hand.run(60)
    assert misses(hand) == []
    hand.run(20)
    assert misses(hand) == [(140, "overdue")]


@pytest.mark.parametrize("step", [3600.0, -3600.0, 15.0, -15.0, 86_400.0 * 400, -86_400.0 * 400])
def test_a_wall_clock_that_is_set_delays_a_miss_by_a_longest_pause_at_most(step):
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(30)
    hand.step_wall(step)
    hand.run(120)
    ((at, reason),) = misses(hand)
    assert (80 <= at <= 141, reason) == (True, "overdue")


# -- restarts and reseeds


def test_a_restarted_healer_knows_the_last_run_and_its_deadline():
    saved = replace(UP, job=SavedJob(MIDNIGHT - 50))  # the run of 00:00 is due at 00:20
    hand = hand_of(known={"a": saved})
    hand.attest("a", 50.0, i=1, boot="b", run="ended")
    hand.run(30)
    assert misses(hand) == [(20, "overdue")]


def test_a_restarted_healer_knows_a_run_whose_ok_was_published_before_the_job_was_saved():
    saved = replace(UP, since=MIDNIGHT - 7, job=SavedJob(MIDNIGHT - 7200), boot="b", i=1)
    hand = hand_of(held=True)
    hand.attest("a", 7.0, i=1, boot="b", run="ended")
    hand.recall({"a": saved})
    hand.run(19)
    assert misses(hand) == []
    assert hand.detector.jobs["a"].job.expected_from.wall == pytest.approx(MIDNIGHT - 7, abs=0.5)
    hand.run(10)
    assert misses(hand) == [(20, "overdue")]


def test_a_restarted_healer_does_not_miss_a_run_of_the_time_in_which_it_was_away():
    hand = hand_of(known={"a": replace(UP, job=SavedJob(MIDNIGHT - 7200))})
    hand.run(75)  # what was due in the last two hours may have been reported, and nobody knows
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [(80, "overdue")]


def test_a_job_that_never_ran_is_missed_also_by_a_healer_that_restarts():
    hand = hand_of(
        known={
            "a": replace(UP, state=State.UNKNOWN, seen=False, job=SavedJob(MIDNIGHT - 7200, has_run=False))
        }
    )
    hand.run(100)
    assert [reason for _, reason in misses(hand)] == ["overdue"]


@pytest.mark.parametrize(("age", "taken"), [(50.003, False), (49.997, False), (50.0, False), (40.0, True)])
def test_the_saved_run_is_not_counted_again_when_its_key_seems_a_moment_younger(age, taken):
    hand = hand_of(held=True)
    hand.attest("a", age, i=2, boot="b", run="ended")
    early = SavedJob(MIDNIGHT - 50, leads_sec=(3600.0,), schedule="* * * * * UTC")
    hand.recall({"a": replace(UP, since=MIDNIGHT - 50, silent_sec=50.0, job=early)})
    job = hand.detector.services["a"].job
    assert (job.to_saved() != early) is taken
    assert job.to_saved().expected_from == pytest.approx(MIDNIGHT - (age if taken else 50))


def test_what_was_heard_before_the_restore_counts():
    hand = hand_of(held=True)
    hand.run(5)
    hand.beat(boot="new", run="ended")
    hand.recall({"a": replace(UP, job=SavedJob(MIDNIGHT - 7200))})
    hand.run(74)
    assert misses(hand) == []
    hand.run(5)
    assert misses(hand) == [(80, "overdue")]


def test_under_a_new_schedule_the_first_time_from_now_on_counts():
    hand = hand_of(minutely(schedule=Schedule("0 3 * * *")))
    hand.run(5)
    hand.beat(run="ended")
    hand.run(120)
    hand.rewatch(minutely())  # the runs of 00:01 and 00:02 were not to be reported
    hand.run(70)
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [(200, "overdue")]


def test_under_a_new_grace_the_last_run_still_counts():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    hand.rewatch(minutely(grace=40.0))
    hand.run(40)
    assert misses(hand) == [(100, "overdue")]


def test_a_shorter_grace_makes_no_miss_of_a_run_that_has_its_old_deadline_ahead():
    hand = hand_of(minutely(grace=50.0))
    hand.run(5)
    hand.beat(run="ended")
    hand.run(95)
    hand.rewatch(minutely(grace=10.0))  # by which it was to be reported half a minute ago
    hand.run(5)
    hand.rewatch(minutely(grace=5.0))
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [(110, "overdue")], "the deadline of before, however often the truth changes"


def test_a_shorter_grace_counts_from_the_next_run_on():
    hand = hand_of(minutely(grace=50.0))
    hand.run(5)
    hand.beat(run="ended")
    hand.run(95)
    hand.rewatch(minutely(grace=10.0))
    hand.beat(run="ended")
    hand.run(35)
    assert misses(hand) == [(130, "overdue")]


def test_a_gap_before_the_scheduled_time_delays_no_deadline_of_the_truth_before():
    hand = hand_of(minutely(grace=50.0))
    hand.run(5)
    hand.beat(run="ended")
    hand.run(35)
    hand.rewatch(minutely(grace=40.0))
    hand.lose()
    hand.run(10)
    hand.find()
    hand.run(80)
    assert misses(hand) == [(110, "overdue")]


@pytest.mark.parametrize("schedule", [EVERY_MINUTE, Schedule("*/2 * * * *"), None])
def test_a_shorter_longest_run_makes_no_miss_of_a_run_that_has_its_old_deadline_ahead(schedule):
    hand = hand_of(minutely(max_run=60.0))
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.beat(boot="b", run="started", rid="1")
    hand.run(30)
    changed = replace(minutely(), job=JobRule(schedule, GRACE if schedule else 0.0, 20.0))
    hand.rewatch(changed)
    hand.run(25)
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [(65, "never_ended")]


def test_a_shorter_grace_right_after_the_deadline_hides_no_miss():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(74.9)
    hand.elapsed += 0.2
    hand.rewatch(minutely(grace=10.0))
    hand.run(1)
    assert misses(hand) == [(80, "overdue")]


def test_a_job_whose_schedule_has_ended_is_not_missed():
    hand = hand_of(minutely(schedule=Schedule("2020-01-01,02 03:00")))
    hand.beat(run="ended")
    hand.run(300)
    assert misses(hand) == []


# -- properties: any schedule, any zone


def listening(at: float) -> ListeningClock:
    """A clock that listens since `at`."""
    clock = ListeningClock(Moment(0.0, at))
    clock.note_session_opened()
    clock.note_canary_sent(1, 0.0)
    clock.note_canary_received(1, Moment(0.0, at))
    return clock


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
    assert fires_at - wall < job.due_at <= fires_at - wall + grace + 1


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
        assert job.next_run() == (following if off >= -tolerance else run)


@pytest.mark.parametrize(
    ("sec", "following"), [(59.6, 60), (59.8, 63), (62.6, 63), (62.8, 120), (119.8, 123)]
)
def test_the_shorter_one_of_the_pauses_beside_a_run_says_how_early_it_may_be(sec, following):
    job = new_job(Schedule("*-*-* *:*:0,3"), MIDNIGHT + 50, 0.1)
    complete(job, MIDNIGHT + sec)
    assert job.next_run() == MIDNIGHT + following


def test_a_healer_whose_clock_is_slow_tells_of_no_missing_run():
    hand = hand_of()
    hand.run(58)
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
        assert job.next_run() == MIDNIGHT + 86_400 + 7200


@pytest.mark.parametrize(("started", "early"), [(2 * 3600 - 4, True), (2 * 3600 - 6, False), (10, False)])
def test_a_run_that_began_too_early_is_not_that_of_the_time_at_which_it_ends(started, early):
    job = new_job(NIGHTLY.schedule)
    job.take_start(
        Beat("a", 1, 0.0, run="started", rid="r"), heard_at(MIDNIGHT + started), listening(MIDNIGHT)
    )
    complete(job, MIDNIGHT + 7200 - 3, "r")
    assert job.next_run() == MIDNIGHT + 7200 + (86_400 if early else 0)


@pytest.mark.parametrize(("grace", "completes"), [(3600.0, "01:00"), (3500.0, "02:00")])
def test_one_report_completes_the_run_that_can_still_be_in_time_and_not_the_next_one_too(grace, completes):
    job = new_job(Schedule("0 * * * *"), grace=grace)
    complete(job, MIDNIGHT + 5)
    complete(job, MIDNIGHT + 7200 - 3)  # of the run at 01:00, or of that at 02:00
    assert job.next_run() == MIDNIGHT + (7200 if completes == "01:00" else 10_800)


def test_an_early_report_is_known_after_a_restart_and_to_a_standby():
    saved_by = new_job(NIGHTLY.schedule)
    complete(saved_by, MIDNIGHT + 7197)
    saved = saved_by.to_saved()
    now = Moment(7300.0, MIDNIGHT + 7300)
    restored, standby = new_job(NIGHTLY.schedule), new_job(NIGHTLY.schedule)
    restored.restore(saved, heard_at(MIDNIGHT + 7197), 0.0, now)
    standby.adopt(saved, listening(MIDNIGHT), now)
    assert restored.next_run() == standby.next_run() == MIDNIGHT + 86_400 + 7200


# -- takeovers, and truths that move a job


def test_a_takeover_tells_no_failure_again_that_the_leader_saw_end():
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="failed", exit_code=2)
    hand.run(1)  # missed; then a gap takes the end of the next run
    adopt_state(hand.detector, "a", SavedService(State.UP, since=MIDNIGHT + 8), hand.now)
    hand.run(60)
    assert misses(hand) == [(5, "failed")]


@pytest.mark.parametrize(
    ("heard", "want"),
    [
        (None, False),  # nothing is known about its runs
        (6, False),  # the run of which we know
        (61, True),
        (5.0 - 3600, False),
    ],
)
@pytest.mark.parametrize("reason", ["overdue", "never_ended"])
def test_a_miss_of_a_job_is_overruled_by_a_later_run_that_the_leader_heard(reason, heard, want):
    hand = hand_of(minutely(max_run=15.0))
    hand.run(5)
    hand.beat(boot="b", run="ended")
    if reason == "never_ended":
        hand.run(56)
        hand.beat(boot="b", run="started")
    hand.run(85 - hand.elapsed)
    assert [why for _, why in misses(hand)] == [reason]
    job = None if heard is None else SavedJob(MIDNIGHT + heard)
    published, had_until = replace(UP, job=job), hand.now.mono
    found = is_miss_overruled(hand.detector, "a", published, hand.now, is_silent=False, had_until=had_until)
    assert found is want
    if want:
        adopt_state(hand.detector, "a", published, hand.now)
        hand.run(54)  # the next run is due at 140
        assert len(misses(hand)) == 1
        hand.run(2)
        assert misses(hand)[1:] == [(140, "overdue")]


def test_a_miss_of_a_job_whose_next_run_is_overdue_to_the_leader_too_stays():
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.run(140)
    published = replace(UP, job=SavedJob(MIDNIGHT + 61))  # and that of 120 is due at 140
    for had_until in (hand.now.mono, 0.0):
        assert not is_miss_overruled(
            hand.detector, "a", published, hand.now, is_silent=False, had_until=had_until
        )


@pytest.mark.parametrize(("heard", "want"), [(62, False), (70, True)])
def test_a_failure_is_overruled_by_a_run_that_was_complete_after_it(heard, want):
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.run(56)
    hand.beat(boot="b", run="failed")
    hand.run(14)
    assert misses(hand) == [(61, "failed")]
    published = replace(UP, job=SavedJob(MIDNIGHT + heard))
    had_until = hand.now.mono
    assert want is is_miss_overruled(
        hand.detector, "a", published, hand.now, is_silent=False, had_until=had_until
    )


def test_a_job_that_moves_to_a_bus_with_an_older_clock_keeps_its_deadline():
    hand = hand_of(minutely(), replace(watch("z", bus="other"), timeout_sec=1e6))
    hand.run(5)
    hand.lose()
    hand.run(7200)  # the other bus is heard for two hours longer
    hand.find()
    hand.run(60)
    hand.beat(run="ended")
    hand.run(20)
    told = len(misses(hand))
    hand.rewatch(replace(minutely(), bus="other"))
    hand.run(20)
    assert misses(hand)[told:] == []
    hand.run(100)
    assert [reason for _, reason in misses(hand)[told:]] == ["overdue"]


def test_a_run_under_way_keeps_its_deadline_on_another_bus():
    hand = hand_of(minutely(max_run=60.0), replace(watch("z", bus="other"), timeout_sec=1e6))
    hand.lose("other")
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.attest("a", 0.0, boot="b", i=1)
    hand.beat(boot="b", run="started", rid="1")
    hand.run(20)
    hand.find("other")
    hand.run(2)
    hand.rewatch(replace(minutely(max_run=60.0), bus="other"))
    hand.run(30)
    assert misses(hand) == []
    hand.run(30)
    ((at, reason),) = misses(hand)
    assert (64 <= at <= 72, reason) == (True, "never_ended")


@pytest.mark.parametrize("later_sec", [0.0004, 3.0])  # the same run, as it is stored, and another one
def test_a_bus_that_was_away_over_a_takeover_gets_its_minute_for_what_could_not_be_sent(later_sec):
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(10)
    hand.lose()
    hand.run(7200)
    known = SavedJob(MIDNIGHT + 5 + later_sec)
    adopt_state(hand.detector, "a", SavedService(State.UP, since=MIDNIGHT + 5, job=known), hand.now)
    hand.find()
    hand.run(GRACE - 1)
    assert misses(hand) == []
    hand.run(120)
    assert [reason for _, reason in misses(hand)] == ["overdue"]


def test_of_a_run_that_a_gap_hid_the_next_bus_of_its_job_knows_nothing():
    hand = hand_of(minutely(), replace(watch("z", bus="other"), timeout_sec=1e6))
    hand.run(5)
    hand.beat(boot="b", run="ended")
    hand.run(50)
    hand.lose()  # the run of 00:01 is reported meanwhile, and the last one is what the other bus knows
    hand.run(10)
    hand.attest("a", 60.0, boot="b", i=1, run="ended")
    hand.rewatch(replace(minutely(), bus="other"))
    hand.run(60)
    assert misses(hand) == []
    hand.run(30)
    assert misses(hand) == [(140, "overdue")]


def test_a_failure_right_before_a_new_truth_is_missed():
    hand = hand_of()
    hand.run(5)
    hand.beat(boot="b", run="failed", exit_code=2)
    hand.rewatch(minutely(grace=40.0))
    hand.run(1)
    assert misses(hand) == [(5, "failed")]
    assert hand.verdicts[-1].exit_code == 2


def test_a_failure_and_the_next_success_before_the_restore_are_a_miss_and_its_ok():
    hand = hand_of(held=True)
    hand.beat(boot="b", run="failed", exit_code=2)
    hand.run(1)
    hand.beat(boot="b", run="ended")
    hand.recall({"a": UP})
    assert states(hand) == [State.DOWN, State.UP]
    assert (hand.verdicts[0].reason, hand.verdicts[0].exit_code) == ("failed", 2)
    hand.run(30)
    assert states(hand) == [State.DOWN, State.UP]


def test_a_failure_after_the_last_success_before_the_restore_is_missed():
    hand = hand_of(held=True)
    hand.beat(boot="b", run="ended")
    hand.run(1)
    hand.beat(boot="b", run="failed", exit_code=2)
    hand.recall({"a": UP})
    hand.run(30)
    assert states(hand) == [State.DOWN]
    assert hand.verdicts[0].reason == "failed"


def taken_over(hand: Hand, job: SavedJob, state: State = State.UP) -> None:
    adopt_state(hand.detector, "a", SavedService(state, since=MIDNIGHT, job=job), hand.now)


def test_a_takeover_takes_the_run_that_only_the_leader_heard():
    hand = hand_of()
    hand.run(5)
    hand.beat(run="ended")
    hand.run(60)
    cut(hand)
    hand.run(10)
    taken_over(hand, SavedJob(MIDNIGHT + 66))
    hand.run(62)
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [(140, "overdue")]


def test_a_takeover_keeps_the_run_that_only_the_standby_heard():
    hand = hand_of()
    hand.run(65)
    hand.beat(run="ended")
    taken_over(hand, SavedJob(MIDNIGHT + 5))
    hand.run(72)
    assert misses(hand) == []
    hand.run(10)
    assert misses(hand) == [(140, "overdue")]


def test_a_takeover_expects_the_run_that_is_due_and_not_the_one_after_it():
    hand = hand_of()
    hand.run(100)
    assert misses(hand) == [(80, "overdue")]  # of 00:01; the leader heard that, and not the next one
    hand.run(35)
    taken_over(hand, SavedJob(MIDNIGHT + 82))
    hand.run(10)
    assert misses(hand)[1:] == [(140, "overdue")]


def test_a_takeover_takes_the_run_under_way_of_which_the_standby_missed_the_start():
    hand = hand_of(long_runs())
    hand.run(5)
    hand.beat(boot="b", run="ended", rid="0")
    hand.attest("a", 0.0, i=1, boot="b", run="ended", rid="0")
    hand.run(60)
    cut(hand)
    taken_over(hand, SavedJob(MIDNIGHT + 5, runs=(("1", MIDNIGHT + 66),)))
    hand.run(200)
    ((at, reason),) = misses(hand)
    assert (186 <= at <= 190, reason) == (True, "never_ended")


def test_a_run_that_a_takeover_takes_long_before_the_next_scheduled_time_is_missed_by_its_longest_time():
    hand = hand_of(long_runs())
    hand.run(65)
    hand.beat(boot="b", run="ended", rid="0")
    hand.attest("a", 0.0, i=1, boot="b", run="ended", rid="0")
    hand.run(235)
    cut(hand)
    hand.run(50)
    taken_over(hand, SavedJob(MIDNIGHT + 65, runs=(("1", MIDNIGHT + 301),)))
    hand.run(200)
    ((at, reason),) = misses(hand)
    assert (421 <= at <= 425, reason) == (True, "never_ended")


def test_a_takeover_brings_no_run_back_whose_end_the_standby_heard():
    hand = hand_of(long_runs())
    hand.run(65)
    hand.beat(boot="b", run="started", rid="1")
    hand.beat(boot="b", run="ended", rid="1")
    taken_over(hand, SavedJob(MIDNIGHT - 60, runs=(("1", MIDNIGHT + 65),)))
    hand.run(300)
    assert misses(hand) == []


def test_a_schedule_that_is_new_since_the_healer_ended_counts_from_its_start():
    job = SavedJob(MIDNIGHT - 7200, schedule="0 3 * * * UTC")
    hand = hand_of(known={"a": replace(UP, job=job)})
    hand.attest("a", 7200.0, i=1, boot="b", run="ended")
    hand.run(70)
    assert misses(hand) == []  # the runs since then were not to be reported
    hand.run(15)
    assert misses(hand) == [(80, "overdue")]


def test_a_start_without_an_id_after_a_gap_is_that_of_the_next_run():
    hand = hand_of(replace(long_runs(), job=JobRule(EVERY_MINUTE, GRACE, 100.0)))
    hand.run(5)
    hand.beat(boot="b", run="started")
    cut(hand)
    hand.attest("a", 1.0, i=2, boot="b", run="ended")
    hand.run(55)
    hand.beat(boot="b", i=3, run="started")
    hand.run(95)
    assert misses(hand) == []
    hand.run(10)
    assert [reason for _, reason in misses(hand)] == ["never_ended"]
