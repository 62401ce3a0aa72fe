"""Jobs whose healer restarts or takes over, and truths that change or move them."""

from dataclasses import replace

import pytest

from marketswarm.beat import Beat, encode_beat
from marketswarm.detector import SavedJob, SavedService, State, adopt_state, is_miss_overruled
from marketswarm.monitor.store import combine_service
from marketswarm.truth import JobRule, Schedule
from support.simulation.manual_detector import Hand, says, stored, watch
from support.simulation.manual_jobs import (
    EVERY_MINUTE,
    GRACE,
    HOURLY,
    MIDNIGHT,
    UP,
    hand_of,
    long_runs,
    minutely,
    misses,
    states,
)

# -- restarts and reseeds


def test_a_restarted_healer_knows_the_last_run_and_its_deadline():
    saved = replace(UP, job=SavedJob(MIDNIGHT - 50))  # the run of 00:00 is due at 00:20
    hand = hand_of(known={"a": saved})
    hand.attest("a", 50.0, i=1, boot="b", run="ended")
    hand.at(30)
    assert misses(hand) == [(20, "overdue")]


@pytest.mark.parametrize("has_run", [True, False])
def test_a_restarted_healer_knows_a_run_whose_ok_was_published_before_the_job_was_saved(has_run):
    job = SavedJob(MIDNIGHT - 7200, has_run=has_run)
    saved = replace(UP, since=MIDNIGHT - 7, job=job, boot="b", i=1)
    hand = hand_of(held=True)
    hand.attest("a", 7.0, i=1, boot="b", ts=MIDNIGHT - 7.002, run="ended")
    hand.recall({"a": saved})
    hand.at(19)
    assert misses(hand) == []
    assert hand.detector.jobs["a"].job.expected.since.wall == pytest.approx(MIDNIGHT - 7, abs=0.5)
    hand.at(29)
    assert misses(hand) == [(20, "overdue")]


@pytest.mark.parametrize("boot", [None, "b"])
def test_a_restarted_healer_counts_no_run_twice_that_looks_younger_under_a_shorter_timeout(boot):
    ran = MIDNIGHT - 3700  # so that the run of 23:01 is missing
    hand = hand_of(minutely(schedule=HOURLY), held=True)
    hand.attest("a", 200.0, i=7, ts=ran, boot=boot, run="ended")
    hand.recall({"a": replace(UP, since=ran, job=SavedJob(ran))})
    hand.at(100)
    assert misses(hand) == [(20, "overdue")]


def test_a_restarted_healer_does_not_miss_a_run_of_the_time_in_which_it_was_away():
    hand = hand_of(known={"a": replace(UP, job=SavedJob(MIDNIGHT - 7200))})
    hand.at(75)  # what was due in the last two hours may have been reported, and nobody knows
    assert misses(hand) == []
    hand.at(85)
    assert misses(hand) == [(80, "overdue")]


def test_a_job_that_never_ran_is_missed_also_by_a_healer_that_restarts():
    hand = hand_of(
        known={
            "a": replace(UP, state=State.UNKNOWN, seen=False, job=SavedJob(MIDNIGHT - 7200, has_run=False))
        }
    )
    hand.at(100)
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
    hand.at(5).beat(boot="new", run="ended")
    hand.recall({"a": replace(UP, job=SavedJob(MIDNIGHT - 7200))})
    assert hand.detector.jobs["a"].job.to_saved() == SavedJob(MIDNIGHT + 5, schedule="* * * * * UTC")
    hand.at(79)
    assert misses(hand) == []
    hand.at(84)
    assert misses(hand) == [(80, "overdue")]


def test_under_a_new_schedule_the_first_time_from_now_on_counts():
    hand = hand_of(minutely(schedule=Schedule("0 3 * * *")))
    hand.at(5).beat(run="ended")
    hand.at(125).rewatch(minutely())  # the runs of 00:01 and 00:02 were not to be reported
    hand.at(195)
    assert misses(hand) == []
    hand.at(205)
    assert misses(hand) == [(200, "overdue")]


