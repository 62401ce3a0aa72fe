"""Reports about runs: what each of them does to the state of a service, with and without a schedule."""

import pytest

from marketswarm.detector import SavedService, State
from marketswarm.detector.states import Publication, Step
from support.simulation.manual_detector import Hand, watch

UP = SavedService(State.UP, silent_sec=5.0)

# I = 10, T = 30, W = 22.5


# -- services without a schedule


def test_the_end_of_a_run_is_a_sign_of_life_like_any_beat():
    hand = Hand(watch())
    hand.beat(boot="b", run="ended", rid="1")
    hand.run(20)
    hand.beat(boot="b", run="ended", rid="2")
    hand.run(29)
    assert hand.said == [(0, "a", "up")]
    hand.run(2)
    assert hand.said[1:] == [(50, "a", "down")]


@pytest.mark.parametrize("run", ["started", "log"])
def test_a_report_that_is_no_sign_of_life_moves_no_deadline_and_ends_no_outage(run):
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.run(29)
    hand.beat(boot="b", run=run)
    hand.run(2)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]
    hand.beat(boot="b", run=run)
    assert len(hand.verdicts) == 2
    assert hand.detector.counts.heard == 3


def test_a_run_that_failed_is_missed_at_once_whatever_the_truth_says():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.run(5)
    hand.beat(boot="b", run="failed", exit_code=3)
    hand.run(2)
    _, miss = hand.verdicts
    assert (miss.state, miss.reason, miss.exit_code) == (State.DOWN, "failed", 3)
    assert miss.late_sec < 7
    hand.beat(boot="b", run="failed", exit_code=4)
    hand.run(60)
    assert len(hand.verdicts) == 2, "one outage is one miss"
    hand.beat(boot="b", run="ended")
    assert hand.verdicts[-1].state is State.UP
    hand.run(40)
    assert (hand.verdicts[-1].reason, hand.verdicts[-1].exit_code) == ("silent", None)


@pytest.mark.parametrize("between", [0.0, 0.3])
def test_a_run_that_failed_is_missed_though_the_next_one_is_complete_at_once(between):
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.run(5)
    hand.beat(boot="b", run="failed", exit_code=3)
    hand.run(between)
    hand.beat(boot="b", run="ended")
    hand.run(5)
    assert hand.said == [(0, "a", "up"), (5, "a", "down"), (5 + between, "a", "up")]
    miss, ok = hand.verdicts[1:]
    assert (miss.reason, miss.exit_code) == ("failed", 3)
    assert miss.publication is ok.publication is Publication.ALERT
    hand.run(40)
    assert hand.verdicts[-1].reason == "silent"


def test_a_failure_while_the_service_is_looked_at_is_one_miss():
    hand = Hand(watch())
    hand.beat(boot="b", run="failed")
    service = hand.detector.services["a"]
    service.move_stage(Step.DUE)
    hand.beat(boot="b", run="ended")
    assert [verdict.state for verdict in hand.verdicts] == [State.DOWN, State.UP]
    assert hand.detector.evaluate_suspect("a", None, hand.now) is None
    hand.run(5)
    assert len(hand.verdicts) == 2


def test_a_run_that_ends_while_a_failure_is_looked_at_is_its_ok_when_it_is_heard():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.run(5)
    hand.beat(boot="b", run="failed")
    # the next run's end is under `beat:a` already, and its message is still on its way
    hand.attest("a", 0.0, i=3, boot="b", run="ended")
    hand.run(1)
    hand.beat(boot="b", i=3, run="ended")
    assert hand.said == [(0, "a", "up"), (5, "a", "down"), (6, "a", "up")]


def test_a_failed_run_needs_no_exit_code_and_no_boot():
    hand = Hand(watch())
    hand.beat()
    hand.beat(run="failed")
    hand.run(1)
    assert (hand.verdicts[-1].reason, hand.verdicts[-1].exit_code) == ("failed", None)


def test_a_report_that_is_sent_again_is_counted_as_a_replay():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.beat(boot="b", i=1, run="failed")
    hand.run(1)
    assert hand.said == [(0, "a", "up")]
    assert hand.detector.counts.replayed == 1


def test_a_failure_among_familiar_beats_is_heard():
    hand = Hand(watch())
    hand.beating(40, 10, boot="b")
    hand.beat(boot="b", run="failed")
    hand.run(1)
    assert hand.said == [(0, "a", "up"), (40, "a", "down")]


def test_a_payload_with_a_report_never_becomes_the_familiar_one():
    hand = Hand(watch())
    hand.beat(boot="b", run="ended")
    service = hand.detector.services["a"]
    hand.beat(boot="b", run="ended")
    assert not service.is_unparsed


def test_a_stored_report_that_a_run_started_acquits_nobody():
    hand = Hand(watch(), known={"a": UP})
    hand.attest("a", 0.0, i=9, boot="b", run="started")
    hand.run(60)
    assert [state for _, _, state in hand.said] == ["down"]


def test_many_failures_at_once_are_one_evaluation():
    hand = Hand(watch())
    for _ in range(1000):
        hand.beat(run="failed")
    assert len(hand.detector.buses["bus"].awaiting_canary) <= 1
