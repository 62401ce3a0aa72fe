import pytest

from marketswarm.detector import (
    Publication,
    SavedBeat,
    SavedService,
    Stage,
    State,
    adopt_state,
    is_miss_overruled,
    restore_lost_bus,
    restore_service,
    restore_services,
)
from marketswarm.event import UNWATCHED_REASON
from support.simulation.manual_detector import WALL, Hand, says, watch

# I = 10, T = 30, W = 22.5. A silence that is remembered reaches back before the new clock's beginning.


def up(**more) -> SavedService:
    return SavedService(State.UP, **{"since": WALL - 5, **more})


def down(**more) -> SavedService:
    return SavedService(State.DOWN, **{"since": WALL - 100, **more})


# -- remembered up


def test_who_was_beating_counts_as_silent_for_half_its_timeout():
    hand = Hand(watch(), known={"a": up()})
    hand.run(60)
    # last = -15: due = max(15, 22.5)
    assert hand.said == [(22.5, "a", "down")]
    assert hand.verdicts[0].reason == "silent"
    assert hand.verdicts[0].late_sec == pytest.approx(37.5, abs=0.01)
    assert hand.verdicts[0].since == WALL - 5


def test_who_was_beating_and_beats_is_no_news():
    hand = Hand(watch(), known={"a": up()})
    hand.beating(100, 10)
    assert hand.said == []


@pytest.mark.parametrize(
    ("silent_sec", "due"),
    [
        (15.0, 22.5),  # max(-15 + 30, 22.5)
        (29.0, 22.5),
        (30.0, 22.5),  # min(22.5, -30 + 52.5)
        (45.0, 7.5),  # a silence earns one warm-up in all: -45 + 52.5
        (52.5, 0.0),
        (500.0, 0.0),
    ],
)
def test_a_silence_that_was_saved_goes_on(silent_sec, due):
    hand = Hand(watch(), known={"a": up(silent_sec=silent_sec)})
    hand.run(60)
    ((at, _, state),) = hand.said
    assert (at, state) == (pytest.approx(due, abs=0.01), "down")
    assert hand.verdicts[0].late_sec == pytest.approx(due + silent_sec, abs=0.01)


# -- remembered down


def test_who_was_down_is_not_missed_again_and_its_ok_tells_the_whole_outage():
    hand = Hand(watch(), known={"a": down(boot="b")})
    hand.run(100)
    assert hand.said == []
    hand.beat(boot="c")
    (ok,) = hand.verdicts
    assert (ok.state, ok.publication, ok.down_sec, ok.since) == (State.UP, Publication.ALERT, 200, WALL - 100)


def test_who_was_down_and_never_seen_has_no_outage_that_could_be_measured():
    hand = Hand(watch(), known={"a": down(since=None, seen=False)})
    hand.run(100)
    hand.beat()
    (ok,) = hand.verdicts
    assert (ok.publication, ok.down_sec, ok.since) == (Publication.ALERT, None, None)


def test_a_key_that_lives_on_does_not_raise_who_was_down():
    hand = Hand(watch(), known={"a": down()}, beats={"a": says(20, boot="b", i=9)})
    hand.run(100)
    assert hand.said == []
    assert hand.detector.services["a"].state is State.DOWN


def test_a_silence_left_by_a_run_that_was_killed_before_it_could_forget_it_is_forgotten():
    hand = Hand(watch(), known={"a": down(silent_sec=31.0)})
    assert hand.detector.silences.unsaved == {"a": None}


# -- not remembered, or never seen


def test_nobody_remembers_a_service_it_gets_its_warm_up():
    hand = Hand(watch(), known={})
    hand.run(60)
    assert hand.said == [(22.5, "a", "down")]
    assert hand.verdicts[0].reason == "never_seen"


@pytest.mark.parametrize(("silent_sec", "due"), [(10.0, 22.5), (22.5, 22.5), (30.0, 15.0), (45.0, 0.0)])
def test_who_was_watched_in_vain_has_been_so_for_as_long(silent_sec, due):
    never = SavedService(State.UNKNOWN, silent_sec=silent_sec, seen=False)
    hand = Hand(watch(), known={"a": never})
    hand.run(60)
    # enter = -silent_sec: due = min(max(enter + 22.5, 22.5), enter + 45)
    ((at, _, _),) = hand.said
    assert at == pytest.approx(due, abs=0.01)
    assert hand.verdicts[0].reason == "never_seen"
    assert hand.verdicts[0].late_sec == pytest.approx(due + silent_sec, abs=0.01)