def test_under_a_new_grace_the_last_run_still_counts():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(65).rewatch(minutely(grace=40.0))
    hand.at(105)
    assert misses(hand) == [(100, "overdue")]


def test_a_shorter_grace_makes_no_miss_of_a_run_that_has_its_old_deadline_ahead():
    hand = hand_of(minutely(grace=50.0))
    hand.at(5).beat(run="ended")
    hand.at(100).rewatch(minutely(grace=10.0))  # by which it was to be reported half a minute ago
    hand.at(105).rewatch(minutely(grace=5.0))
    assert misses(hand) == []
    hand.at(115)
    assert misses(hand) == [(110, "overdue")], "the deadline of before, however often the truth changes"


def test_a_shorter_grace_counts_from_the_next_run_on():
    hand = hand_of(minutely(grace=50.0))
    hand.at(5).beat(run="ended")
    hand.at(100).rewatch(minutely(grace=10.0))
    hand.beat(run="ended")
    hand.at(135)
    assert misses(hand) == [(130, "overdue")]


def test_a_gap_before_the_scheduled_time_delays_no_deadline_of_the_truth_before():
    hand = hand_of(minutely(grace=50.0))
    hand.at(5).beat(run="ended")
    hand.at(40).rewatch(minutely(grace=40.0))
    hand.cut(10)
    hand.at(130)
    assert misses(hand) == [(110, "overdue")]


def test_a_run_that_ended_in_a_gap_takes_no_deadline_of_the_truth_before_away():
    hand = hand_of(minutely(grace=50.0, max_run=70.0))
    hand.at(5).beat(boot="b", run="ended")
    hand.at(62).beat(boot="b", run="started", rid="1")
    hand.cut()
    hand.attest("a", 1.0, boot="b", i=3, run="ended", rid="1")  # it is read when that run has taken 70 s
    hand.at(128).rewatch(minutely(grace=5.0, max_run=70.0))  # by which 00:02 was to be reported at 125 s
    hand.at(188)
    assert misses(hand) == [(170, "overdue")]


@pytest.mark.parametrize("schedule", [EVERY_MINUTE, Schedule("*/2 * * * *"), None])
def test_a_shorter_longest_run_makes_no_miss_of_a_run_that_has_its_old_deadline_ahead(schedule):
    hand = hand_of(minutely(max_run=60.0))
    hand.at(5).beat(boot="b", run="ended")
    hand.beat(boot="b", run="started", rid="1")
    hand.at(35)
    changed = replace(minutely(), job=JobRule(schedule, GRACE if schedule else 0.0, 20.0))
    hand.rewatch(changed)
    hand.at(60)
    assert misses(hand) == []
    hand.at(70)
    assert misses(hand) == [(65, "never_ended")]


def test_a_shorter_grace_right_after_the_deadline_hides_no_miss():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(79.9)
    hand.stall(0.2)
    hand.rewatch(minutely(grace=10.0))
    hand.run(1)
    assert misses(hand) == [(80, "overdue")]


def test_a_job_whose_schedule_has_ended_is_not_missed():
    hand = hand_of(minutely(schedule=Schedule("2020-01-01,02 03:00")))
    hand.beat(run="ended")
    hand.at(300)
    assert misses(hand) == []


# -- takeovers, and truths that move a job


