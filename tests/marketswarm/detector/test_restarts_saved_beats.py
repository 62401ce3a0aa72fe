"""What a later run must know is noted in time, and very many services cost no more than the budget."""

import tracemalloc
from itertools import pairwise

from marketswarm.detector.restarts import SAVES_PER_SEC
from support.simulation.manual_detector import WALL, Hand, watch


def taken(hand: Hand) -> dict:
    return hand.restarts.take_unsaved(hand.now.mono)


def test_a_new_instance_is_noted_with_the_next_save_and_its_later_beats_twice_a_timeout():
    hand = Hand(watch())
    hand.beat(boot="b")
    (noted,) = taken(hand).values()
    assert (noted.boot, noted.i, noted.ts, noted.wall, noted.stopped) == ("b", 1, WALL, WALL, False)
    seen = []
    for _ in range(90):
        hand.beat(boot="b")
        hand.run(1)
        seen += [noted.i for noted in taken(hand).values()]
    assert [later - i for i, later in pairwise(seen)] == 4 * [15]
    hand.beat(boot="c")
    hand.run(1)
    assert taken(hand)["a"].boot == "c"


def test_a_goodbye_is_noted_with_the_next_save_and_so_is_that_it_lives_on():
    hand = Hand(watch())
    hand.beat(boot="b")
    hand.run(1)
    taken(hand)
    hand.beat(boot="b", status="stopping")
    hand.run(1)
    noted = taken(hand)["a"]
    assert (noted.i, noted.stopped) == (1, True)  # the last beat is the one before
    hand.beat(boot="b")
    hand.run(1)
    assert taken(hand)["a"].stopped is False


def test_instances_that_live_beside_each_other_are_noted_together():
    hand = Hand(watch())
    for _ in range(3):
        hand.beat(boot="b")
        hand.run(5)
        hand.beat(boot="c")
        hand.run(5)
    noted = taken(hand)["a"]
    assert (noted.boot, noted.others) == ("c", {"b": 3})
    hand.beating(60, 10, boot="c")
    assert taken(hand)["a"].others == {}


def test_when_all_instances_are_missed_it_is_noted_how_far_each_came():
    hand = Hand(watch())
    for _ in range(3):
        hand.beat(boot="b")
        hand.run(2)
        hand.beat(boot="c")
        hand.run(2)
    taken(hand)
    for boot in ("b", "c"):
        hand.beat(boot=boot)
    hand.run(40)
    assert hand.said[-1][2] == "down"
    noted = taken(hand)["a"]
    assert noted.instances() == {"b": 4, "c": 4}


def test_without_a_boot_nothing_is_noted():
    hand = Hand(watch())
    hand.beating(60, 10)
    assert taken(hand) == {}


def test_while_it_is_open_what_happened_in_a_gap_the_note_from_before_it_stays():
    hand = Hand(watch())
    hand.beating(60, 10, boot="b")
    assert taken(hand)["a"].boot == "b"
    hand.cut(20)
    hand.run(1)
    while not any(verdict.gap_sec is not None for verdict in hand.verdicts):
        assert taken(hand) == {}
        hand.beating(1, 1, boot="c")
    assert taken(hand)["a"].boot == "c"


def test_a_service_that_is_missed_after_one_beat_of_a_new_instance_is_saved_with_that_beat():
    """The gap before that beat is published by the miss: nothing is open any more that the save waits for."""
    hand = Hand(watch())
    hand.beating(60, 10, boot="b")
    hand.cut(20)
    hand.run(1)
    hand.beat(boot="c")
    taken(hand)
    hand.run(100)
    assert hand.said[-1][2] == "down"
    assert taken(hand)["a"].boot == "c"


def test_who_is_no_longer_watched_is_forgotten():
    hand = Hand(watch("a"), watch("b"))
    hand.beat("a", boot="x")
    hand.run(1)
    taken(hand)
    hand.rewatch(watch("b"))
    hand.run(1)
    assert taken(hand) == {"a": None}


def test_what_could_not_be_saved_is_noted_again():
    hand = Hand(watch())
    hand.beat(boot="b")
    for svc in taken(hand):
        hand.restarts.save_soon(svc)
    hand.run(1)
    assert taken(hand)["a"].boot == "b"


def test_however_many_there_are_and_however_often_it_is_asked_no_more_are_noted_a_second():
    many = [f"s{n}" for n in range(3 * SAVES_PER_SEC)]
    hand = Hand(*(watch(svc) for svc in many))
    for svc in many:
        hand.beat(svc, boot="b")
    first = taken(hand)
    counts, noted = [], set(first)
    for _ in range(100):
        hand.stall(0.05)
        found = taken(hand)
        noted |= found.keys()
        counts.append(len(found))
    assert len(first) == SAVES_PER_SEC
    assert sum(counts[:20]) <= SAVES_PER_SEC
    assert noted == set(many)


def test_the_timeout_of_the_truth_under_which_it_beat_is_noted_with_a_beat():
    hand = Hand(watch(timeout=30))
    hand.beating(20, 10, boot="b")
    assert taken(hand)["a"].timeout_sec == 30
    hand.rewatch(watch(interval=1, timeout=4))
    hand.restarts.save_soon("a")
    hand.run(1)
    assert taken(hand)["a"].timeout_sec == 30
    hand.beat(boot="b")
    hand.restarts.save_soon("a")
    hand.run(1)
    assert taken(hand)["a"].timeout_sec == 4


def test_services_that_waited_for_their_save_take_no_memory_once_they_are_saved():
    hand = Hand(watch())
    names = [f"svc{n}" for n in range(3 * SAVES_PER_SEC)]
    tracemalloc.start()
    try:
        for svc in names:
            hand.restarts.save_soon(svc)
        for _ in range(4):
            hand.run(1)
            taken(hand)
        left, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < most / 10