# -- heard before the recall


def test_who_was_heard_before_the_recall_is_up_by_what_was_heard():
    hand = Hand(watch(), held=True)
    hand.run(5)
    hand.beat()
    hand.run(2)
    hand.recall({"a": up(silent_sec=52.0)})
    assert hand.said == []
    hand.run(60)
    assert hand.said == [(35, "a", "down")]


def test_who_was_down_and_was_heard_before_the_recall_is_ok_at_once():
    hand = Hand(watch(), held=True)
    hand.run(5)
    hand.beat()
    hand.run(2)
    hand.recall({"a": down()})
    (ok,) = hand.verdicts
    assert (ok.publication, ok.down_sec) == (Publication.ALERT, pytest.approx(105, abs=2.1))
    assert hand.detector.silences.unsaved == {"a": None}


def test_who_is_new_and_was_heard_before_the_recall_is_up_quietly():
    hand = Hand(watch(), held=True)
    hand.beat()
    hand.recall({})
    assert [(v.state, v.publication) for v in hand.verdicts] == [(State.UP, Publication.LOG)]


def test_a_goodbye_before_the_recall_is_the_reason_of_the_miss():
    hand = Hand(watch(), held=True)
    hand.beat(boot="b")
    hand.beat(boot="b", status="stopping")
    hand.recall({"a": up()})
    hand.run(40)
    assert hand.verdicts[-1].reason == "stopped"


def test_a_goodbye_alone_before_the_recall_is_no_life():
    hand = Hand(watch(), held=True)
    hand.run(5)
    hand.beat(boot="b", status="stopping")
    hand.recall({"a": up(silent_sec=45.0)})
    hand.run(40)
    ((at, _, _),) = hand.said
    assert at == pytest.approx(7.5, abs=0.01)
    assert hand.verdicts[0].reason == "stopped"


# -- what `beat:<svc>` tells of the time between


def test_who_beat_while_nobody_listened_is_silent_since_then():
    hand = Hand(watch(), known={"a": up(silent_sec=45.0)}, beats={"a": says(4.0)})
    hand.run(60)
    assert hand.said == [(26, "a", "down")]
    assert hand.verdicts[0].since == pytest.approx(WALL - 4)


def test_who_beat_longer_ago_than_half_a_timeout_counts_as_silent_for_half_of_it():
    hand = Hand(watch(), known={"a": up(silent_sec=45.0)}, beats={"a": says(29.0)})
    assert hand.detector.services["a"].last_beat.at == -15
    hand.run(60)
    assert hand.said == [(22.5, "a", "down")]


def test_a_beat_no_younger_than_the_silence_is_where_it_begins():
    hand = Hand(watch(), known={"a": up(silent_sec=28.0)}, beats={"a": says(28.5)})
    assert hand.detector.services["a"].last_beat.at == -28
    hand = Hand(watch(), known={"a": up(silent_sec=45.0)}, beats={"a": says(59.0)})
    hand.run(60)
    assert hand.said == [(7.5, "a", "down")]


def test_an_age_that_can_not_be_told_tells_nothing():
    hand = Hand(watch(), known={"a": up(silent_sec=45.0)}, beats={"a": says(None)})
    hand.run(60)
    assert hand.said == [(7.5, "a", "down")]


def test_who_is_new_and_left_a_beat_was_seen():
    hand = Hand(watch(), known={}, beats={"a": says(2.0, boot="b", i=7)})
    hand.run(60)
    assert hand.said == [(0, "a", "up"), (28, "a", "down")]
    assert hand.verdicts[1].reason == "silent"


def test_a_testimony_makes_replays_known():
    hand = Hand(watch(), known={"a": up()}, beats={"a": says(2.0, boot="b", i=7)})
    hand.beat(boot="b", i=7)
    hand.beat(boot="b", i=6)
    assert hand.detector.counts.replayed == 2


def test_a_testimony_does_not_forget_what_was_heard_meanwhile():
    hand = Hand(watch(), held=True, beats={"a": says(2.0, boot="b", i=7)})
    hand.beat(boot="b", i=8)
    hand.recall({"a": up()})
    hand.beat(boot="b", i=8)
    assert hand.detector.counts.replayed == 1


