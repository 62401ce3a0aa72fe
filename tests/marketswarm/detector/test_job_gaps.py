"""Jobs, and what was reported while nobody listened: gaps, lost reports, outages that end unheard."""

from dataclasses import replace

import pytest

from marketswarm.detector import SavedJob, SavedService, State
from support.simulation.manual_detector import Hand, gaps, says, watch
from support.simulation.manual_jobs import MIDNIGHT, UP, hand_of, long_runs, minutely, misses, states

# -- long runs through gaps and restarts


def run_that_is_cut() -> Hand:
    """A run starts at 65 and is cut at 70, after one that ended at 5; the witness knows the latter."""
    hand = hand_of(long_runs())
    hand.at(5).beat(boot="b", run="ended", rid="0")
    hand.attest("a", 0.0, i=1, boot="b", run="ended", rid="0")
    hand.at(65).beat(boot="b", run="started", rid="1")
    hand.at(70).cut()
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
    hand.at(5).beat(run="ended")
    hand.at(65).beat(run="started", rid="1")
    hand.at(70).cut()
    hand.at(180).beat(run="ended", rid="1")
    hand.at(3660)
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
    hand.at(5).beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.at(65).cut()  # it starts
    hand.at(177).beat(boot="b", i=3, run="ended")
    hand.at(1177)
    assert misses(hand) == []


def test_a_job_that_does_not_start_is_overdue_after_its_longest_run_if_a_gap_may_have_hidden_its_start():
    hand = hand_of(long_runs())
    hand.at(5).beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.at(65).cut()  # until 67
    hand.at(267)
    ((at, reason),) = misses(hand)
    assert (187 <= at <= 190, reason) == (True, "overdue")


@pytest.mark.parametrize("heard_until", [MIDNIGHT - 3600, MIDNIGHT - 5])  # what is saved of a short silence
@pytest.mark.parametrize(("end", "missed"), [(100.0, []), (None, ["never_ended"])])
def test_a_restarted_healer_goes_on_with_a_long_run(end, missed, heard_until):
    job = SavedJob(MIDNIGHT - 3600, runs=(("1", MIDNIGHT - 10),))
    saved = replace(UP, since=heard_until, job=job, boot="b", i=2)
    hand = hand_of(long_runs(), known={"a": saved}, beats={"a": says(3600.0, i=1, boot="b", run="ended")})
    hand.run(end or 130)
    if end:
        hand.beat(boot="b", i=3, run="ended", rid="1")
    hand.run(20)
    assert [reason for _, reason in misses(hand)] == missed


def test_a_start_that_is_sent_again_after_its_end_begins_no_run():
    hand = hand_of(long_runs())
    hand.at(65)
    for run in ("started", "ended", "started"):
        hand.beat(boot="b", run=run, rid="1")
    hand.at(365)
    assert misses(hand) == []


# -- gaps


def test_a_gap_before_the_scheduled_time_delays_nothing():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.cut(30)
    hand.at(85)
    assert misses(hand) == [(80, "overdue")]


def test_a_run_that_may_have_been_reported_in_a_gap_is_not_missed_but_the_next_one_is():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(65).cut(3)
    hand.at(138)
    assert misses(hand) == []
    hand.at(148)
    assert misses(hand) == [(140, "overdue")]


def test_with_a_witness_that_shows_the_last_run_a_gap_delays_a_miss_by_a_minute_at_most():
    hand = hand_of()
    hand.at(5).beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.at(65).cut(3)
    hand.at(98)
    ((at, reason),) = misses(hand)
    assert (80 <= at <= 89, reason) == (True, "overdue")


@pytest.mark.parametrize("boot", ["c", None])
def test_a_run_that_only_the_witness_heard_is_complete(boot):
    hand = hand_of()
    hand.at(5).beat(boot=boot, run="ended")
    hand.at(25).lose()
    hand.at(70).attest("a", 0.0, i=2, boot=boot, run="ended")
    hand.at(75).find()
    hand.at(135)
    assert misses(hand) == []
    hand.at(145)
    assert [reason for _, reason in misses(hand)] == ["overdue"]


def test_gap_after_gap_delays_a_miss_by_one_longest_pause_of_listening():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    while hand.elapsed < 400:
        hand.run(14)
        hand.cut(1)
    ((at, reason),) = misses(hand)
    assert reason == "overdue"
    assert at < 180


