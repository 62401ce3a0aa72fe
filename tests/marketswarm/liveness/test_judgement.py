import pytest
from by_hand import Hand, says, watch

from marketswarm.beat import make
from marketswarm.liveness import Acquitted, Moment, State, Told

# I = 10, T = 30, W = 22.5; bus_timeout 10


# -- the rule, as time goes by


def test_a_service_that_beats_is_up_once_and_never_missed():
    hand = Hand(watch())
    hand.beating(300, 10)
    assert hand.said == [(0, "a", "up")]
    assert hand.verdicts[0].told is Told.QUIETLY


def test_a_service_that_falls_silent_is_missed_a_timeout_after_its_last_beat():
    hand = Hand(watch())
    hand.beating(40, 10)  # the last beat at 30
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (60, "a", "down")]
    miss = hand.verdicts[1]
    assert (miss.told, miss.reason, miss.timeout_sec) == (Told.ALERT, "silent", 30)
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
    assert (ok.told, ok.down_sec, ok.age_sec, ok.boot) == (Told.ALERT, 50, 0, "c")
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
    hand.lose()
    hand.run(5)
    hand.find()
    hand.run(60)
    # L stood at 20 for 5 s (and until the canary after the session): due at L 42.5
    assert [(round(at, 0), svc, state) for at, svc, state in hand.said[1:]] == [(48, "a", "down")]
    assert hand.verdicts[-1].late_sec == pytest.approx(42.5, abs=0.3)


def test_gap_after_gap_earns_one_warm_up_in_all():
    hand = Hand(watch())
    hand.beat()
    for _ in range(20):
        hand.run(9.75)
        hand.lose()
        hand.run(0.25)
        hand.find()
    assert [state for _, _, state in hand.said] == ["up", "down"]
    miss = hand.verdicts[-1]
    assert miss.late_sec == pytest.approx(52.5, abs=0.3)


def test_a_bus_that_is_away_makes_no_misses_of_its_services():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")
    hand.lose()
    hand.run(500)
    hand.find()
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
    tick = hand.life.tick(hand.now)
    assert (tick.suspects, tick.urge) == ((), ("bus",))
    hand.clock().sent(9999, hand.now.mono)
    hand.elapsed = 30.04
    hand.life.canary("bus", 9999, hand.now)
    tick = hand.life.tick(hand.now)
    assert [each.svc for each in tick.suspects] == ["a"]
    assert tick.urge == ()
    miss = hand.life.witness("a", None, hand.now)
    assert miss.late_sec == pytest.approx(30.04)


def test_a_beat_that_comes_before_the_canary_saves_its_service():
    hand = Hand(watch())
    hand.beat()
    hand.run(29.9)
    hand.elapsed = 30.0
    assert hand.life.tick(hand.now).urge == ("bus",)
    hand.beat()
    hand.run(29)
    assert hand.said == [(0, "a", "up")]


def test_the_next_look_is_never_later_than_what_is_due_nor_a_quarter_of_a_second():
    hand = Hand(watch())
    assert hand.life.tick(hand.now).wake_in == 0.25
    hand.beat()
    hand.run(29.9)
    assert hand.life.tick(hand.now).wake_in == pytest.approx(0.1)


def test_a_held_listener_says_nothing_of_services_and_does_not_spin():
    hand = Hand(watch(), held=True)
    hand.run(100)
    assert hand.life.tick(hand.now).wake_in == 0.25
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
    assert hand.life.counts.stalls == stalls


def test_a_stall_is_noticed_before_what_piled_up_is_read():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")
    hand.stall(100)
    hand.beat("a")
    assert hand.life.counts.stalls == 1
    hand.beating(10, 10, "a", "b")
    assert hand.life.records["a"].last.at == pytest.approx(20, abs=0.01), "the stall did not move the clock"
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
    for raw in (b"", b"\xff", b'{"svc":"b","i":1,"ts":1}', b"x" * 5000):
        hand.beat(raw=raw)
    hand.run(20)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]
    assert hand.life.counts.malformed == 4
    assert [found.reason for _, found in hand.malformed] == ["not_json", "not_json", "other_svc", "too_long"]


def test_a_replay_is_no_life_and_is_counted():
    hand = Hand(watch())
    hand.beating(30, 10, boot="b")  # 1, 2, 3; the last at 20
    for i in (1, 3, 2):
        hand.run(5)
        hand.beat(boot="b", i=i)
    hand.run(30)
    assert hand.said == [(0, "a", "up"), (50, "a", "down")]
    assert hand.life.counts.replayed == 3
    hand.beat(boot="b", i=2)
    assert hand.said[-1] == (50, "a", "down"), "nor does one end an outage"


def test_a_restarted_service_counts_anew_under_its_new_boot():
    hand = Hand(watch())
    hand.beating(30, 10, boot="b")
    hand.beating(60, 10, boot="c")
    assert [state for _, _, state in hand.said] == ["up"]
    assert hand.life.counts.replayed == 0
    assert hand.life.records["a"].boot() == "c"


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
    hearing = hand.life.hear("bus", [canary], hand.now)
    assert hearing.others == [canary]
    assert hand.life.hear("no such bus", [canary], hand.now).others == []