def test_a_takeover_tells_no_failure_again_that_the_leader_saw_end():
    hand = hand_of()
    hand.at(5).beat(boot="b", run="failed", exit_code=2)
    hand.at(6)  # missed; then a gap takes the end of the next run
    adopt_state(hand.detector, "a", SavedService(State.UP, since=MIDNIGHT + 8), hand.now)
    hand.at(66)
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
    hand.at(5).beat(boot="b", run="ended")
    if reason == "never_ended":
        hand.at(61).beat(boot="b", run="started")
    hand.at(85)
    assert [why for _, why in misses(hand)] == [reason]
    job = None if heard is None else SavedJob(MIDNIGHT + heard)
    published, had_until = replace(UP, job=job), hand.now.mono
    found = is_miss_overruled(hand.detector, "a", published, hand.now, is_silent=False, had_until=had_until)
    assert found is want
    if want:
        adopt_state(hand.detector, "a", published, hand.now)
        hand.at(139)  # the next run is due at 140
        assert len(misses(hand)) == 1
        hand.at(141)
        assert misses(hand)[1:] == [(140, "overdue")]


def test_a_miss_of_a_job_whose_next_run_is_overdue_to_the_leader_too_stays():
    hand = hand_of()
    hand.at(5).beat(boot="b", run="ended")
    hand.at(145)
    published = replace(UP, job=SavedJob(MIDNIGHT + 61))  # and that of 120 is due at 140
    for had_until in (hand.now.mono, 0.0):
        assert not is_miss_overruled(
            hand.detector, "a", published, hand.now, is_silent=False, had_until=had_until
        )


@pytest.mark.parametrize(("heard", "want"), [(62, False), (70, True)])
def test_a_failure_is_overruled_by_a_run_that_was_complete_after_it(heard, want):
    hand = hand_of()
    hand.at(5).beat(boot="b", run="ended")
    hand.at(61).beat(boot="b", run="failed")
    hand.at(75)
    assert misses(hand) == [(61, "failed")]
    published = replace(UP, job=SavedJob(MIDNIGHT + heard))
    had_until = hand.now.mono
    assert want is is_miss_overruled(
        hand.detector, "a", published, hand.now, is_silent=False, had_until=had_until
    )


@pytest.mark.slow
def test_a_job_that_moves_to_a_bus_with_an_older_clock_keeps_its_deadline():
    hand = hand_of(minutely(), replace(watch("z", bus="other"), timeout_sec=1e6))
    hand.at(5).lose()
    hand.at(7205).find()  # the other bus is heard for two hours longer
    hand.at(7265).beat(run="ended")
    hand.at(7285)
    told = len(misses(hand))
    hand.rewatch(replace(minutely(), bus="other"))
    hand.at(7305)
    assert misses(hand)[told:] == []
    hand.at(7405)
    assert [reason for _, reason in misses(hand)[told:]] == ["overdue"]


def test_a_run_under_way_keeps_its_deadline_on_another_bus():
    hand = hand_of(minutely(max_run=60.0), replace(watch("z", bus="other"), timeout_sec=1e6))
    hand.lose("other")
    hand.at(5).beat(boot="b", run="ended")
    hand.attest("a", 0.0, boot="b", i=1)
    hand.beat(boot="b", run="started", rid="1")
    hand.at(25).find("other")
    hand.at(27).rewatch(replace(minutely(max_run=60.0), bus="other"))
    hand.at(57)
    assert misses(hand) == []
    hand.at(87)
    ((at, reason),) = misses(hand)
    assert (64 <= at <= 72, reason) == (True, "never_ended")


@pytest.mark.parametrize("later_sec", [0.0004, 3.0])  # the same run, as it is stored, and another one
def test_a_bus_that_was_away_over_a_takeover_gets_its_minute_for_what_could_not_be_sent(later_sec):
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(15).lose()
    hand.at(7215)
    known = SavedJob(MIDNIGHT + 5 + later_sec)
    adopt_state(hand.detector, "a", SavedService(State.UP, since=MIDNIGHT + 5, job=known), hand.now)
    hand.find()
    hand.run(GRACE - 1)
    assert misses(hand) == []
    hand.run(120)
    assert [reason for _, reason in misses(hand)] == ["overdue"]


