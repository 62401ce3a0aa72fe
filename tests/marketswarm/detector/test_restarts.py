"""What happened while nobody listened: told when it is proven, once, and never as a miss. I = 10, T = 30."""

import random
import re

import pytest

from marketswarm.beat import Beat, encode_beat
from marketswarm.detector import Publication, SavedService, State
from marketswarm.detector.history import BeatBeforeGap
from marketswarm.detector.restore import adopt_state
from support.simulation.manual_detector import WALL, Hand, gaps, watch

# -- in one run: the bus was away


def listening(**more) -> Hand:
    """A run that has heard `a` for a while; its last beat is 5 s ago."""
    hand = Hand(watch())
    hand.beating(45, 10, boot="old", **more)
    return hand


@pytest.mark.parametrize("away", [3.0, 8.0, 40.0, 500.0])
def test_a_restart_while_the_bus_was_away_is_told_once_and_no_silence_is_made_up(away):
    hand = listening()
    hand.cut(away)
    hand.beating(200, 10, boot="new")
    assert gaps(hand) == [("a", True, 0.0)]
    (gap,) = [verdict for verdict in hand.verdicts if verdict.gap_sec is not None]
    assert (gap.state, gap.publication, gap.boot, gap.since) == (
        State.UP,
        Publication.ALERT,
        "new",
        WALL + 40,
    )


def test_who_restarted_twice_while_nobody_listened_is_told_once():
    hand = listening()
    hand.cut(40)
    hand.beating(5, 10, boot="second")
    hand.cut(40)
    hand.beating(100, 10, boot="third")
    assert gaps(hand) == [("a", True, 0.0)]
    (gap,) = [verdict for verdict in hand.verdicts if verdict.gap_sec is not None]
    assert (gap.boot, gap.since) == ("second", WALL + 40)  # how it began


def test_each_gap_in_which_it_restarted_is_told_with_a_mark_of_its_own():
    hand = listening()
    for boot in ("second", "third"):
        hand.cut(40)
        hand.beating(100, 10, boot=boot)
    marks = [verdict.event_id for verdict in hand.verdicts if verdict.gap_sec is not None]
    assert len(set(marks)) == len(marks) == 2


