"""How many services of its machine a miss says to be up."""

from dataclasses import replace
from unittest.mock import patch

import pytest

from marketswarm.beat import Sender
from marketswarm.detector import SavedBeat, SavedService, State, WatchedService, adopt_state
from marketswarm.truth import JobRule
from support.simulation.manual_detector import WALL, Hand, watch

NAMES = ("a", "b", "c")
DB1, WEB1 = Sender(host="db1"), Sender(host="web1")


@pytest.fixture
def hand():
    return Hand(*map(watch, NAMES))


def misses(hand: Hand) -> dict[str, tuple[str | None, int | None]]:
    return {each.svc: (each.host, each.host_up) for each in hand.verdicts if each.state is State.DOWN}


def test_each_miss_counts_the_others_of_its_host_that_are_up_and_the_last_one_none(hand):
    for svc in NAMES:
        hand.beat(svc, boot=svc, sender=DB1)
        hand.run(5)
    hand.run(60)
    assert misses(hand) == {"a": ("db1", 2), "b": ("db1", 1), "c": ("db1", 0)}


def test_services_elsewhere_and_on_no_known_host_count_for_nothing(hand):
    hand.beat("a", boot="a", sender=DB1)
    for _ in range(6):
        hand.beat("b", boot="b", sender=WEB1)
        hand.beat("c")
        hand.run(10)
    assert misses(hand) == {"a": ("db1", 0)}


def test_one_that_came_back_counts_again_at_once(hand):
    for svc in NAMES:
        hand.beat(svc, boot=svc, sender=DB1)
    hand.run(20)
    hand.beat("c", boot="c", sender=DB1)
    hand.run(10.2)
    assert misses(hand) == {"a": ("db1", 2), "b": ("db1", 1)}
    hand.beat("a", boot="a", sender=DB1)
    hand.run(25)
    assert misses(hand)["c"] == ("db1", 1)


def test_one_that_reported_a_failure_beats_so_its_machine_is_there(hand):
    for svc in NAMES:
        hand.beat(svc, boot=svc, sender=DB1)
    hand.beat("a", boot="a", run="failed", via="probe", detail="no space")
    for _ in range(4):
        hand.run(10)
        hand.beat("a", boot="a")
    assert misses(hand) == {"a": ("db1", None), "b": ("db1", 2), "c": ("db1", 1)}


def test_a_service_on_several_hosts_is_on_none_until_one_instance_is_left():
    hand = Hand(watch(), watch("b", timeout=20.0), watch("c", timeout=70.0), watch("d", timeout=70.0))
    for svc in "bcd":
        hand.beat(svc, boot=svc, sender=DB1 if svc == "b" else WEB1)
    for _ in range(2):
        hand.beat("a", boot="there", sender=WEB1)
        hand.beat("a", boot="here", sender=DB1)
        hand.run(10)
    for _ in range(6):
        hand.beat("a", boot="there")
        hand.run(10)
    assert misses(hand) == {"b": ("db1", 0), "c": ("web1", 2), "d": ("web1", 1)}


def test_one_that_moved_is_on_its_new_host_once_the_old_instance_is_gone(hand):
    hand.beat("a", boot="here", sender=DB1)
    hand.run(10)
    for _ in range(6):
        hand.beat("a", boot="there", sender=WEB1)
        hand.run(10)
    hand.run(60)
    assert misses(hand)["a"] == ("web1", 0)


def test_instances_on_one_host_are_on_that(hand):
    for _ in range(3):
        hand.beat("a", boot="one", sender=DB1)
        hand.beat("a", boot="two", sender=DB1)
        hand.run(10)
    hand.run(60)
    assert misses(hand)["a"] == ("db1", 0)


def test_a_restarted_healer_knows_where_its_services_ran():
    saved = SavedService(State.UP, last_beat=SavedBeat("b", 5, WALL - 5, WALL - 5, host="db1"))
    hand = Hand(*map(watch, NAMES), known=dict.fromkeys(NAMES, saved))
    hand.run(90)
    assert sorted(misses(hand).values()) == [("db1", 0), ("db1", 1), ("db1", 2)]


