"""Whose turn it is to tell people: the notifier's for a while, then ours; once, and an ok after its miss."""

from collections.abc import Iterable

import pytest

from marketswarm.event import Event, Kind, encode, identify
from sentinel.pending import (
    PENDING_AT_MOST,
    SEEN_AT_MOST,
    OpenOutage,
    PendingAlert,
    PendingAlerts,
    outage_key,
)

PATIENCE = 15.0


def event(kind: Kind, svc: str = "healer", ts: float = 1000.0, by: str = "healer") -> Event:
    return Event(kind, svc, ts, identify(kind, svc, ts), by)


MISS, OK = event(Kind.HEALER_MISS, by="sentinel"), event(Kind.HEALER_OK, ts=1050.0, by="sentinel")
AWAY, BACK = event(Kind.BUS_MISS, "market-redis"), event(Kind.BUS_OK, "market-redis", 1050.0)


@pytest.fixture
def owed() -> PendingAlerts:
    return PendingAlerts("sentinel", PATIENCE)


def saw(owed: PendingAlerts, *events: Event, now: float = 0.0, waited_sec: float | None = None) -> None:
    for one in events:
        owed.saw(one, encode(one), now, waited_sec)


def types(debts: Iterable[PendingAlert]) -> list[str]:
    return [debt.event.type.value for debt in debts]


def tell(owed: PendingAlerts, now: float) -> list[str]:
    """Sends all that is due; what it was."""
    said = []
    for debt in owed.due(now):
        if owed.take(debt):
            owed.sent(debt)
            owed.done(debt)
            said.append(debt.event.id)
    return said


@pytest.mark.parametrize("miss", [MISS, AWAY], ids=lambda one: one.type)
def test_a_miss_is_ours_once_others_had_their_time_and_only_once(owed, miss):
    saw(owed, miss)
    assert owed.wait_sec(0) == PATIENCE
    assert owed.due(PATIENCE - 0.001) == []
    saw(owed, miss, now=10)  # from another bus
    assert tell(owed, PATIENCE) == [miss.id]
    saw(owed, miss, now=20)
    assert owed.due(1000) == []
    assert owed.wait_sec(20) is None
    assert len(owed) == 0


def test_what_is_on_its_way_is_not_due_again(owed):
    saw(owed, MISS)
    (debt,) = owed.due(PATIENCE)
    assert owed.take(debt)
    assert owed.due(1000) == []
    assert debt in owed


@pytest.mark.parametrize("kind", [k for k in Kind if k.value.startswith(("heartbeat", "truth"))])
def test_services_and_truth_are_not_its_concern(owed, kind):
    assert outage_key(event(kind)) is None
    saw(owed, event(kind))
    assert owed.due(1000) == []


def test_the_ok_of_a_miss_that_we_told_is_ours_too_after_the_same_time(owed):
    saw(owed, MISS)
    assert tell(owed, 15) == [MISS.id]
    assert owed.opened == {"healer:healer": OpenOutage(MISS.id, MISS.ts)}
    saw(owed, OK, now=50)
    assert owed.due(50 + PATIENCE - 0.001) == []
    assert tell(owed, 50 + PATIENCE) == [OK.id]
    assert owed.opened == {}


def test_an_ok_knows_which_miss_it_is_the_end_of_after_a_restart_too(owed):
    saw(owed, MISS)
    tell(owed, 15)
    later = PendingAlerts("sentinel", PATIENCE)
    later.recall(owed.opened)
    for each in (owed, later):
        saw(each, OK, now=50)
        (ok,) = each.due(100)
        assert each.take(ok)
        assert ok.ends == MISS.id


def test_who_tells_the_miss_tells_the_ok(owed):
    saw(owed, MISS)
    saw(owed, OK, now=5)
    (debt,) = owed.due(PATIENCE)
    owed.told_by_others(debt)
    assert owed.due(1000) == []
    assert len(owed) == 0