def test_what_was_remembered_of_a_boot_makes_replays_known():
    hand = Hand(watch(), known={"a": down(boot="b", i=7)})
    hand.beat(boot="b", i=7)
    assert (hand.said, hand.detector.counts.replayed) == ([], 1)
    hand.beat(boot="b", i=8)
    assert hand.said == [(0, "a", "up")]


NOTED = SavedBeat("b", 5, WALL - 100, WALL - 100, others={"c": 9})


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("i", "said"), [(9, []), (10, ["up"])])
def test_what_was_noted_of_instances_beside_each_other_makes_replays_of_each_known(i, said, held):
    known = {"a": down(boot="b", i=7, last_beat=NOTED)}
    hand = Hand(watch(), held=True) if held else Hand(watch(), known=known)
    for boot, highest in (("b", 7), ("c", i)):
        hand.beat(boot=boot, i=highest)
    if held:
        hand.recall(known)
    assert [state for *_, state in hand.said] == said


def test_a_beat_of_who_is_up_counts_though_another_healer_has_noted_it_already():
    hand = Hand(watch(), held=True)
    hand.run(20)
    hand.beat(boot="c", i=9)
    hand.recall({"a": up(last_beat=NOTED)})
    hand.run(29)
    assert hand.said == []
    assert hand.detector.counts.replayed == 0


@pytest.mark.parametrize(("i", "boot", "said"), [(7, "b", []), (8, "b", ["up"]), (1, "c", ["up"])])
def test_replays_heard_before_anything_was_remembered_bring_no_life(i, boot, said):
    hand = Hand(watch(), held=True)
    hand.beat(boot=boot, i=i)
    hand.recall({"a": down(boot="b", i=7)})
    assert [state for *_, state in hand.said] == said


def test_who_was_heard_before_the_recall_and_beats_unheard_since_is_acquitted_by_the_witness():
    # found by the machine: its home bus was frozen, and one subscription got lost meanwhile
    hand = Hand(watch(), held=True)
    hand.beat(boot="b", i=1)
    hand.run(28)
    hand.attest("a", 1.0, boot="b", i=3)
    hand.recall({"a": up()})
    hand.run(3)
    assert hand.said == [(30, "a", "unheard")]


def test_a_goodbye_that_was_left_is_the_reason_of_the_miss():
    hand = Hand(watch(), known={"a": up()}, beats={"a": says(20.0, status="stopping")})
    hand.run(60)
    assert [(v.state, v.reason) for v in hand.verdicts] == [(State.DOWN, "stopped")]


@pytest.mark.parametrize(("boot", "i"), [("b", 6), (None, 6)])
def test_a_goodbye_that_was_left_with_a_fresh_life_makes_no_silence_shorter(boot, i):
    noted = SavedBeat("b", 5, WALL - 50, WALL - 50)
    known = {"a": up(silent_sec=45.0, last_beat=noted)}
    hand = Hand(watch(), known=known, beats={"a": says(1.0, boot=boot, i=i, status="stopping")})
    hand.run(60)
    assert [(at, state) for at, _, state in hand.said] == [(7.5, "down")]
    assert hand.verdicts[0].reason == "stopped"


@pytest.mark.parametrize("age_sec", [0.5, 5.0, 14.0])
def test_who_said_goodbye_just_before_counts_as_silent_for_half_its_timeout_as_one_without_a_key(age_sec):
    # found by the machine, which took the key of one that is gone for that of one that lives
    known = {"a": up(last_beat=SavedBeat("b", 5, WALL - 5, WALL - 5))}
    hand = Hand(watch(), known=known, beats={"a": says(age_sec, boot="b", i=6, status="stopping")})
    hand.run(60)
    assert hand.said == [(22.5, "a", "down")]
    assert hand.verdicts[0].reason == "stopped"


# -- what the next run is to know


def test_all_who_were_not_heard_are_to_be_remembered_on_the_new_clock():
    hand = Hand(watch("a"), watch("b"), watch("c"), watch("d"), held=True)
    hand.beat("b")
    hand.beat("d")
    hand.recall({"a": up(), "b": up()})
    a, c = hand.detector.services["a"], hand.detector.services["c"]
    assert hand.detector.silences.unsaved == {"a": a, "b": None, "c": c}


