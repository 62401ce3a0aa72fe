from dataclasses import replace

import pytest

from marketswarm.beat import Sender
from marketswarm.detector import Publication, SavedService, State
from marketswarm.detector.service import BOOTS_KEPT
from marketswarm.monitor.metrics import count_beats
from marketswarm.truth import MAX_REPLICAS
from support.simulation.manual_detector import Hand, says, watch

# I = 10, T = 30, W = 22.5; bus_timeout 10


# -- the rule, as time goes by


def test_a_service_that_beats_is_up_once_and_never_missed():
    hand = Hand(watch())
    hand.beating(300, 10)
    assert hand.said == [(0, "a", "up")]
    assert hand.verdicts[0].publication is Publication.LOG


def test_a_service_that_falls_silent_is_missed_a_timeout_after_its_last_beat():
    hand = Hand(watch())
    hand.beating(40, 10)  # the last beat at 30
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (60, "a", "down")]
    miss = hand.verdicts[1]
    assert (miss.publication, miss.reason, miss.timeout_sec) == (Publication.ALERT, "silent", 30)
    assert miss.late_sec == pytest.approx(30, abs=0.01)
    assert miss.since == pytest.approx(hand.now.wall - hand.elapsed + 30)


def test_a_service_that_was_never_seen_is_missed_after_a_warm_up():
    hand = Hand(watch())
    hand.run(60)
    assert hand.said == [(22.5, "a", "down")]
    miss = hand.verdicts[0]
    assert (miss.reason, miss.since) == ("never_seen", None)
    assert miss.late_sec == pytest.approx(22.5, abs=0.01)


def test_a_service_that_comes_back_is_ok_once_with_the_whole_outage():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.run(50)
    hand.beating(30, 10, boot="c")
    assert hand.said == [(0, "a", "up"), (30, "a", "down"), (50, "a", "up")]
    ok = hand.verdicts[2]
    assert (ok.publication, ok.down_sec, ok.age_sec, ok.boot) == (Publication.ALERT, 50, 0, "c")
    assert ok.since == hand.verdicts[0].ts


def test_who_was_never_seen_and_comes_has_no_outage_that_could_be_measured():
    hand = Hand(watch())
    hand.run(30)
    hand.beat()
    assert [(v.state, v.down_sec, v.since) for v in hand.verdicts[1:]] == [(State.UP, None, None)]


def test_after_a_gap_a_silent_service_gets_a_warm_up():
    hand = Hand(watch())
    hand.beat()
    hand.run(20)
    hand.cut(5)
    hand.run(60)
    # L stood at 20 for 5 s (and until the canary after the session): due at L 42.5
    assert [(round(at, 0), svc, state) for at, svc, state in hand.said[1:]] == [(48, "a", "down")]
    assert hand.verdicts[-1].late_sec == pytest.approx(42.5, abs=0.3)


def test_gap_after_gap_earns_one_warm_up_in_all():
    hand = Hand(watch())
    hand.beat()
    for _ in range(20):
        hand.run(9.75)
        hand.cut(0.25)
    assert [state for _, _, state in hand.said] == ["up", "down"]
    miss = hand.verdicts[-1]
    assert miss.late_sec == pytest.approx(52.5, abs=0.3)


def test_a_bus_that_is_away_makes_no_misses_of_its_services():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")
    hand.cut(500)
    hand.run(8)
    hand.beating(100, 10, "a", "b")
    assert [state for _, svc, state in hand.said if svc in "ab"] == ["up", "up"]


def test_a_canary_that_does_not_come_back_proves_no_silence():
    hand = Hand(watch())
    hand.beat()
    hand.run(20)
    hand.deaf.add("bus")
    hand.run(100)
    assert [state for _, svc, state in hand.said if svc == "a"] == ["up"]


