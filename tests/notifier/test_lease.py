"""Who leads is decided on the first bus that can be reached."""

import pytest

from marketswarm.keys import NOTIFIER_LEASE
from marketswarm.testing import MemoryBus
from notifier.lease import LeaseAction, LeaseState, apply_action

HOME, OTHER = "system", "market"


def view(boot="a", now=0.0):
    return LeaseState(boot, (HOME, OTHER), 3.0, now)


def test_who_gets_the_first_lease_leads_and_takes_the_others_with_it():
    one = view()
    assert not one.is_leader
    assert (one.choose_action(HOME, 0.0), one.choose_action(OTHER, 0.0)) == (
        LeaseAction.TAKE,
        LeaseAction.READ,
    )
    one.record_holder(HOME, "a", 0.1)
    assert one.is_leader
    assert one.choose_action(OTHER, 0.1) is LeaseAction.SEIZE


def test_who_finds_another_one_stands_by_and_holds_nothing():
    one = view()
    one.record_holder(HOME, "b", 0.1)
    one.record_holder(OTHER, "a", 0.1)
    assert not one.is_leader
    assert (one.choose_action(HOME, 0.2), one.choose_action(OTHER, 0.2)) == (
        LeaseAction.TAKE,
        LeaseAction.RELEASE,
    )
    assert one.other == "b"


def test_the_next_bus_decides_for_whom_the_first_is_away_and_only_after_the_life_of_a_lease():
    one = view()
    one.record_holder(OTHER, "", 0.1)
    assert one.choose_action(OTHER, 2.9) is LeaseAction.READ
    one.record_holder(OTHER, "", 2.9)
    assert one.choose_action(OTHER, 3.1) is LeaseAction.TAKE
    one.record_holder(OTHER, "a", 3.2)
    assert one.is_leader
    assert one.choose_action(HOME, 3.2) is LeaseAction.TAKE, "it may be back"


def test_a_first_bus_that_is_back_decides_again():
    one = view()
    one.record_holder(OTHER, "a", 3.2)
    assert one.is_leader
    one.record_holder(HOME, "b", 3.3)
    assert not one.is_leader
    assert one.choose_action(OTHER, 3.4) is LeaseAction.RELEASE


def test_who_leads_goes_on_while_no_bus_can_be_reached():
    one = view()
    one.record_holder(HOME, "a", 0.1)
    assert one.deciding_bus(10.0) is None
    assert one.is_leader
    assert (one.choose_action(HOME, 10.0), one.choose_action(OTHER, 10.0)) == (
        LeaseAction.TAKE,
        LeaseAction.TAKE,
    )


def test_who_is_turned_away_where_it_is_decided_leads_no_longer():
    one = view()
    one.record_holder(HOME, "a", 0.1)
    one.rejected(OTHER, 0.2)
    assert one.is_leader, "that bus follows the first"
    one.rejected(HOME, 0.2)
    assert not one.is_leader


@pytest.mark.parametrize(
    "line", ["SET {} them", "SET {} them EX 99999999", "RPUSH {} them", "HSET {} a them"]
)
async def test_what_another_hand_wrote_holds_the_lease_for_no_longer_than_one(line):
    bus = MemoryBus(HOME)
    await bus.client.execute_command(*line.format(NOTIFIER_LEASE).split())
    if (await apply_action(bus, "a", LeaseAction.TAKE, 3.0, 2.0)) != "a":
        assert 0 < await bus.client.pttl(NOTIFIER_LEASE) <= 3000
    await bus.aclose()