def test_an_ok_of_which_no_miss_is_known_is_none_of_ours(owed):
    saw(owed, OK)
    assert owed.due(1000) == []


def test_an_outage_shorter_than_our_patience_is_told_whole_in_order(owed):
    saw(owed, MISS)
    saw(owed, OK, now=5)
    assert tell(owed, PATIENCE) == [MISS.id]
    assert tell(owed, PATIENCE + 5) == [OK.id]


def test_an_ok_that_others_told_ends_what_we_told(owed):
    saw(owed, MISS)
    tell(owed, 15)
    saw(owed, OK, now=50)
    (debt,) = owed.due(100)
    owed.told_by_others(debt)
    assert owed.opened == {}


def test_the_ok_of_a_miss_that_no_way_took_is_not_sent(owed):
    saw(owed, MISS)
    (debt,) = owed.due(15)
    owed.take(debt)
    owed.done(debt)  # refused for good
    saw(owed, OK, now=50)
    assert owed.due(1000) == []


def test_an_ok_waits_behind_a_miss_that_is_not_accepted_yet(owed):
    saw(owed, MISS)
    (miss,) = owed.due(15)
    owed.take(miss)
    saw(owed, OK, now=50)
    (ok,) = owed.due(65)
    assert owed.take(ok)
    assert (ok.is_miss, ok.ends, miss.ends) == (False, MISS.id, None)


def test_one_outage_does_not_hide_another(owed):
    other = event(Kind.BUS_MISS, "system-redis")
    saw(owed, AWAY, other, MISS)
    assert set(tell(owed, 15)) == {AWAY.id, other.id, MISS.id}
    saw(owed, BACK, now=20)
    assert tell(owed, 35) == [BACK.id]
    assert set(owed.opened) == {"bus:system-redis", "healer:healer"}


def test_a_second_outage_is_told_as_the_first_was(owed):
    again = event(Kind.HEALER_MISS, ts=1100.0, by="sentinel")
    saw(owed, MISS)
    tell(owed, 15)
    saw(owed, OK, now=50)
    tell(owed, 65)
    saw(owed, again, now=100)
    assert tell(owed, 115) == [again.id]


# -- after a restart


def test_what_an_earlier_run_left_open_is_told_and_its_waiting_counts(owed):
    saw(owed, MISS, waited_sec=10)
    assert owed.wait_sec(0) == 5
    assert tell(owed, 5) == [MISS.id]


def test_what_waited_long_enough_still_waits_for_what_other_buses_know(owed):
    saw(owed, AWAY, waited_sec=600)
    assert owed.due(1.9) == []
    owed.up_since("bus:market-redis", AWAY.ts + 30, 1)  # that bus had missed the end of it
    assert owed.due(1000) == []


def test_what_is_up_since_before_the_miss_says_nothing_about_it(owed):
    saw(owed, AWAY, waited_sec=600)
    owed.up_since("bus:market-redis", AWAY.ts - 30, 1)
    assert tell(owed, 10) == [AWAY.id]