def test_a_due_service_waits_for_one_canary_and_one_is_urged_at_once():
    hand = Hand(watch())
    hand.beat()
    hand.run(29.9)
    hand.elapsed = 30.0
    tick = hand.detector.tick(hand.now)
    assert (tick.suspects, tick.canary_buses) == ((), ("bus",))
    hand.clock().note_canary_sent(9999, hand.now.mono)
    hand.elapsed = 30.04
    hand.detector.take_canary("bus", 9999, hand.now)
    tick = hand.detector.tick(hand.now)
    assert [each.svc for each in tick.suspects] == ["a"]
    assert tick.canary_buses == ()
    miss = hand.detector.evaluate_suspect("a", None, hand.now)
    assert miss.late_sec == pytest.approx(30.04)


def test_a_beat_that_comes_before_the_canary_saves_its_service():
    hand = Hand(watch())
    hand.beat()
    hand.run(29.9)
    hand.elapsed = 30.0
    assert hand.detector.tick(hand.now).canary_buses == ("bus",)
    hand.beat()
    hand.run(29)
    assert hand.said == [(0, "a", "up")]


def test_the_next_look_is_never_later_than_what_is_due_nor_a_quarter_of_a_second():
    hand = Hand(watch())
    assert hand.detector.tick(hand.now).wake_in_sec == 0.25
    hand.beat()
    hand.run(29.9)
    assert hand.detector.tick(hand.now).wake_in_sec == pytest.approx(0.1)


def test_a_held_listener_says_nothing_of_services_and_does_not_spin():
    hand = Hand(watch(), held=True)
    hand.run(100)
    assert hand.detector.tick(hand.now).wake_in_sec == 0.25
    hand.beat()
    assert hand.said == []
    hand.recall({})
    assert hand.said == [(100, "a", "up")]


def test_a_wall_clock_that_is_set_wrong_changes_no_verdict():
    hand = Hand(watch())
    hand.beat()
    hand.run(10)
    hand.step_wall(-3600)
    hand.run(15)
    hand.step_wall(+7200)
    hand.run(25)
    hand.beat()
    assert hand.said == [(0, "a", "up"), (30, "a", "down"), (50, "a", "up")]
    assert hand.verdicts[1].late_sec == pytest.approx(30, abs=0.01)
    assert hand.verdicts[2].down_sec == pytest.approx(50)


# -- stalls


@pytest.mark.parametrize(("sec", "stalls"), [(1.2, 0), (1.3, 1), (1000, 1)])
def test_a_loop_that_wakes_more_than_a_second_late_is_a_gap(sec, stalls):
    hand = Hand(watch())
    hand.beat()
    hand.run(5)
    hand.stall(sec)
    hand.look()
    assert hand.detector.counts.stalls == stalls


def test_a_stall_is_noticed_before_what_piled_up_is_read():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")
    hand.stall(100)
    hand.beat("a")
    assert hand.detector.counts.stalls == 1
    hand.beating(10, 10, "a", "b")
    assert hand.detector.services["a"].last_beat.at == pytest.approx(20, abs=0.01), (
        "the stall did not move the clock"
    )
    hand.beating(60, 10, "a", "b")
    assert [state for _, _, state in hand.said] == ["up", "up"]


def test_who_died_during_a_stall_is_missed_within_the_greater_of_timeout_and_warm_up():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")  # a's last at 10
    hand.stall(150)
    hand.beating(60, 10, "b")
    ((at, svc, state),) = hand.said[2:]
    assert (svc, state) == ("a", "down")
    assert at - 170 <= 30


def test_stall_upon_stall_still_gets_to_the_miss():
    hand = Hand(watch())
    hand.beat()
    for _ in range(30):
        hand.run(4)
        hand.stall(3)
    assert [state for _, _, state in hand.said] == ["up", "down"]
    assert hand.verdicts[-1].late_sec == pytest.approx(52.5, abs=0.5)


# -- what is life


