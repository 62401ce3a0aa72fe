"""Who leads is decided on the first bus that can be reached."""

import pytest

from marketswarm.bus.lease import LeaseAction, apply_lease_action
from marketswarm.keys import NOTIFIER_LEASE
from marketswarm.testing import MemoryBus
from notifier.lease import NotifierLease

HOME, OTHER, THIRD = "system", "market", "third"


class View(NotifierLease):
    """The lease of one notifier, to which the buses answer at moments that a test chooses."""

    def __init__(self, *buses):
        super().__init__("a", {name: MemoryBus(name) for name in buses}, 3.0)
        for name in buses:
            self.find_out(name, None, 0.0)

    def find_out(self, bus, holder, now):
        self.leases[bus].record_holder(holder, now)
        self.decide_leadership(now)

    def actions(self, now):
        return [self.choose_action(bus, now)[0] for bus in self.leases]


@pytest.fixture
async def one():
    return View(HOME, OTHER)


async def test_who_gets_the_first_lease_leads_and_takes_the_others_with_it(one):
    assert not one.is_leader
    assert one.actions(0.0) == [LeaseAction.TAKE, LeaseAction.READ]
    one.find_out(HOME, "a", 0.1)
    assert one.is_leader
    assert one.actions(0.1) == [LeaseAction.TAKE, LeaseAction.SEIZE]


async def test_who_finds_another_one_stands_by_and_holds_nothing(one):
    one.find_out(HOME, "b", 0.1)
    one.find_out(OTHER, "a", 0.1)
    assert not one.is_leader
    assert one.actions(0.2) == [LeaseAction.TAKE, LeaseAction.RELEASE]
    assert one.other == "b"


async def test_the_next_bus_decides_for_whom_the_first_is_away_and_only_after_the_life_of_a_lease(one):
    one.find_out(OTHER, "", 0.1)
    assert one.actions(2.9) == [LeaseAction.TAKE, LeaseAction.READ]
    one.find_out(OTHER, "", 2.9)
    assert one.actions(3.1) == [LeaseAction.TAKE, LeaseAction.TAKE]
    one.find_out(OTHER, "a", 3.2)
    assert one.is_leader
    assert one.actions(3.2)[0] is LeaseAction.TAKE, "it may be back"


async def test_a_bus_that_decides_for_the_first_decides_for_those_after_it_too():
    one = View(HOME, OTHER, THIRD)
    one.find_out(OTHER, "a", 3.2)
    one.find_out(THIRD, "b", 3.2)
    assert one.is_leader
    assert one.actions(3.3) == [LeaseAction.TAKE, LeaseAction.TAKE, LeaseAction.SEIZE]


async def test_a_first_bus_that_is_back_decides_again(one):
    one.find_out(OTHER, "a", 3.2)
    assert one.is_leader
    one.find_out(HOME, "b", 3.3)
    assert not one.is_leader
    assert one.actions(3.4) == [LeaseAction.TAKE, LeaseAction.RELEASE]


async def test_who_leads_goes_on_while_no_bus_can_be_reached(one):
    one.find_out(HOME, "a", 0.1)
    one.decide_leadership(10.0)
    assert one.is_leader
    assert one.actions(10.0) == [LeaseAction.TAKE, LeaseAction.TAKE]


async def test_who_is_turned_away_where_it_is_decided_leads_no_longer(one, monkeypatch):
    monkeypatch.setattr("notifier.lease.time.monotonic", lambda: 0.2)
    one.find_out(HOME, "a", 0.1)
    one.find_out(OTHER, "a", 0.1)
    one.deny_leadership(OTHER)
    assert one.is_leader, "that bus follows the first"
    one.deny_leadership(HOME)
    assert not one.is_leader
    assert one.other == "?"


@pytest.mark.parametrize(
    "line",
    [
        "SET {} them",
        "SET {} them EX 99999999",
        "SET {} them EX 3000",  # taken by a clock that was ahead, before a power cut
        "RPUSH {} them",
        "HSET {} a them",
    ],
)
async def test_what_another_hand_wrote_holds_the_lease_for_no_longer_than_one(line):
    bus = MemoryBus(HOME)
    await bus.client.execute_command(*line.format(NOTIFIER_LEASE).split())
    holder, left_sec = await apply_lease_action(bus, NOTIFIER_LEASE, "a", LeaseAction.TAKE, life_sec=3.0)
    if holder != "a":
        assert 0 < left_sec <= 3.0
        assert 0 < await bus.client.pttl(NOTIFIER_LEASE) <= 3000
    await bus.aclose()


async def test_a_lease_of_another_setting_is_left_as_long_as_it_is():
    bus = MemoryBus(HOME)
    await bus.client.set(NOTIFIER_LEASE, "them", ex=29)
    holder, left_sec = await apply_lease_action(bus, NOTIFIER_LEASE, "a", LeaseAction.TAKE, life_sec=3.0)
    assert (holder, 28.0 < left_sec <= 29.0) == ("them", True)
    await bus.aclose()