def test_who_is_no_longer_watched_is_unwatched_and_closed_if_it_was_down():
    hand = Hand(watch("a"), known={"a": up(), "b": down(), "c": up(), "d": SavedService(State.UNKNOWN)})
    assert {(v.svc, v.state, v.publication, v.since) for v in hand.verdicts} == {
        ("b", State.UNWATCHED, Publication.ALERT, WALL - 100),
        ("c", State.UNWATCHED, Publication.NONE, WALL - 5),
        ("d", State.UNWATCHED, Publication.NONE, None),
    }


@pytest.mark.parametrize("length", [2.0, 7.0, 20.0])
@pytest.mark.parametrize("key", [True, False])
def test_short_run_upon_short_run_gets_there_in_a_timeout_and_a_warm_up_of_listening(length, key):
    known, listened, killed = {"a": up()}, 0.0, 0.0
    for _ in range(100):
        age = killed + 40
        beats = {"a": says(age)} if key and age < 60 else {}
        hand = Hand(watch(), known=known, beats=beats, wall=WALL + killed)
        hand.run(length)
        listened += length
        killed += length + 1
        if hand.said:
            break
        record = hand.detector.services["a"]
        known = {"a": up(silent_sec=hand.clock().proven - record.last_beat.at)}
    assert [state for _, _, state in hand.said] == ["down"]
    # 15 of it are granted at the start: silent for half a timeout
    assert 22.5 <= listened <= 52.5 - 15 + length


def test_a_recall_files_everyone_so_that_nobody_is_overlooked():
    hand = Hand(watch("a"), watch("b"), watch("c"), held=True)
    hand.run(100)
    hand.beat("c")
    hand.recall({"a": up(silent_sec=500.0), "b": up()})
    hand.run(80)
    assert [(svc, state) for _, svc, state in hand.said] == [
        ("c", "up"),
        *(("a", "down"), ("b", "down"), ("c", "down")),
    ]


# -- buses


def test_a_wall_clock_that_was_set_back_meanwhile_makes_no_outage_shorter_than_nothing():
    hand = Hand(watch(), known={"a": down(since=WALL + 3600)})
    hand.run(10)
    hand.beat("a")
    assert hand.verdicts[-1].down_sec == pytest.approx(10, abs=0.01)
    ok = restore_lost_bus(hand.detector, "bus", WALL + 3600, hand.now)
    assert ok is not None
    assert ok.down_sec == 0


def test_a_bus_that_was_told_lost_and_is_heard_already_is_ok_since_it_was_lost():
    hand = Hand(watch())
    ok = restore_lost_bus(hand.detector, "bus", WALL - 60, hand.now)
    assert (ok.svc, ok.subject == "bus", ok.state, ok.publication) == (
        "bus",
        True,
        State.UP,
        Publication.ALERT,
    )
    assert (ok.since, ok.down_sec) == (WALL - 60, 60)
    assert hand.detector.buses["bus"].state is State.UP


def test_a_bus_that_was_told_lost_and_is_not_heard_yet_is_ok_later_since_it_was_lost():
    hand = Hand(watch(), buses={"bus": 10.0, "other": 10.0})
    hand.rewatch(watch(), buses={"bus": 10.0})
    hand.rewatch(watch(), buses={"bus": 10.0, "other": 10.0})
    hand.lose("other")
    assert restore_lost_bus(hand.detector, "other", WALL - 60, hand.now) is None
    hand.run(40)
    assert not [v for v in hand.verdicts if v.subject == "bus"], "no second miss"
    hand.find("other")
    hand.run(1)
    (ok,) = [v for v in hand.verdicts if v.subject == "bus"]
    assert ok.down_sec == pytest.approx(100, abs=0.3)
    assert ok.since == WALL - 60


def test_a_bus_of_which_nobody_knows_since_when_is_ok_without_an_outage():
    hand = Hand(watch())
    ok = restore_lost_bus(hand.detector, "bus", None, hand.now)
    assert (ok.state, ok.since, ok.down_sec) == (State.UP, None, None)