# -- the second witness


def due(*watches, **beat) -> Hand:
    """A hand whose service `a` beat at 0 and is asked about at 30."""
    hand = Hand(*(watches or (watch(),)))
    hand.beat(**beat)
    hand.run(29.99)
    hand.elapsed = 30.0
    hand.canaries()
    assert [each.svc for each in hand.life.tick(hand.now).suspects] == ["a"]
    return hand


def test_a_witness_who_knows_nothing_leaves_it_a_miss():
    hand = due()
    assert hand.life.witness("a", None, hand.now).state is State.DOWN


def test_a_witness_with_a_newer_beat_of_the_boot_acquits_and_the_listener_is_deaf():
    hand = due(boot="b")
    acquitted = hand.life.witness("a", says(4.0, boot="b", i=2), hand.now)
    assert acquitted == Acquitted("a", "bus", 4.0)
    assert hand.life.counts.unheard == 1
    assert hand.life.records["a"].last.at == pytest.approx(26)
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (56, "a", "down")]


def test_a_witness_who_acquits_twice_without_a_beat_heard_between_says_so():
    hand = due(boot="b")
    assert not hand.life.witness("a", says(0.01, boot="b", i=2), hand.now).again
    for _ in range(60 * 4):
        hand.elapsed += 0.25
        hand.canaries()
        if hand.life.tick(hand.now).suspects:
            break
    assert hand.life.witness("a", says(0.01, boot="b", i=5), hand.now).again
    assert hand.elapsed == pytest.approx(60, abs=0.3)


def test_a_witness_with_the_beat_that_was_heard_last_changes_nothing():
    hand = due(boot="b")
    assert hand.life.witness("a", says(4.0, boot="b", i=1), hand.now).state is State.DOWN


def test_a_witness_without_a_boot_is_told_from_its_age():
    hand = due()
    assert hand.life.witness("a", says(29.8), hand.now).state is State.DOWN
    hand = due()
    assert isinstance(hand.life.witness("a", says(29.0), hand.now), Acquitted)


def test_a_witness_whose_age_can_not_be_told_tells_nothing():
    hand = due(boot="b")
    assert hand.life.witness("a", says(None, boot="c", i=9), hand.now).state is State.DOWN


def test_a_witness_with_a_goodbye_gives_the_miss_its_reason():
    hand = due(boot="b")
    miss = hand.life.witness("a", says(30.0, boot="b", i=2, status="stopping"), hand.now)
    assert (miss.state, miss.reason) == (State.DOWN, "stopped")


def test_a_witness_whose_last_beat_before_the_goodbye_was_never_heard_gives_it_its_time():
    # found by the machine: a cut session took the beat, and the miss came early
    hand = due(boot="b")
    assert isinstance(
        hand.life.witness("a", says(4.0, boot="b", i=3, status="stopping"), hand.now), Acquitted
    )
    hand.run(30)
    assert hand.said == [(0, "a", "up"), (56, "a", "down")]
    assert hand.verdicts[-1].reason == "stopped"


def test_a_goodbye_that_was_heard_does_not_hide_that_the_beat_before_it_was_not():
    # found by the machine: the session was cut for that one beat
    hand = due(boot="b")
    hand.beat(boot="b", i=3, status="stopping")
    assert isinstance(
        hand.life.witness("a", says(4.0, boot="b", i=3, status="stopping"), hand.now), Acquitted
    )
    hand.run(30)
    assert hand.said == [(0, "a", "up"), (56, "a", "down")]
    assert hand.verdicts[-1].reason == "stopped"


def test_a_witness_with_a_beat_never_heard_but_too_old_does_not_keep_it_up():
    hand = due(boot="b")
    assert hand.life.witness("a", says(30.5, boot="b", i=2), hand.now).state is State.DOWN


def test_a_beat_that_comes_while_the_witness_is_asked_closes_the_case():
    hand = due()
    hand.beat()
    assert hand.life.witness("a", None, hand.now) is None
    hand.run(29)
    assert hand.said == [(0, "a", "up")]
    hand.run(2)
    assert hand.said[-1] == (60, "a", "down")


def test_a_gap_that_ended_while_the_witness_was_asked_grants_its_warm_up():
    hand = due()
    hand.lose()
    hand.find()
    hand.canaries()
    assert hand.life.witness("a", None, hand.now) is None
    hand.run(23)
    assert hand.said[-1] == (52.5, "a", "down")


def test_a_witness_who_could_not_be_asked_is_asked_again():
    hand = due()
    hand.life.unasked("a")
    hand.run(1)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]


def test_nobody_asked_means_nothing_concluded():
    hand = due()
    assert hand.life.witness("b", None, hand.now) is None
    assert hand.life.witness("a", None, hand.now) is not None
    assert hand.life.witness("a", None, hand.now) is None
    hand.life.unasked("a")
    hand.run(100)
    assert len(hand.said) == 1


# -- at sight