def test_of_a_run_that_a_gap_hid_the_next_bus_of_its_job_knows_nothing():
    hand = hand_of(minutely(), replace(watch("z", bus="other"), timeout_sec=1e6))
    hand.at(5).beat(boot="b", run="ended")
    hand.at(55).lose()  # the run of 00:01 is reported meanwhile, and the last one is what the other bus knows
    hand.at(65).attest("a", 60.0, boot="b", i=1, run="ended")
    hand.rewatch(replace(minutely(), bus="other"))
    hand.at(125)
    assert misses(hand) == []
    hand.at(155)
    assert misses(hand) == [(140, "overdue")]


@pytest.mark.parametrize(("moved_at", "missed"), [(MIDNIGHT - 50, []), (None, [(20, "never_ended")])])
def test_a_restarted_healer_knows_that_the_bus_of_a_job_knows_nothing_of_its_run(moved_at, missed):
    job = SavedJob(MIDNIGHT - 3600, runs=(("1", MIDNIGHT - 100),), moved_at=moved_at)
    beats = {"a": says(3600.0, boot="b", i=1, run="ended")}
    hand = hand_of(long_runs(), known={"a": replace(UP, since=MIDNIGHT - 3600, job=job)}, beats=beats)
    hand.at(70)
    assert misses(hand) == missed


def test_a_failure_right_before_a_new_truth_is_missed():
    hand = hand_of()
    hand.at(5).beat(boot="b", run="failed", exit_code=2)
    hand.rewatch(minutely(grace=40.0))
    hand.at(6)
    assert misses(hand) == [(5, "failed")]
    assert hand.verdicts[-1].exit_code == 2


def test_a_failure_and_the_next_success_before_the_restore_are_a_miss_and_its_ok():
    hand = hand_of(held=True)
    hand.beat(boot="b", run="failed", exit_code=2)
    hand.at(1).beat(boot="b", run="ended")
    hand.recall({"a": UP})
    assert states(hand) == [State.DOWN, State.UP]
    assert (hand.verdicts[0].reason, hand.verdicts[0].exit_code) == ("failed", 2)
    hand.at(31)
    assert states(hand) == [State.DOWN, State.UP]


def test_a_truth_between_them_and_the_restore_changes_nothing_about_that():
    hand = hand_of(held=True)
    hand.beat(boot="b", run="failed", exit_code=2)
    hand.at(1).beat(boot="b", run="ended")
    hand.rewatch(minutely(grace=40.0))
    hand.recall({"a": UP})
    assert states(hand) == [State.DOWN, State.UP]


def test_a_failure_after_the_last_success_before_the_restore_is_missed():
    hand = hand_of(held=True)
    hand.beat(boot="b", run="ended")
    hand.at(1).beat(boot="b", run="failed", exit_code=2)
    hand.recall({"a": UP})
    hand.at(31)
    assert states(hand) == [State.DOWN]
    assert hand.verdicts[0].reason == "failed"


def taken_over(hand: Hand, job: SavedJob, state: State = State.UP) -> None:
    adopt_state(hand.detector, "a", SavedService(state, since=MIDNIGHT, job=job), hand.now)


def test_a_takeover_takes_the_run_that_only_the_leader_heard():
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(65).cut()
    hand.at(77)
    taken_over(hand, SavedJob(MIDNIGHT + 66))
    hand.at(139)
    assert misses(hand) == []
    hand.at(149)
    assert misses(hand) == [(140, "overdue")]


def test_a_takeover_keeps_the_run_that_only_the_standby_heard():
    hand = hand_of()
    hand.at(65).beat(run="ended")
    taken_over(hand, SavedJob(MIDNIGHT + 5))
    hand.at(137)
    assert misses(hand) == []
    hand.at(147)
    assert misses(hand) == [(140, "overdue")]


def test_a_takeover_expects_the_run_that_is_due_and_not_the_one_after_it():
    hand = hand_of()
    hand.at(100)
    assert misses(hand) == [(80, "overdue")]  # of 00:01; the leader heard that, and not the next one
    hand.at(135)
    taken_over(hand, SavedJob(MIDNIGHT + 82))
    hand.at(145)
    assert misses(hand)[1:] == [(140, "overdue")]