def test_a_lost_bus_that_left_the_truth_meanwhile_is_closed_and_not_taken_up():
    hand = Hand(watch())
    ok = restore_lost_bus(hand.detector, "gone", WALL - 60, hand.now)
    assert (ok.svc, ok.subject == "bus", ok.state, ok.publication) == (
        "gone",
        True,
        State.UP,
        Publication.ALERT,
    )
    assert (ok.reason, ok.since, ok.down_sec) == (UNWATCHED_REASON, WALL - 60, None)
    assert "gone" not in hand.detector.buses


def test_a_recall_of_nothing_ends_the_holding():
    hand = Hand(held=True)
    assert list(restore_services(hand.detector, {}, {}, hand.now)) == []
    assert not hand.detector.is_restoring


# -- others have their turns between two steps


def half_recalled(known):
    """A hand whose recall has taken its first step, and that recall."""
    hand = Hand(watch("a"), watch("b"), held=True)
    steps = restore_services(hand.detector, known, {}, hand.now)
    hand.record([next(steps)])
    return hand, steps


def test_a_service_that_is_restored_is_heard_while_others_are_not_and_nobody_is_heard_twice():
    hand, steps = half_recalled({"a": down(), "b": down()})
    hand.beat("a")
    hand.beat("b")
    assert [(svc, state) for _, svc, state in hand.said] == [("a", "up")]
    hand.record(steps)
    assert [(svc, state) for _, svc, state in hand.said] == [("a", "up"), ("b", "up")]
    assert [each.publication for each in hand.verdicts] == [Publication.ALERT, Publication.ALERT]


def test_nobody_is_missed_before_all_are_restored():
    hand, steps = half_recalled({"a": up(silent_sec=500.0), "b": up(silent_sec=500.0)})
    hand.run(100)
    assert hand.said == []
    hand.record(steps)
    hand.run(60)
    assert sorted((svc, state) for _, svc, state in hand.said) == [("a", "down"), ("b", "down")]


def test_a_failure_that_a_success_follows_while_others_are_restored_is_missed():
    hand, steps = half_recalled({"a": up(), "b": up()})
    hand.beat("a", run="failed", exit_code=3)
    hand.beat("a")
    assert [(svc, state) for _, svc, state in hand.said] == [("a", "down"), ("a", "up")]
    assert (hand.verdicts[0].reason, hand.verdicts[0].exit_code) == ("failed", 3)
    hand.record(steps)
    assert len(hand.said) == 2


def test_a_restart_that_shows_while_others_are_restored_is_told():
    noted = SavedBeat("old", 7, WALL - 40, WALL - 40, False, {}, 10.0, 30.0)
    hand, steps = half_recalled({"a": up(last_beat=noted), "b": up()})
    hand.beat("a", boot="new", i=1)
    hand.record(steps)
    hand.beating(100, 5, "a", "b", boot="new")
    (told,) = hand.verdicts
    assert (told.svc, told.state, told.boot) == ("a", State.UP, "new")
    assert told.event_id is not None


def test_a_change_of_the_roster_between_two_steps_overlooks_nobody_and_tells_a_drop_once():
    hand, steps = half_recalled({"a": up(), "b": up(), "gone": down()})
    hand.rewatch(watch("b", 5.0, 20.0), watch("c"))
    hand.record(steps)
    assert not hand.detector.is_restoring
    assert not any(record.stage is Stage.RESTORING for record in hand.detector.services.values())
    told = [(svc, state) for _, svc, state in hand.said]
    assert sorted(told) == [("a", "unwatched"), ("gone", "unwatched")]
    assert hand.detector.services["b"].state is State.UP
    hand.run(100)
    assert [(svc, state) for _, svc, state in hand.said[2:]] == [("b", "down"), ("c", "down")]


# -- those that are left for later


def left_for_later(*later: str, **known: SavedService) -> Hand:
    """A hand that has restored all that is known, but for those left for later."""
    hand = Hand(*map(watch, {**known, **dict.fromkeys(later)}), held=True)
    hand.record(restore_services(hand.detector, known, {}, hand.now, later=later))
    assert not hand.detector.is_restoring
    return hand


def test_one_that_is_left_for_later_is_not_evaluated_before_it_is_restored():
    hand = left_for_later("b", a=up(silent_sec=500.0))
    hand.run(60)
    assert hand.said == [(0, "a", "down")]
    hand.record(restore_service(hand.detector, "b", up(silent_sec=500.0), None, hand.now))
    hand.run(1)
    assert [(svc, state) for _, svc, state in hand.said] == [("a", "down"), ("b", "down")]
    assert hand.verdicts[1].reason == "silent"


