"""What the machine of `test_election_machine.py` found, and what it must go on finding, one story each."""

import pytest

from support.simulation.leaders import Fleet, simulated
from support.simulation.manual_detector import watch

pytestmark = pytest.mark.slow


def one_of(cases):
    """Return the cases of a story, of which every run has the first."""
    first, *others = cases
    return [first, *(pytest.param(case, marks=pytest.mark.nightly("the first case")) for case in others)]


SERVICES = (
    (watch("a", 1.0, 3.0, "x"), True),
    (watch("b", 0.7, 2.0, "y"), False),
    (watch("c", 2.0, 4.0, "x"), False),
    (watch("d", 1.0, 4.0, "y"), True),
)


@pytest.fixture
def fleet():
    with simulated():
        fleet = Fleet(*SERVICES)
        try:
            fleet.run(8.0)
            yield fleet
        finally:
            fleet.close()


def leader(fleet: Fleet) -> str:
    return next(name for name, each in fleet.healers.items() if each.leads("x"))


def told(fleet: Fleet, svc: str) -> list[str]:
    return fleet.ledgers["x"].kinds(svc)


def test_a_healer_ends_though_its_sessions_do_at_the_same_moment(fleet):
    name = leader(fleet)
    fleet.terminate(name)
    for bus in "xy":
        fleet.stop_bus(bus)
    fleet.run(5.0)
    assert fleet.ended == []


@pytest.mark.parametrize("how", ["kill", "terminate", "stall", "cut", "cut_home"])
@pytest.mark.parametrize("late", one_of([2.9, 0.0, 1.0, 6.0, 3.1]))
def test_an_outage_is_told_once_though_its_leader_is_lost_at_any_moment_of_it(fleet, how, late):
    fleet.instances["a"][0].running = False
    fleet.run(late)
    fleet.end(leader(fleet), how)
    fleet.run(10.0)
    assert told(fleet, "a") == ["miss"]
    fleet.instances["a"][0].start(fleet.t)
    fleet.run(3.0)
    assert told(fleet, "a") == ["miss", "ok"]
    fleet.settle()
    assert told(fleet, "a") == ["miss", "ok"]


@pytest.mark.parametrize(
    "case", one_of([("a", "kill"), ("a", "stall"), ("d", "terminate"), ("c", "cut")]), ids=str
)
def test_a_miss_that_only_the_leader_before_concluded_is_closed_by_the_next(fleet, case):
    svc, how = case
    timeout, first = fleet.watches[svc].timeout_sec, leader(fleet)
    fleet.instances[svc][0].running = False
    fleet.run(0.7 * timeout)
    for name in fleet.healers.keys() - {first}:
        fleet.end_session(name, fleet.watches[svc].bus)  # it must wait for a warm-up
    fleet.run(0.4 * timeout)
    assert told(fleet, svc) == ["miss"]
    fleet.end(first, how)
    fleet.run(0.1)
    fleet.instances[svc][0].start(fleet.t)
    fleet.run(8.0)
    assert told(fleet, svc) == ["miss", "ok"]
    fleet.settle()


def test_a_healer_that_hears_less_than_the_leader_before_it_tells_the_loss_anew(fleet):
    first = leader(fleet)
    other = next(iter(fleet.healers.keys() - {first}))
    for name in (first, other):
        fleet.cut(name, "y", "refuse")
    fleet.run(8.0)
    fleet.heal(first)
    fleet.run(8.0)
    assert fleet.ledgers["x"].kinds("bus:y") == ["miss", "ok"]
    fleet.kill(leader(fleet))
    if "y" not in [bus for each in fleet.healers.values() for bus, link in each.links.items() if link.cut]:
        fleet.cut(next(iter(fleet.healers)), "y", "refuse")
    fleet.run(10.0)
    assert fleet.ledgers["x"].kinds("bus:y") == ["miss", "ok", "miss"]
    fleet.settle()
    assert fleet.ledgers["x"].kinds("bus:y") == ["miss", "ok", "miss", "ok"]


@pytest.mark.parametrize("phase", one_of([n / 20 for n in range(8)]))
def test_what_another_told_while_a_lease_was_deleted_is_taken_over(fleet, phase):
    """The leader had its old epoch back, and so did not see that another one had spoken in between."""
    other = next(iter(fleet.healers.keys() - {leader(fleet)}))
    fleet.cut(other, "x", "refuse")
    fleet.run(12.0 + phase)
    fleet.lose_lease("y")
    fleet.run(12.0)
    kinds = fleet.ledgers["y"].kinds("bus:x")
    assert kinds in ([], ["miss", "ok"])
    fleet.settle()