@pytest.mark.parametrize(("last", "under_way"), [("0", "1"), (None, "")])
def test_a_takeover_takes_the_run_under_way_of_which_the_standby_missed_the_start(last, under_way):
    hand = hand_of(long_runs())
    hand.at(5).beat(boot="b", run="ended", rid=last)
    hand.attest("a", 0.0, i=1, boot="b", run="ended", rid=last)
    hand.at(65).cut()
    taken_over(hand, SavedJob(MIDNIGHT + 5, runs=((under_way, MIDNIGHT + 66),)))
    hand.at(267)
    ((at, reason),) = misses(hand)
    assert (186 <= at <= 190, reason) == (True, "never_ended")


def test_a_takeover_knows_the_run_that_ended_for_the_leader_alone():
    hand = hand_of(long_runs())
    hand.at(5).beat(boot="b", run="ended", rid="0")
    hand.attest("a", 0.0, i=1, boot="b", run="ended", rid="0")
    hand.at(65).beat(boot="b", run="started", rid="1")
    hand.cut()
    taken_over(hand, SavedJob(MIDNIGHT + 66))
    hand.at(267)
    assert misses(hand) == []


def test_a_run_that_a_takeover_takes_long_before_the_next_scheduled_time_is_missed_by_its_longest_time():
    hand = hand_of(long_runs())
    hand.at(65).beat(boot="b", run="ended", rid="0")
    hand.attest("a", 0.0, i=1, boot="b", run="ended", rid="0")
    hand.at(300).cut()
    hand.at(352)
    taken_over(hand, SavedJob(MIDNIGHT + 65, runs=(("1", MIDNIGHT + 301),)))
    hand.at(552)
    ((at, reason),) = misses(hand)
    assert (421 <= at <= 425, reason) == (True, "never_ended")


def test_a_takeover_brings_no_run_back_whose_end_the_standby_heard():
    hand = hand_of(long_runs())
    hand.at(65).beat(boot="b", run="started", rid="1")
    hand.beat(boot="b", run="ended", rid="1")
    taken_over(hand, SavedJob(MIDNIGHT - 60, runs=(("1", MIDNIGHT + 65),)))
    hand.at(365)
    assert misses(hand) == []


def test_a_schedule_that_is_new_since_the_healer_ended_counts_from_its_start():
    job = SavedJob(MIDNIGHT - 7200, schedule="0 3 * * * UTC")
    hand = hand_of(known={"a": replace(UP, job=job)})
    hand.attest("a", 7200.0, i=1, boot="b", run="ended")
    hand.at(70)
    assert misses(hand) == []  # the runs since then were not to be reported
    hand.at(85)
    assert misses(hand) == [(80, "overdue")]


def test_a_start_without_an_id_after_a_gap_is_that_of_the_next_run():
    hand = hand_of(replace(long_runs(), job=JobRule(EVERY_MINUTE, GRACE, 100.0)))
    hand.at(5).beat(boot="b", run="started")
    hand.cut()
    hand.attest("a", 1.0, i=2, boot="b", run="ended")
    hand.at(62).beat(boot="b", i=3, run="started")
    hand.at(157)
    assert misses(hand) == []
    hand.at(167)
    assert [reason for _, reason in misses(hand)] == ["never_ended"]


def test_a_schedule_without_a_run_that_began_while_its_bus_was_away_gets_its_minute_after_a_restart():
    job = SavedJob(MIDNIGHT - 3600, has_run=False)
    hand = hand_of(held=True)
    hand.lose()
    hand.recall({"a": SavedService(State.UP, since=MIDNIGHT - 9000, silent_sec=2000.0, job=job)})
    hand.at(30).find()
    hand.run(GRACE - 1)
    assert misses(hand) == []
    hand.run(120)
    assert [reason for _, reason in misses(hand)] == ["overdue"]