@pytest.mark.parametrize("away", [3.0, 8.0, 40.0, 500.0])
def test_who_lived_through_is_not_told(away):
    hand = listening()
    hand.cut(away)
    hand.beating(200, 10, boot="old", i=5 + int(away // 10) + 1)  # the later ones are replays
    hand.beating(200, 10, boot="old")
    assert gaps(hand) == []


def hear_late(*pauses):
    """A listener that stands still, and hears late what was sent meanwhile, with these pauses in seconds."""
    hand = Hand(watch(interval=5.0))
    for _ in range(8):
        hand.beating(20, 5, boot="old")
        hand.restarts.take_unsaved(hand.now.mono)  # measures the pace
    sent, i = hand.now.wall - 5, 32
    hand.stall(sum(pauses) - 5)
    for pause in pauses:
        sent, i = sent + pause, i + 1
        hand.beat(raw=encode_beat(Beat("a", i, sent, boot="old")))
    hand.run(5)
    hand.beat(boot="old", i=i + 1)
    hand.run(5)
    hand.beating(200, 5, boot="old")
    return gaps(hand)


@pytest.mark.parametrize("every", [5, 8, 10, 15, 20, 29])
def test_who_beat_slower_is_not_told_where_every_beat_was_heard_in_the_end(every):
    assert hear_late(*[every] * (120 // every)) == []


@pytest.mark.parametrize("silent_sec", [40, 100])
def test_who_was_silent_is_told_though_what_it_sent_was_heard_late(silent_sec):
    [(svc, restarted, gap_sec)] = hear_late(5, 5, 5, silent_sec, 5, 5, 5)
    assert (svc, restarted) == ("a", False)
    assert 30 <= gap_sec <= silent_sec


@pytest.mark.parametrize("away", [40.0, 500.0])
def test_who_counts_only_what_the_bus_took_is_not_told_of_a_bus_that_took_nothing(away):
    hand = listening()
    hand.cut(away)
    hand.beating(200, 10, boot="old")
    assert gaps(hand) == []


def test_without_a_boot_nothing_can_be_told():
    hand = Hand(watch())
    hand.beating(45, 10)
    hand.cut(100)
    hand.beating(200, 10, i=1)
    hand.beating(200, 10, boot="new")  # nor of one who begins to have one
    assert gaps(hand) == []


def test_a_restart_that_was_listened_to_is_no_gap():
    hand = listening()
    hand.beating(100, 10, boot="new")
    hand.cut(40)
    hand.beating(5, 10, boot="new", i=20)
    hand.beating(100, 10, boot="newer")
    assert gaps(hand) == []


def test_who_said_goodbye_and_came_back_within_its_timeout_is_not_told():
    hand = listening()
    hand.beat(boot="old", status="stopping")
    hand.cut(10)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []


def test_who_said_goodbye_and_stayed_away_longer_is_told_with_the_silence_since():
    hand = listening()
    hand.beat(boot="old", status="stopping")
    hand.stall(60)
    hand.beating(5, 10, boot="new")
    hand.beating(100, 10, boot="new")
    (told,) = gaps(hand)
    assert told[:2] == ("a", True)
    assert told[2] == pytest.approx(70, abs=5)  # of its first or its second beat, the time over the number


@pytest.mark.parametrize("away", [40.0, 500.0])
@pytest.mark.parametrize("i", [1, 4])
def test_who_said_goodbye_and_came_back_while_the_bus_took_nothing_is_not_told(away, i):
    hand = listening()
    hand.beat(boot="old", status="stopping")
    hand.cut(away)
    hand.beat(boot="new", i=i)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []


def test_of_a_planned_restart_nothing_is_told_that_a_frozen_bus_hands_out_before_its_canary():
    hand = listening()
    hand.beat(boot="old", status="stopping")
    hand.deaf.add("bus")
    hand.run(200)
    hand.beat(boot="new", i=4)
    hand.deaf.clear()
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []


def test_a_goodbye_among_what_piled_up_counts():
    hand = listening()
    hand.deaf.add("bus")  # no canary: a gap, but beats are heard
    hand.run(3)
    hand.beat(boot="old", status="stopping")
    hand.deaf.clear()
    hand.run(1)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []


def test_it_is_not_told_before_it_was_heard_for_its_timeout():
    hand = listening()
    hand.cut(40)
    hand.run(1)
    begun = hand.elapsed
    hand.beating(100, 10, boot="new")
    (at,) = [each.at for each in hand.told if getattr(each.verdict, "gap_sec", None) is not None]
    assert at - begun == pytest.approx(30, abs=0.6)


def test_a_gap_on_the_way_to_telling_it_only_delays_it():
    hand = listening()
    hand.cut(40)
    hand.run(1)
    hand.beating(20, 10, boot="new")
    hand.cut(20)
    hand.beating(20, 10, boot="new", i=5)
    assert gaps(hand) == []
    hand.beating(60, 10, boot="new")
    assert gaps(hand) == [("a", True, 0.0)]


def test_who_restarted_and_is_missed_thereafter_is_missed_and_that_is_all():
    hand = listening()
    hand.cut(40)
    hand.run(1)
    hand.beat(boot="new")
    hand.run(100)
    hand.beating(100, 10, boot="newer")
    assert gaps(hand) == []
    told = [
        (v.svc, str(v.state))
        for v in hand.verdicts
        if v.publication is Publication.ALERT and v.subject != "bus"
    ]
    assert told == [("a", "down"), ("a", "up")]


def test_a_gap_before_a_miss_stays_unpublished_when_another_healer_publishes_the_ok():
    hand = listening()
    hand.cut(40)
    hand.run(1)
    hand.beat(boot="new")
    while hand.detector.services["a"].state is not State.DOWN:
        hand.run(0.1)
    adopt_state(hand.detector, "a", SavedService(State.UP), hand.now)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []


def test_who_was_down_before_the_gap_gets_its_ok_and_nothing_else():
    hand = listening()
    hand.run(60)
    hand.cut(40)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == []
    assert hand.verdicts[-1].down_sec is not None


def test_a_reseed_on_the_way_to_telling_it_loses_nothing():
    hand = listening()
    hand.cut(40)
    hand.run(1)
    hand.beating(20, 10, boot="new")
    hand.rewatch(watch(timeout=25))
    hand.beating(60, 10, boot="new")
    hand.rewatch(watch(timeout=35))
    assert gaps(hand) == [("a", True, 0.0)]
    hand.cut(60)
    hand.rewatch(watch(timeout=30))
    hand.beating(100, 10, boot="newest")
    assert len(gaps(hand)) == 2


# -- more than one instance


def test_a_second_instance_that_began_in_the_gap_is_no_restart():
    hand = listening()
    hand.cut(40)
    hand.run(1)
    hand.beat(boot="second")
    hand.run(5)
    hand.beat(boot="old", i=20)
    for _ in range(20):
        hand.beat(boot="second")
        hand.beat(boot="old")
        hand.run(10)
    assert gaps(hand) == []


def test_of_two_instances_known_before_the_other_one_is_no_restart():
    hand = Hand(watch())
    for _ in range(5):
        hand.beat(boot="one")
        hand.run(5)
        hand.beat(boot="two")
        hand.run(5)
    hand.cut(40)
    hand.run(1)
    hand.beating(100, 10, boot="one")
    assert gaps(hand) == []


def test_two_instances_cover_for_each_other():
    hand = Hand(watch())
    for _ in range(5):
        hand.beat(boot="two")
        hand.beat(boot="one")
        hand.run(10)
    hand.stall(100)  # "one" hung all the while, "two" perhaps did not
    hand.run(1)
    hand.beating(100, 10, boot="one")
    assert gaps(hand) == []


# -- in one run: the healer itself stood still


def test_who_skipped_beats_while_the_healer_stood_still_is_told_what_the_counters_prove():
    hand = listening()
    hand.stall(95)
    hand.run(1)
    hand.beating(100, 10, boot="old")  # goes on with the next `i`: no beat in 101 s
    assert gaps(hand) == [("a", False, 101.0)]


def test_beats_that_piled_up_while_the_healer_stood_still_are_no_skipped_ones():
    hand = listening()
    hand.stall(100)
    for _ in range(10):
        hand.beat(boot="old")
    hand.run(1)
    hand.beating(100, 10, boot="old")
    assert gaps(hand) == []


def test_a_restart_among_what_piled_up_is_told():
    hand = listening()
    hand.stall(100)
    hand.beat(boot="old")
    for _ in range(5):
        hand.beat(boot="new")
    hand.run(1)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == [("a", True, 0.0)]


def test_old_beats_in_any_order_that_a_frozen_bus_hands_out_are_no_second_instance():
    hand = listening()
    hand.deaf.add("bus")
    hand.run(60)
    for boot, i in (("new", 3), ("old", 6), ("new", 4), ("old", 7)):
        hand.beat(boot=boot, i=i)
    hand.deaf.clear()
    hand.run(1)
    hand.beating(100, 10, boot="new")
    assert gaps(hand) == [("a", True, 0.0)]


def test_an_instance_that_beats_on_after_the_pile_is_a_second_one():
    hand = listening()
    hand.deaf.add("bus")
    hand.run(60)
    hand.beat(boot="new")
    hand.beat(boot="old", i=7)
    hand.deaf.clear()
    hand.run(1)
    hand.beating(100, 10, boot="old")  # the voice of the pile's end: nothing changes in it
    assert gaps(hand) == []


def test_slow_senders_prove_nothing():
    hand = Hand(watch())
    hand.beating(100, 28, boot="old")  # as slow as its timeout lets it
    hand.stall(300)
    hand.beat(boot="old", i=4 + 11)
    hand.run(1)
    hand.beating(200, 28, boot="old")
    assert gaps(hand) == []


# -- the truth changed


SOON = watch(interval=1, timeout=4)


@pytest.mark.parametrize("reseeded", ["before the gap", "in the gap", "after the gap"])
@pytest.mark.parametrize(("silent", "told"), [(18, []), (43, [("a", False, 43.0)])])
def test_the_timeout_that_was_in_force_measures_a_silence_and_no_shorter_one(reseeded, silent, told):
    hand = listening()  # I = 10, T = 30; it beat 5 s ago
    if reseeded == "before the gap":
        hand.rewatch(SOON)
    hand.stall(5)
    if reseeded == "in the gap":
        hand.rewatch(SOON)
    hand.stall(silent - 11)
    hand.run(1)
    if reseeded == "after the gap":
        hand.rewatch(SOON)
    hand.beating(20, 1, boot="old")
    assert gaps(hand) == told


def test_from_the_first_beat_on_the_shorter_timeout_measures():
    hand = listening()
    hand.rewatch(SOON)
    hand.beating(5, 1, boot="old")
    hand.stall(17)
    hand.run(1)
    hand.beating(20, 1, boot="old")
    assert gaps(hand) == [("a", False, 19.0)]


# -- ids


def test_a_mark_fits_into_headers_whatever_the_boot_is():
    hand = listening()
    for boot in ("\r\n\u20ac \x00", "x" * 64, "a b <c>"):
        hand.cut(40)
        hand.beating(100, 10, boot=boot)
    marks = [verdict.event_id for verdict in hand.verdicts if verdict.gap_sec is not None]
    assert len(set(marks)) == 3
    assert all(re.fullmatch(r"heartbeat_gap\.a\.[0-9a-f]{16}", mark) for mark in marks)


# -- what goes on


def test_of_a_service_that_goes_on_after_a_gap_nothing_is_kept(monkeypatch):
    kept = []

    def keep(beat, *rest, **more):
        kept.append(beat.boot)
        return BeatBeforeGap(beat, *rest, **more)

    monkeypatch.setattr("marketswarm.detector.restarts.BeatBeforeGap", keep)
    hand = Hand(*(watch(svc) for svc in "abcd"))
    for svc in "abcd":
        hand.beat(svc, boot=svc)
    hand.beating(60, 10, *"abcd", boot="one")
    kept.clear()
    hand.cut(5)
    hand.run(4)  # the listener has caught up
    hand.beat("a", boot="one")
    hand.beat("b", boot="two")
    hand.beat("c", boot="one", status="stopping")
    hand.beat("d", boot="one", i=3)
    assert kept == ["one"] * 3, "of b, c and d"


def tell_of_gaps(seed: int) -> list[tuple[str, bool, float]]:
    chance = random.Random(seed)
    hand = Hand(watch())
    boot, i = 1, 1
    for _ in range(5):
        for _ in range(chance.randrange(1, 6)):
            hand.beat(boot=str(boot), i=i)
            hand.run(chance.choice([5, 10, 10, 10, 25]))
            i += 1
        pause = chance.choice([Hand.cut, Hand.stall])  # only what beats while the bus is there can be missing
        pause(hand, chance.choice([2, 15, 40, 90]))
        hand.run(chance.choice([0, 0.1, 1]))
        if chance.random() < 0.3:
            boot, i = boot + 1, 1
        i += chance.choice([0, 0, 1, 3, 9])
    hand.beating(70, 10, boot=str(boot))
    return gaps(hand)


@pytest.mark.slow
def test_what_is_told_of_gaps_is_the_same_if_every_gap_is_compared_in_full(monkeypatch):
    seeds = range(20)
    quick = [tell_of_gaps(seed) for seed in seeds]
    monkeypatch.setattr("marketswarm.detector.restarts._goes_on", lambda *_: False)
    assert quick == [tell_of_gaps(seed) for seed in seeds]
    assert {restarted for told in quick for _, restarted, _ in told} == {True, False}