def test_one_that_is_left_for_later_may_be_heard_or_fail_before():
    hand = left_for_later("b", "c", a=up())
    hand.beat("b")
    hand.beat("c", boot="x")
    hand.beat("c", boot="x", run="failed")
    hand.run(1)
    assert hand.said == []
    for svc in "bc":
        hand.record(restore_service(hand.detector, svc, down(), None, hand.now))
    assert [(svc, state) for _, svc, state in hand.said] == [("b", "up"), ("c", "up")]
    hand.run(1)
    assert [(v.svc, v.state, v.reason) for v in hand.verdicts[2:]] == [("c", State.DOWN, "failed")]


def test_one_that_is_left_for_later_is_restored_once_and_not_after_it_was_dropped():
    hand = left_for_later("b", "c", a=up())
    restore_service(hand.detector, "b", up(), None, hand.now)
    before = hand.detector.services["b"].last_beat
    assert restore_service(hand.detector, "b", down(), None, hand.now) == []
    hand.rewatch(watch("a"), watch("b"))
    hand.rewatch(watch("a"), watch("b"), watch("c"))
    assert restore_service(hand.detector, "c", down(), None, hand.now) == []
    assert hand.detector.services["b"].last_beat is before
    assert hand.detector.services["c"].state is State.UNKNOWN
    hand.run(60)
    assert sorted(svc for _, svc, state in hand.said if state == "down") == ["a", "b", "c"]


# -- what a leader knew better


def is_overruled(
    hand: Hand, published: SavedService, *, is_silent: bool = False, ago_sec: float = 0.0
) -> bool:
    """Whether a leader that was alive until some seconds ago, less what it needs, knew better."""
    had_until = hand.now.mono - ago_sec
    return is_miss_overruled(
        hand.detector, "a", published, hand.now, is_silent=is_silent, had_until=had_until
    )


def test_a_miss_of_a_service_that_the_leader_heard_is_overruled_and_a_true_one_comes_half_a_timeout_later():
    hand = Hand(watch())
    hand.beat()
    hand.run(40)  # missed at 30
    assert not is_overruled(hand, up(), is_silent=True)
    assert not is_overruled(hand, up(), ago_sec=10.5)  # the leader was gone before that
    assert not is_overruled(hand, down())
    assert is_overruled(hand, up(), ago_sec=9.5)
    adopt_state(hand.detector, "a", up(), hand.now)
    assert hand.detector.services["a"].state is State.UP
    hand.run(60)
    assert [(round(at), state) for at, _, state in hand.said] == [(0, "up"), (30, "down"), (55, "down")]


def test_a_service_that_is_up_or_unknown_has_no_miss_to_overrule():
    hand = Hand(watch())
    assert not is_overruled(hand, up())
    hand.beat()
    assert not is_overruled(hand, up())
    hand.rewatch()
    assert not is_overruled(hand, up())


def test_a_failure_of_a_plain_service_stays_a_miss():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.beat(boot="b", run="failed")
    hand.run(10)
    assert hand.said[-1][2] == "down"
    assert not is_overruled(hand, up())


def test_the_ok_of_a_process_that_was_heard_before_the_restore_names_that_process():
    hand = Hand(watch(), held=True)
    hand.beat(boot="new")
    last = SavedBeat("old", 13, WALL - 60, WALL - 60, others={"older": 4})
    hand.recall({"a": down(boot="old", i=13, last_beat=last)})
    (ok,) = hand.verdicts
    assert (ok.state, ok.boot, ok.i) == (State.UP, "new", 1)
    hand.beat(boot="old", i=13)
    assert hand.detector.counts.replayed == 1


def test_a_service_that_the_leader_missed_is_up_with_the_next_beat_that_we_hear():
    hand = Hand(watch())
    hand.beating(60, 10)
    assert adopt_state(hand.detector, "a", down(missed_at=WALL + 20), hand.now) is None
    assert hand.detector.services["a"].state is State.DOWN
    hand.beat()
    assert [state for _, _, state in hand.said] == ["up", "up"]