# -- what the leader before us published last, and did not save any more


@pytest.mark.parametrize(("sent", "want"), [(70, 70), (-3600, 60), (3600, 90)])
def test_a_failure_that_waited_while_this_process_stood_still_is_dated_by_its_sender(sent, want):
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(60).stall(30.0)
    hand.beat(raw=encode_beat(Beat("a", 2, MIDNIGHT + sent, run="failed")))
    hand.run(1.0)
    assert hand.verdicts[-1].reason == "failed"
    assert hand.verdicts[-1].down_since == pytest.approx(MIDNIGHT + want, abs=0.5)


def test_a_failure_that_is_heard_at_once_is_dated_by_the_healer():
    hand = hand_of()
    hand.at(60).beat(raw=encode_beat(Beat("a", 1, MIDNIGHT, run="failed")))
    hand.run(1.0)
    assert hand.verdicts[-1].down_since == MIDNIGHT + 60


@pytest.mark.parametrize(
    ("missed", "want"),
    [
        (65, [State.UP, State.UP]),
        (69, [State.UP]),
        (79, [State.UP]),
    ],  # within the difference of clocks, later
)
def test_a_run_that_we_heard_after_the_leader_told_a_miss_ends_that_as_we_take_over(missed, want):
    hand = hand_of()
    hand.at(5).beat(run="ended")
    hand.at(70).beat(run="ended")
    hand.at(80)
    times = {"since": MIDNIGHT + 5, "missed_at": MIDNIGHT + missed, "down_since": MIDNIGHT + 60}
    hand.record([adopt_state(hand.detector, "a", SavedService(State.DOWN, **times), hand.now)])
    assert states(hand) == want
    hand.at(139)
    assert misses(hand) == []
    if len(want) > 1:
        ok = hand.verdicts[-1]
        assert (ok.since, ok.down_since, ok.down_sec) == (MIDNIGHT + 5, MIDNIGHT + 60, 10.0)
        hand.at(141)
        assert misses(hand) == [(140, "overdue")]


def test_a_failure_after_the_run_that_we_heard_keeps_the_published_miss():
    hand = hand_of()
    hand.at(81).beat(run="ended")
    hand.at(82)
    hand.beat(run="failed")
    published = SavedService(State.DOWN, since=MIDNIGHT + 5, missed_at=MIDNIGHT + 75)
    assert adopt_state(hand.detector, "a", published, hand.now) is None


LONG = SavedJob(MIDNIGHT - 3600, runs=(("1", MIDNIGHT - 300),))


@pytest.mark.parametrize(
    ("ok_at", "down_since", "want"),
    [
        (-60, -180, []),  # it was missed after its 120 s, and a later run ended that
        (-60, None, ["never_ended"]),  # the first report of the job
        (-200, -260, ["never_ended"]),
    ],
)
@pytest.mark.parametrize("by", ["restart", "takeover"])
def test_a_run_that_was_missed_before_the_last_ok_is_not_missed_again(by, ok_at, down_since, want):
    """Its healer was killed after it had told the ok, and before it saved the job."""
    times = {"ts": MIDNIGHT + ok_at, "since": MIDNIGHT - 3600}
    if down_since is not None:
        times["down_since"] = MIDNIGHT + down_since
    ok = combine_service(stored(verdict="up", **times), None, None, "bus", None)
    saved = replace(ok, since=MIDNIGHT - 3600, job=LONG)
    beats = {"a": says(3600.0, boot="b", i=1, run="ended")}
    if by == "restart":
        hand = hand_of(long_runs(), known={"a": saved}, beats=beats)
    else:
        hand = hand_of(long_runs(), known={"a": replace(saved, job=LONG._replace(runs=()))}, beats=beats)
        adopt_state(hand.detector, "a", saved, hand.now)
    hand.at(79)
    assert [reason for _, reason in misses(hand)] == want