def test_malformed_payloads_are_no_life_and_are_counted():
    hand = Hand(watch())
    hand.beat()
    hand.run(20)
    reasons = []
    for raw in (b"", b"\xff", b'{"svc":"b","i":1,"ts":1}', b"x" * 5000):
        hand.beat(raw=raw)
        reasons.append(hand.detector.last_malformed)
    hand.run(20)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]
    assert hand.detector.counts.malformed == 4
    assert reasons == [("a", reason) for reason in ("not_json", "not_json", "other_svc", "too_long")]


def test_a_replay_is_no_life_and_is_counted():
    hand = Hand(watch())
    hand.beating(30, 10, boot="b")  # 1, 2, 3; the last at 20
    last = hand.detector.services["a"].payload
    for replay in ({"i": 1}, {"raw": last}, {"i": 2}):
        hand.run(5)
        hand.beat(boot="b", **replay)
    hand.run(30)
    assert hand.said == [(0, "a", "up"), (50, "a", "down")]
    assert hand.detector.counts.replayed == 3
    hand.beat(boot="b", i=2)
    assert hand.said[-1] == (50, "a", "down"), "nor does one end an outage"


def test_a_restarted_service_counts_anew_under_its_new_boot():
    hand = Hand(watch())
    hand.beating(30, 10, boot="b")
    hand.beating(60, 10, boot="c")
    assert [state for _, _, state in hand.said] == ["up"]
    assert hand.detector.counts.replayed == 0
    assert hand.detector.services["a"].instances.find_newest()[0] == "c"


def test_boots_without_end_take_no_more_room_and_no_instance_is_forgotten_that_beats():
    hand = Hand(watch())
    record = hand.detector.services["a"]
    alive = [f"alive{n}" for n in range(MAX_REPLICAS)]
    for turn in range(1, 21):
        for boot in alive:
            hand.beat(boot=boot, i=turn)
        hand.run(1)
        for n in range(MAX_REPLICAS):
            hand.beat(boot=f"hostile{turn}.{n}", i=1)
        hand.run(1)
    assert all(record.instances.find_i(boot) == 20 for boot in alive)
    for boot in alive:
        hand.beat(boot=boot, i=20)
    assert hand.detector.counts.replayed == MAX_REPLICAS
    assert len(record.instances) <= BOOTS_KEPT
    assert len(record.instances.list_others(0.0)) <= BOOTS_KEPT
    assert count_beats(record) == (20 + 20) * MAX_REPLICAS


def test_i_is_1_for_ever_is_life_without_a_boot():
    hand = Hand(watch())
    for _ in range(20):
        hand.beat(i=1)
        hand.run(10)
    assert [state for _, _, state in hand.said] == ["up"]


def test_two_instances_of_one_service_are_one_service():
    hand = Hand(watch())
    for _ in range(5):
        hand.beat(boot="b")
        hand.run(5)
        hand.beat(boot="c")
        hand.run(5)
    hand.beating(60, 10, boot="c")
    assert [state for _, _, state in hand.said] == ["up"]


def test_a_goodbye_does_not_extend_life_and_is_the_reason_of_the_miss():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.run(20)
    hand.beat(boot="b", status="stopping")
    hand.run(20)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]
    assert hand.verdicts[1].reason == "stopped"


def test_a_goodbye_of_who_was_never_seen_is_no_life_either():
    hand = Hand(watch())
    hand.beat(status="stopping")
    hand.run(30)
    assert hand.said == [(22.5, "a", "down")]
    assert hand.verdicts[0].reason == "stopped"


def test_a_goodbye_is_forgotten_with_the_next_beat():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.beat(boot="b", status="stopping")
    hand.beat(boot="c")
    hand.run(40)
    assert hand.verdicts[-1].reason == "silent"


def test_a_goodbye_does_not_end_an_outage():
    hand = Hand(watch())
    hand.run(30)
    hand.beat(boot="b", status="stopping")
    assert hand.said == [(22.5, "a", "down")]


def test_messages_on_channels_where_nobody_is_watched_come_back_as_they_are():
    hand = Hand(watch())
    canary = [b"message", b"healer:canary:x", b"17"]
    hearing = hand.detector.take_messages("bus", [canary], hand.now)
    assert hearing.others == [canary]
    assert hand.detector.take_messages("no such bus", [canary], hand.now).others == []