def test_a_service_that_leaves_the_truth_or_moves_to_another_line_is_not_counted_twice():
    hand = Hand(*map(watch, NAMES), watch("d", timeout=70.0))
    for svc in (*NAMES, "d"):
        hand.beat(svc, boot=svc, sender=DB1)
    hand.rewatch(watch("a"), watch("b", timeout=40.0), watch("d", timeout=70.0))
    hand.run(100)
    assert misses(hand) == {"a": ("db1", 2), "b": ("db1", 1), "d": ("db1", 0)}


def test_what_others_of_a_standby_are_up_it_knows_from_what_it_adopts():
    hand = Hand(*map(watch, NAMES))
    for svc in NAMES:
        hand.beat(svc, boot=svc, sender=DB1)
    down = SavedService(State.DOWN, since=WALL, missed_at=WALL)
    adopt_state(hand.detector, "a", down, hand.now)
    assert hand.detector.hosts.count_up("db1") == 2
    adopt_state(hand.detector, "a", SavedService(State.UP, since=WALL), hand.now)
    assert hand.detector.hosts.count_up("db1") == 3


def test_of_those_that_moved_each_is_on_its_new_host_alone():
    names = [f"svc{n}" for n in range(6)]
    hand = Hand(*(watch(svc, timeout=100.0) for svc in names), watch("a"))
    for svc in names:  # two instances, the second of which stays
        hand.beat(svc, boot=f"{svc}-1", sender=Sender(host="old"))
        hand.beat(svc, boot=f"{svc}-2", sender=DB1 if svc < "svc4" else WEB1)
    hand.beat("a", boot="a", sender=WEB1)
    for svc in names:
        hand.beat(svc, boot=f"{svc}-2")
    hand.run(20)
    hosts = hand.detector.hosts
    assert [hosts.count_up(host) for host in ("old", "db1", "web1")] == [0, 0, 1], "the old ones may live"
    for _ in range(40):
        hand.run(10)
        for svc in names:
            hand.beat(svc, boot=f"{svc}-2")
    assert [hosts.count_up(host) for host in ("old", "db1", "web1")] == [0, 4, 2]
    assert misses(hand) == {"a": ("web1", 0)}


def test_what_ended_with_an_error_shows_no_machine_and_one_that_beats_while_a_failure_is_open_does():
    hand = Hand(replace(watch("a"), alert_on_failure=True), watch("b"))
    hand.beat("a", boot="a", sender=DB1)
    hand.beat("b", boot="b", sender=DB1)
    hand.beat("a", boot="a", status="stopping", exit_code=1)
    hand.run(1)
    assert hand.detector.hosts.count_up("db1") == 1
    hand.run(60)
    assert misses(hand)["b"] == ("db1", 0)
    hand.beat("b", boot="b", run="failed", via="probe", detail="no space")
    hand.beat("b", boot="b")
    assert hand.detector.services["b"].state is State.DOWN
    assert hand.detector.hosts.count_up("db1") == 1


def test_a_job_and_what_may_be_silent_for_long_show_no_machine():
    hand = Hand(
        watch("a"),
        watch("b"),
        watch("slow", timeout=86_400.0),
        replace(watch("job"), job=JobRule(max_run_sec=30.0)),
    )
    for svc in ("a", "b", "slow", "job"):
        hand.beat(svc, boot=svc, sender=DB1)
    hand.run(60)
    assert sorted(misses(hand)[svc] for svc in "ab") == [("db1", 0), ("db1", 1)]


@pytest.mark.slow
def test_a_miss_looks_at_no_other_service_however_many_there_are():
    """All of a fleet on one machine die in turn: to count them at each miss took a second of each."""
    names = [f"svc{n}" for n in range(2000)]
    hand = Hand(*map(watch, names))
    for svc in names:
        hand.beat(svc, boot=svc, sender=DB1)
    asked = []
    find = WatchedService.find_only_host

    def count(service):
        asked.append(service.svc)
        return find(service)

    with patch.object(WatchedService, "find_only_host", count):
        hand.run(40)
    found = [misses(hand)[svc] for svc in names]
    assert found == [("db1", left) for left in reversed(range(2000))]
    assert len(asked) <= 2 * len(names)
