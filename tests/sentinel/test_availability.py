"""When no bus answers at all."""

import pytest

from marketswarm.event import Kind
from sentinel.availability import BusAvailability

TIMEOUT, GRACE, WALL = 10.0, 15.0, 1_762_433_458.0
BUSES = ("system-redis", "market-redis")


def lost(availability: BusAvailability, now: float):
    return availability.report_lost_buses(TIMEOUT, GRACE, now, WALL + now)


@pytest.fixture
def availability() -> BusAvailability:
    return BusAvailability("sentinel", BUSES, 0.0)


def test_when_none_answers_for_the_timeout_and_our_patience_each_is_missed_once(availability):
    availability.record_write("market-redis", 3, WALL)
    for bus in BUSES:
        assert availability.record_refused_write(bus, "refused", 5, WALL) is None
    assert lost(availability, 27.9) == []
    system, market = lost(availability, 28)
    assert (system.type, system.svc, system.by, system.reason) == (
        Kind.BUS_MISS,
        "system-redis",
        "sentinel",
        "refused",
    )
    assert (system.late_sec, market.late_sec, system.timeout_sec) == (28, 25, TIMEOUT)
    assert (system.since, market.since, system.ts) == (WALL, WALL + 3, WALL + 28)
    assert lost(availability, 1000) == []


def test_while_one_answers_a_lost_bus_is_the_healers_to_tell(availability):
    for now in range(100):
        availability.record_write("market-redis", now, WALL)
        assert lost(availability, now) == []


def test_a_bus_that_refuses_something_takes_other_writes(availability):
    availability.record_refused_write("market-redis", "error", 20, WALL)
    assert lost(availability, 30) == []


@pytest.mark.parametrize("reason", ["oom", "readonly", "misconf", "busy", "refused"])
def test_buses_that_refuse_all_writes_are_as_good_as_away(availability, reason):
    for bus in BUSES:
        availability.record_refused_write(bus, reason, 20, WALL)
    assert [event.reason for event in lost(availability, 30)] == [reason, reason]


def test_time_in_which_the_sentinel_did_not_run_makes_no_bus_lost(availability):
    availability.record_write("market-redis", 5, WALL)
    availability.note_stall(60, 70)
    assert lost(availability, 70) == []
    assert lost(availability, 5 + 60 + 24.9) == []
    system, market = lost(availability, 5 + 60 + 25)
    assert (system.late_sec, market.late_sec) == (30, 25)


def test_a_write_right_after_a_stall_is_no_write_of_the_future(availability):
    availability.record_write("market-redis", 70, WALL)
    availability.note_stall(60, 70)
    assert len(lost(availability, 95)) == 2


def test_each_bus_that_was_told_is_told_back_once(availability):
    lost(availability, 30)
    ok = availability.record_write("market-redis", 40, WALL + 40)
    assert (ok.type, ok.svc, ok.down_sec, ok.ts) == (Kind.BUS_OK, "market-redis", 40, WALL + 40)
    assert availability.record_write("market-redis", 41, WALL + 41) is None
    assert lost(availability, 41) == []
    assert availability.record_write("system-redis", 50, WALL + 50).svc == "system-redis"
    assert len(lost(availability, 100)) == 2  # and so on


def test_one_that_an_earlier_run_told_is_told_back(availability):
    availability.restore_outage("market-redis", -100)
    assert availability.record_write("market-redis", 1, WALL).down_sec == 101
    assert availability.record_write("system-redis", 1, WALL) is None


def test_buses_that_the_truth_names_no_more_do_not_count():
    availability = BusAvailability("sentinel", BUSES, 0.0)
    availability.set_buses(["system-redis", "third"], 10)
    assert availability.record_write("market-redis", 100, WALL) is None
    assert lost(availability, 34.9) == []  # the third is as good as heard at 10
    assert {event.svc for event in lost(availability, 35)} == {"system-redis", "third"}


def test_without_any_bus_nothing_is_lost():
    assert lost(BusAvailability("sentinel", (), 0.0), 1000) == []
