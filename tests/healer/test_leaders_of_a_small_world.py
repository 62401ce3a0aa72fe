"""What the machine of `test_leaders_machine.py` found, and what it must go on finding, one story each."""

import pytest
from by_hand import watch
from small_leaders import Fleet, simulated

SERVICES = (
    (watch("a", 1.0, 3.0, "x"), True),
    (watch("b", 0.7, 2.0, "y"), False),
    (watch("c", 2.0, 4.0, "x"), False),
    (watch("d", 1.0, 6.0, "y"), True),
)


@pytest.fixture
def fleet():
    with simulated():
        fleet = Fleet(*SERVICES)
        try:
            fleet.run(12.0)
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
@pytest.mark.parametrize("late", [0.0, 1.0, 2.9, 3.1, 6.0])
def test_an_outage_is_told_once_though_its_leader_is_lost_at_any_moment_of_it(fleet, how, late):
    fleet.instances["a"][0].running = False
    fleet.run(late)
    fleet.end(leader(fleet), how)
    fleet.run(14.0)
    assert told(fleet, "a") == ["miss"]
    fleet.instances["a"][0].start(fleet.t)
    fleet.run(3.0)
    assert told(fleet, "a") == ["miss", "ok"]
    fleet.settle()
    assert told(fleet, "a") == ["miss", "ok"]