def test_what_is_known_by_heart_counts_as_heard_and_costs_no_parse():
    hand = Hand(watch())
    hand.beating(100, 10, boot="b")
    assert hand.life.counts.heard == 10
    assert hand.life.records["a"].last.at == pytest.approx(90)
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (120, "a", "down")]


def test_what_only_looks_like_a_beat_is_taken_back_before_any_verdict_rests_on_it():
    hand = Hand(watch())
    hand.beat(boot="b", i=11)
    good = make("a", 12, hand.now.wall, boot="b")
    bad = good.replace(b'"i":12', b'"i":1x')
    hand.run(10)
    hand.beat(raw=bad)
    hand.run(40)
    assert hand.said == [(0, "a", "up"), (30, "a", "down")]
    assert hand.life.counts.malformed == 1
    assert hand.life.counts.heard == 1


def test_what_is_taken_back_costs_a_service_that_beats_no_more_than_half_a_timeout():
    hand = Hand(watch())
    for n in range(6):  # what comes up on the wheel meanwhile differs from turn to turn
        hand.beating(100 + 3 * n, 10, boot="b")
        record = hand.life.records["a"]
        hand.beat(raw=record.payload.replace(b'"ts":1', b'"ts":x'))
        assert record.payload is not record.vetted, "not taken at sight"
        hand.beat(raw=b"no beat at all")
        assert record.last.at >= hand.elapsed - 10 - 15 - 0.25
        hand.run(9)
    assert hand.said == [(0, "a", "up")]


# -- the silence worth remembering


def test_a_silence_of_half_a_timeout_is_given_to_be_remembered_and_a_beat_takes_it_back():
    hand = Hand(watch())
    hand.life.dirty.clear()
    hand.beat()
    hand.life.dirty.clear()
    hand.run(14.9)
    assert hand.life.dirty == {}
    hand.run(0.2)
    assert hand.life.dirty == {"a": hand.life.records["a"]}
    hand.beat()
    assert hand.life.dirty == {"a": None}


def test_a_miss_ends_the_remembering_of_its_silence():
    hand = Hand(watch())
    hand.beat()
    hand.run(31)
    assert hand.life.dirty == {"a": None}


# -- buses


def test_a_lost_bus_is_one_fact_with_its_reason():
    hand = Hand(watch("a"), watch("b"))
    hand.beating(20, 10, "a", "b")
    hand.lose(reason="auth")
    hand.run(60)
    (miss,) = hand.verdicts[2:]
    # the canaries say no more than refused; the last one came back at 20
    assert (miss.svc, miss.of_bus, miss.state, miss.reason) == ("bus", True, State.DOWN, "auth")
    assert miss.late_sec == pytest.approx(10, abs=0.3)
    assert miss.timeout_sec == 10
    assert miss.since == pytest.approx(hand.now.wall - 60, abs=0.3)


def test_a_bus_that_is_back_is_ok_with_the_whole_outage():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    hand.run(59.75)
    hand.find()
    hand.run(1)
    ok = hand.verdicts[-1]
    assert (ok.svc, ok.of_bus, ok.state, ok.told) == ("bus", True, State.UP, Told.ALERT)
    assert ok.down_sec == pytest.approx(60, abs=0.3)
    hand.run(5)
    assert hand.verdicts[-1] is ok


def test_a_stall_while_a_bus_is_lost_does_not_shorten_its_outage():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    hand.run(40)
    hand.stall(20)
    hand.find()
    hand.run(1)
    assert hand.verdicts[-1].down_sec == pytest.approx(60, abs=0.3)


def test_a_listener_that_stalls_now_and_then_still_calls_a_lost_bus_lost():
    hand = Hand(watch("a"))
    hand.beating(20, 10)
    hand.lose()
    for _ in range(5):
        hand.run(4)
        hand.stall(2)
    (miss,) = hand.verdicts[1:]
    assert miss.reason == "refused"
    assert miss.late_sec == pytest.approx(10, abs=0.5)


def test_a_bus_that_was_never_heard_is_missed_and_its_first_canary_is_ok_without_an_outage():
    hand = Hand(watch("a"))
    fresh = Hand(watch("a"), buses={"bus": 10.0, "other": 10.0})
    fresh.lose("other")
    assert hand.verdicts == fresh.verdicts == []
    life = fresh.life
    life.buses["other"].state = State.UNKNOWN
    fresh.run(11)
    (miss,) = [v for v in fresh.verdicts if v.of_bus]
    assert (miss.svc, miss.since) == ("other", None)
    fresh.find("other")
    fresh.canaries()
    ok = fresh.verdicts[-1]
    assert (ok.svc, ok.state, ok.since, ok.down_sec) == ("other", State.UP, None, None)


def test_one_bus_away_does_not_stop_the_others_clock():
    hand = Hand(watch("a"), watch("b", bus="other"))
    hand.beat("a")
    hand.beat("b", bus="other")
    hand.lose("bus")
    hand.run(40)
    assert [(svc, state) for _, svc, state in hand.said[2:]] == [("bus", "down"), ("b", "down")]


def test_a_canary_of_a_bus_that_is_no_longer_watched_means_nothing():
    hand = Hand(watch("a"))
    assert hand.life.canary("gone", 1, Moment(0, 0)) is None