# -- the silence worth remembering


def test_a_silence_of_three_quarters_of_a_timeout_is_given_to_be_remembered_and_a_beat_takes_it_back():
    hand = Hand(watch())
    hand.detector.silences.take()
    hand.beat()
    hand.detector.silences.take()
    hand.run(22.4)
    assert hand.detector.silences.unsaved == {}
    hand.run(0.2)
    assert hand.detector.silences.unsaved == {"a": hand.detector.services["a"]}
    hand.beat()
    assert hand.detector.silences.unsaved == {"a": None}


def test_a_miss_ends_the_remembering_of_its_silence():
    hand = Hand(watch())
    hand.beat()
    hand.run(31)
    assert hand.detector.silences.unsaved == {"a": None}


# -- a run that failed


UP = SavedService(State.UP)
ALERTS = replace(watch(timeout=600.0), alert_on_failure=True)


def test_a_run_that_failed_is_missed_at_once_if_the_truth_says_so():
    hand = Hand(ALERTS)
    hand.beat(boot="b", sender=Sender(host="web-3"))
    hand.beat(boot="b")  # which names no host, as most beats do
    hand.run(5)
    hand.beat(boot="b", status="stopping", exit_code=3, detail="no space")
    hand.run(5)
    _, miss = hand.verdicts
    assert (miss.state, miss.reason, miss.exit_code, miss.host) == (State.DOWN, "failed", 3, "web-3")
    assert miss.detail == "no space"
    assert miss.late_sec < 10
    hand.run(1200)
    assert len(hand.verdicts) == 2, "the silence after it is no second miss"
    hand.beat(boot="c")
    assert [verdict.state for verdict in hand.verdicts] == [State.UP, State.DOWN, State.UP]
    hand.run(1200)
    assert hand.verdicts[-1].reason == "silent", "the failure before is forgotten"
    assert [verdict.detail for verdict in hand.verdicts] == [None, "no space", None, None]


def test_the_words_of_a_report_that_a_run_failed_are_those_of_its_miss():
    hand = Hand(watch(timeout=600.0))
    hand.beat(boot="b")
    hand.beat(boot="b", run="failed", detail="disk full")
    hand.run(5)
    hand.beat(boot="b")
    hand.beat(boot="b", run="failed")
    hand.run(5)
    assert [verdict.detail for verdict in hand.verdicts] == [None, "disk full", None, None]


@pytest.mark.parametrize("exit_code", [0, None])
def test_a_run_that_did_not_fail_is_not_missed_before_its_timeout(exit_code):
    hand = Hand(ALERTS)
    hand.beat(boot="b")
    hand.beat(boot="b", status="stopping", exit_code=exit_code)
    hand.run(500)
    assert len(hand.verdicts) == 1
    hand.run(200)
    assert hand.verdicts[-1].reason == "stopped"


def test_without_that_word_in_the_truth_a_failed_run_is_a_goodbye_like_any():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.beat(boot="b", status="stopping", exit_code=3)
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]
    assert (hand.verdicts[-1].reason, hand.verdicts[-1].exit_code) == ("stopped", None)


def test_a_command_that_never_beat_and_failed_is_missed_at_once():
    hand = Hand(ALERTS)
    hand.beat(status="stopping", exit_code=127)
    hand.run(5)
    assert [(verdict.state, verdict.reason) for verdict in hand.verdicts] == [(State.DOWN, "failed")]


def test_a_failure_that_only_the_stored_beat_tells_of_is_missed_after_a_restart():
    hand = Hand(
        ALERTS, beats={"a": says(20.0, i=9, boot="b", status="stopping", exit_code=1)}, known={"a": UP}
    )
    hand.run(5)
    assert [(verdict.state, verdict.reason) for verdict in hand.verdicts] == [(State.DOWN, "failed")]