def cut_off_standby(fleet: Fleet) -> tuple[str, str]:
    """Cut the healer that does not lead off from bus x for now; return who leads, and who is cut off."""
    first = leader(fleet)
    other = next(iter(fleet.healers.keys() - {first}))
    fleet.cut(other, "x", "refuse")
    fleet.run(2.0)
    return first, other


@pytest.mark.parametrize("healed_for", one_of([1.0, 0.0, 8.0]))
def test_a_standby_that_was_cut_off_tells_nothing_of_a_restart_that_its_leader_heard(fleet, healed_for):
    first, other = cut_off_standby(fleet)
    fleet.instances["a"][0].running = False
    fleet.run(1.0)
    fleet.instances["a"][0].start(fleet.t)
    fleet.run(6.0)
    fleet.heal(other)
    fleet.run(healed_for)
    fleet.kill(first)
    fleet.run(14.0)
    assert told(fleet, "a") == []
    assert fleet.ledgers["x"].gaps == []
    fleet.settle()


@pytest.mark.parametrize("healed_for", one_of([1.0, 0.0, 8.0]))
def test_a_standby_that_was_cut_off_tells_no_outage_again_that_its_leader_told(fleet, healed_for):
    first, other = cut_off_standby(fleet)
    fleet.instances["a"][0].running = False
    fleet.run(5.0)
    fleet.instances["a"][0].start(fleet.t)
    fleet.run(6.0)
    assert told(fleet, "a") == ["miss", "ok"]
    fleet.heal(other)
    fleet.run(healed_for)
    fleet.kill(first)
    fleet.run(14.0)
    assert told(fleet, "a") == ["miss", "ok"]
    assert fleet.ledgers["x"].gaps == []
    fleet.settle()


@pytest.mark.parametrize("heard_before", [False, True])
def test_a_standby_that_takes_over_tells_of_a_restart_that_nobody_heard(fleet, heard_before):
    first, other = cut_off_standby(fleet)
    if heard_before:  # by the leader alone: that is no gap, and what follows is one
        fleet.instances["a"][0].running = False
        fleet.run(1.0)
        fleet.instances["a"][0].start(fleet.t)
        fleet.run(4.0)
    fleet.kill(first)
    fleet.instances["a"][0].running = False
    fleet.run(1.0)
    fleet.instances["a"][0].start(fleet.t)
    fleet.run(4.0)
    fleet.heal(other)
    fleet.run(14.0)
    assert [event["restarted"] for event in fleet.ledgers["x"].gaps] == [True]
    fleet.settle()


@pytest.mark.parametrize("late", one_of([1.0, 0.3, 4.0]))
@pytest.mark.parametrize("how", one_of(["terminate", "kill", "cut_home"]))
@pytest.mark.parametrize("heard_by_leader", one_of(["xy", "x", "y"]))
def test_a_time_without_any_bus_is_told_once_though_the_next_leader_hears_them_later(
    fleet, heard_by_leader, how, late
):
    """The standby has the lease as soon as it reaches a bus, before it has heard one."""
    first = leader(fleet)
    other = next(iter(fleet.healers.keys() - {first}))
    fleet.kill(other)
    fleet.run(0.13)  # its canaries come between the leader's, and so its gap begins at another time
    fleet.start_healer(other)
    fleet.run(6.0)
    for name in (first, other):
        fleet.cut(name, "x", "refuse")
        fleet.cut(name, "y", "refuse")
    fleet.run(9.0)
    for bus in heard_by_leader:
        fleet.healers[first].links[bus].cut = None
    fleet.run(late + 2.0)
    assert [len(fleet.ledgers[bus].gaps) for bus in heard_by_leader] == [1] * len(heard_by_leader)
    fleet.end(first, how)
    fleet.run(1.0)
    fleet.heal(other)
    fleet.run(8.0)
    assert len({event["id"] for ledger in fleet.ledgers.values() for event in ledger.gaps}) == 1
    fleet.settle()


def test_a_leader_that_hears_a_bus_last_tells_no_time_without_any_that_another_healer_told(fleet):
    """Another bus decided meanwhile; the lease of the first one is still the leader's."""
    first = leader(fleet)
    other = next(iter(fleet.healers.keys() - {first}))
    fleet.kill(other)
    fleet.run(0.13)
    fleet.start_healer(other)
    fleet.run(6.0)
    for name in (first, other):
        fleet.cut(name, "x", "refuse")
        fleet.cut(name, "y", "refuse")
    fleet.freeze("x")
    fleet.run(9.0)
    fleet.heal(other)
    fleet.run(6.0)
    fleet.mend()
    fleet.run(8.0)
    one, same = (fleet.ledgers[bus].gaps for bus in "xy")
    assert [event["id"] for event in one] == [event["id"] for event in same]
    assert len(one) == 1
    fleet.settle()