def test_what_an_earlier_run_told_is_not_told_again_and_its_end_is(owed):
    assert owed.recall({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == ["healer:healer"]
    assert owed.recall({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == []
    saw(owed, MISS, waited_sec=60)
    assert owed.due(1000) == []
    owed.up_since("healer:healer", OK.ts, 0)
    saw(owed, OK, now=1)  # the log has it too, under the same id
    assert tell(owed, PATIENCE) == [OK.id]
    assert tell(owed, 1000) == []


def test_what_one_bus_has_as_untold_and_another_as_told_by_an_earlier_run_is_told(owed):
    saw(owed, MISS, waited_sec=60)  # that bus was asked first; the run was killed before it had the record
    assert owed.recall({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == ["healer:healer"]
    assert owed.due(1000) == []
    saw(owed, OK, now=1)
    assert tell(owed, PATIENCE + 1) == [OK.id]


def test_an_end_that_came_before_that_was_known_is_told_too(owed):
    saw(owed, MISS, waited_sec=60)
    saw(owed, OK, now=1)
    owed.recall({"healer:healer": OpenOutage(MISS.id, MISS.ts)})
    assert tell(owed, PATIENCE + 1) == [OK.id]


def test_an_end_that_came_before_anything_was_known_of_its_miss_is_told_once_too(owed):
    saw(owed, OK)  # we said it ourselves before any bus had answered what an earlier run told
    owed.recall({"healer:healer": OpenOutage(MISS.id, MISS.ts)})
    owed.up_since("healer:healer", OK.ts, 1)
    assert tell(owed, PATIENCE + 1) == [OK.id]
    saw(owed, OK, now=PATIENCE + 2)  # from the log of another bus
    assert tell(owed, 1000) == []


def test_the_record_of_an_earlier_run_is_not_taken_for_somebody_elses_for_ever(owed):
    saw(owed, MISS, waited_sec=60)
    [debt] = owed.due(10)
    owed.told_by_others(debt)  # there is a record; whose, a bus that is slow will say
    assert owed.recall({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == ["healer:healer"]
    saw(owed, OK, now=11)
    assert tell(owed, PATIENCE + 11) == [OK.id]


# -- what only we know


OWN = event(Kind.BUS_MISS, "market-redis", 1000.0, "sentinel")
OWN_BACK = event(Kind.BUS_OK, "market-redis", 1040.0, "sentinel")


def test_a_bus_lost_with_all_others_is_told_at_once(owed):
    owed.say_ourselves(OWN, 0)
    assert tell(owed, 0) == [OWN.id]
    assert owed.opened["bus:market-redis"].own


def test_a_bus_whose_loss_is_known_is_not_told_again_when_the_others_follow(owed):
    saw(owed, AWAY)
    owed.say_ourselves(event(Kind.BUS_MISS, "market-redis", 1010.0, "sentinel"), 10)
    assert tell(owed, 15) == [AWAY.id]
    assert tell(owed, 1000) == []


def test_what_the_healer_says_afterwards_of_that_outage_is_no_news_but_its_ok_ends_it(owed):
    owed.say_ourselves(OWN, 0)
    tell(owed, 0)
    owed.say_ourselves(OWN_BACK, 40)
    saw(owed, event(Kind.BUS_MISS, "market-redis", 1005.0), BACK, now=41)
    assert tell(owed, 1000) == [BACK.id]  # in the place of our own
    assert owed.opened == {}


def test_its_end_is_told_also_when_the_healer_says_nothing(owed):
    owed.say_ourselves(OWN, 0)
    tell(owed, 0)
    owed.say_ourselves(OWN_BACK, 40)
    assert tell(owed, 40 + PATIENCE) == [OWN_BACK.id]
    saw(owed, event(Kind.BUS_MISS, "market-redis", 1005.0), BACK, now=60)  # a slow healer
    assert tell(owed, 1000) == []


def test_an_outage_after_that_one_is_news(owed):
    owed.say_ourselves(OWN, 0)
    tell(owed, 0)
    owed.say_ourselves(OWN_BACK, 40)
    again = event(Kind.BUS_MISS, "market-redis", 1052.0)
    saw(owed, again, now=52)
    assert tell(owed, 1000)[-1] == again.id
    assert owed.opened["bus:market-redis"] == OpenOutage(again.id, again.ts)


# -- bounds


def test_it_remembers_no_more_than_it_must(owed):
    events = [event(Kind.BUS_MISS, "market-redis", 1000.0 + n) for n in range(3 * SEEN_AT_MOST)]
    saw(owed, *events)
    assert len(owed) == PENDING_AT_MOST
    assert owed.due(1000)[-1].event == events[-1]  # the newest are kept
    saw(owed, events[-SEEN_AT_MOST])
    assert owed.due(1000)[-1].event == events[-1], "it was seen"
    saw(owed, events[-SEEN_AT_MOST - 1])
    assert owed.due(1000)[-1].event == events[-SEEN_AT_MOST - 1], "it was forgotten"