@pytest.mark.parametrize("end", [149.0, None])
def test_after_one_run_whose_end_was_in_a_gap_the_next_has_its_longest_time_if_its_start_was_in_another(end):
    hand = hand_of(minutely(max_run=30.0))
    hand.at(5).beat(run="ended")
    hand.at(62).beat(run="started", rid="1")
    hand.at(70).cut()  # until 72: it ends
    hand.at(119).cut(3.0)  # until 122: the next one starts
    hand.at(149)
    assert misses(hand) == []
    if end:
        hand.beat(run="ended", rid="2")
    hand.at(179)
    assert [reason for _, reason in misses(hand)] == ([] if end else ["overdue"])


def test_in_a_gap_nothing_is_missed():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(35).lose()
    hand.at(635)
    assert misses(hand) == []


def test_another_process_after_a_gap_is_the_next_run_and_no_restart():
    hand = hand_of()
    hand.at(5).beat(boot="b", run="ended")
    hand.at(25).cut(3)
    hand.at(65)
    for boot in "cdef":
        hand.beat(boot=boot, run="ended")
        hand.run(60)
    assert gaps(hand) == []
    assert misses(hand) == []


# -- reports that are no sign of life, between what was lost and what is asked


@pytest.mark.parametrize("run", ["log", "started", "failed"])
def test_a_success_that_was_lost_in_a_gap_is_news_though_a_later_report_of_its_boot_was_heard(run):
    hand = hand_of()
    hand.at(5).beat(boot="b", run="ended")
    hand.at(63).lose()
    hand.at(65).attest("a", 0.0, i=3, boot="b", run="ended")  # i=2 was a start
    hand.find()
    hand.at(67).beat(boot="b", i=4, run=run)
    hand.at(107)
    assert [reason for _, reason in misses(hand)] == (["failed"] if run == "failed" else [])


def test_a_success_that_was_heard_is_no_news_after_a_later_report_of_its_boot():
    hand = hand_of()
    hand.at(5).beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    for run in ("log", "started", "log"):
        hand.beat(boot="b", run=run)
    hand.at(95)
    assert misses(hand) == [(80, "overdue")]


# -- outages that end unheard


def down_at_85() -> Hand:
    """A job that ran at 5 and was missed at 80; its session is cut at 85."""
    hand = hand_of()
    hand.at(5).beat(boot="b", run="ended")
    hand.attest("a", 0.0, i=1, boot="b", run="ended")
    hand.at(85)
    assert misses(hand) == [(80, "overdue")]
    hand.lose()
    hand.at(95)
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
        {"age": 4.0, "i": 1, "ts": MIDNIGHT + 5, "run": "ended"},  # heard, under a longer timeout
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
    hand.at(5).lose()
    hand.at(7).attest("a", 1.0, i=1, boot="b", run="ended")  # at 6
    hand.find()
    hand.at(9).beat(boot="b", i=2, run="failed")
    hand.at(14).lose()
    hand.find()
    hand.at(19)
    assert states(hand) == [State.DOWN]


def test_a_job_that_is_down_and_completes_a_run_while_the_healer_restarts_is_up():
    down = SavedService(State.DOWN, since=MIDNIGHT - 600, missed_at=MIDNIGHT - 500, boot="b", i=1)
    saved = replace(down, job=SavedJob(MIDNIGHT - 600))
    hand = hand_of(known={"a": saved}, beats={"a": says(50.0, i=1, boot="c", run="ended")})
    (ok,) = hand.verdicts
    assert (ok.state, ok.since, ok.down_sec, ok.age_sec) == (State.UP, MIDNIGHT - 600, 550.0, 50.0)
    hand.at(90)
    assert misses(hand) == [(20, "overdue")]  # the run of midnight


def test_a_service_without_a_schedule_is_up_by_a_beat_that_is_younger_than_its_timeout():
    down = SavedService(State.DOWN, since=MIDNIGHT - 600, missed_at=MIDNIGHT - 500, boot="b", i=1)
    for age, told in ((29.0, [State.UP]), (31.0, [])):
        hand = Hand(watch(), wall=MIDNIGHT, known={"a": down}, beats={"a": says(age, i=7, boot="b")})
        assert states(hand) == told
