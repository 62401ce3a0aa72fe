"""Whose turn it is to tell people: the notifier's for a while, then ours; once, and an ok after its miss."""

from collections.abc import Iterable

import pytest

from marketswarm.event import Event, Kind, encode_event, make_event_id
from sentinel.pending import (
    MAX_PENDING,
    MAX_SEEN,
    OpenOutage,
    PendingAlert,
    PendingAlerts,
    get_outage_key,
)

PATIENCE = 15.0


def event(kind: Kind, svc: str = "healer", ts: float = 1000.0, by: str = "healer") -> Event:
    return Event(kind, svc, ts, make_event_id(kind, svc, ts), by)


MISS, OK = event(Kind.HEALER_MISS, by="sentinel"), event(Kind.HEALER_OK, ts=1050.0, by="sentinel")
AWAY, BACK = event(Kind.BUS_MISS, "market-redis"), event(Kind.BUS_OK, "market-redis", 1050.0)


@pytest.fixture
def pending() -> PendingAlerts:
    return PendingAlerts("sentinel", PATIENCE)


def note(pending: PendingAlerts, *events: Event, now: float = 0.0, waited_sec: float | None = None) -> None:
    for one in events:
        pending.add_event(one, encode_event(one), now, waited_sec)


def types(alerts: Iterable[PendingAlert]) -> list[str]:
    return [alert.event.type.value for alert in alerts]


def tell(pending: PendingAlerts, now: float) -> list[str]:
    """Sends all that is due; what it was."""
    said = []
    for alert in pending.find_due_alerts(now):
        if pending.claim(alert):
            pending.record_sent(alert)
            pending.remove(alert)
            said.append(alert.event.id)
    return said


@pytest.mark.parametrize(("miss", "ok"), [(MISS, OK), (AWAY, BACK)], ids=["healer", "bus"])
def test_an_ok_from_before_a_miss_does_not_end_it_wherever_it_is_read_again(pending, miss, ok):
    earlier = event(ok.type, ok.svc, ts=miss.ts - 5, by=ok.by)
    note(pending, earlier, miss)
    assert tell(pending, PATIENCE) == [miss.id]
    note(pending, earlier, miss)  # from a bus that refused both until now
    assert tell(pending, 2 * PATIENCE) == []
    note(pending, ok)
    assert tell(pending, 3 * PATIENCE) == [ok.id]


@pytest.mark.parametrize("miss", [MISS, AWAY], ids=lambda one: one.type)
def test_a_miss_is_ours_once_others_had_their_time_and_only_once(pending, miss):
    note(pending, miss)
    assert pending.seconds_to_due(0) == PATIENCE
    assert pending.find_due_alerts(PATIENCE - 0.001) == []
    note(pending, miss, now=10)  # from another bus
    assert tell(pending, PATIENCE) == [miss.id]
    note(pending, miss, now=20)
    assert pending.find_due_alerts(1000) == []
    assert pending.seconds_to_due(20) is None
    assert len(pending) == 0


def test_what_is_on_its_way_is_not_due_again(pending):
    note(pending, MISS)
    (alert,) = pending.find_due_alerts(PATIENCE)
    assert pending.claim(alert)
    assert pending.find_due_alerts(1000) == []
    assert alert in pending


@pytest.mark.parametrize("kind", [k for k in Kind if k.value.startswith(("heartbeat", "truth"))])
def test_services_and_truth_are_not_its_concern(pending, kind):
    assert get_outage_key(event(kind)) is None
    note(pending, event(kind))
    assert pending.find_due_alerts(1000) == []


def test_the_ok_of_a_miss_that_we_told_is_ours_too_after_the_same_time(pending):
    note(pending, MISS)
    assert tell(pending, 15) == [MISS.id]
    assert pending.open_outages == {"healer:healer": OpenOutage(MISS.id, MISS.ts)}
    note(pending, OK, now=50)
    assert pending.find_due_alerts(50 + PATIENCE - 0.001) == []
    assert tell(pending, 50 + PATIENCE) == [OK.id]
    assert pending.open_outages == {}


def test_an_ok_knows_which_miss_it_is_the_end_of_after_a_restart_too(pending):
    note(pending, MISS)
    tell(pending, 15)
    later = PendingAlerts("sentinel", PATIENCE)
    later.restore(pending.open_outages)
    for each in (pending, later):
        note(each, OK, now=50)
        (ok,) = each.find_due_alerts(100)
        assert each.claim(ok)
        assert ok.closes == MISS.id


def test_who_tells_the_miss_tells_the_ok(pending):
    note(pending, MISS)
    note(pending, OK, now=5)
    (alert,) = pending.find_due_alerts(PATIENCE)
    pending.drop_sent_by_others(alert)
    assert pending.find_due_alerts(1000) == []
    assert len(pending) == 0


def test_an_ok_of_which_no_miss_is_known_is_none_of_ours(pending):
    note(pending, OK)
    assert pending.find_due_alerts(1000) == []


def test_an_outage_shorter_than_our_patience_is_told_whole_in_order(pending):
    note(pending, MISS)
    note(pending, OK, now=5)
    assert tell(pending, PATIENCE) == [MISS.id]
    assert tell(pending, PATIENCE + 5) == [OK.id]


def test_an_ok_that_others_told_ends_what_we_told(pending):
    note(pending, MISS)
    tell(pending, 15)
    note(pending, OK, now=50)
    (alert,) = pending.find_due_alerts(100)
    pending.drop_sent_by_others(alert)
    assert pending.open_outages == {}


def test_the_ok_of_a_miss_that_no_way_took_is_not_sent(pending):
    note(pending, MISS)
    (alert,) = pending.find_due_alerts(15)
    pending.claim(alert)
    pending.remove(alert)  # refused for good
    note(pending, OK, now=50)
    assert pending.find_due_alerts(1000) == []


def test_an_ok_waits_behind_a_miss_that_is_not_accepted_yet(pending):
    note(pending, MISS)
    (miss,) = pending.find_due_alerts(15)
    pending.claim(miss)
    note(pending, OK, now=50)
    (ok,) = pending.find_due_alerts(65)
    assert pending.claim(ok)
    assert (ok.is_miss, ok.closes, miss.closes) == (False, MISS.id, None)


def test_one_outage_does_not_hide_another(pending):
    other = event(Kind.BUS_MISS, "system-redis")
    note(pending, AWAY, other, MISS)
    assert set(tell(pending, 15)) == {AWAY.id, other.id, MISS.id}
    note(pending, BACK, now=20)
    assert tell(pending, 35) == [BACK.id]
    assert set(pending.open_outages) == {"bus:system-redis", "healer:healer"}


def test_a_second_outage_is_told_as_the_first_was(pending):
    again = event(Kind.HEALER_MISS, ts=1100.0, by="sentinel")
    note(pending, MISS)
    tell(pending, 15)
    note(pending, OK, now=50)
    tell(pending, 65)
    note(pending, again, now=100)
    assert tell(pending, 115) == [again.id]


# -- after a restart


def test_what_an_earlier_run_left_open_is_told_and_its_waiting_counts(pending):
    note(pending, MISS, waited_sec=10)
    assert pending.seconds_to_due(0) == 5
    assert tell(pending, 5) == [MISS.id]


def test_what_waited_long_enough_still_waits_for_what_other_buses_know(pending):
    note(pending, AWAY, waited_sec=600)
    assert pending.find_due_alerts(1.9) == []
    pending.record_up("bus:market-redis", AWAY.ts + 30, 1)  # that bus had missed the end of it
    assert pending.find_due_alerts(1000) == []


def test_what_is_up_since_before_the_miss_says_nothing_about_it(pending):
    note(pending, AWAY, waited_sec=600)
    pending.record_up("bus:market-redis", AWAY.ts - 30, 1)
    assert tell(pending, 10) == [AWAY.id]


def test_what_an_earlier_run_told_is_not_told_again_and_its_end_is(pending):
    assert pending.restore({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == ["healer:healer"]
    assert pending.restore({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == []
    note(pending, MISS, waited_sec=60)
    assert pending.find_due_alerts(1000) == []
    pending.record_up("healer:healer", OK.ts, 0)
    note(pending, OK, now=1)  # the log has it too, under the same id
    assert tell(pending, PATIENCE) == [OK.id]
    assert tell(pending, 1000) == []


def test_what_one_bus_has_as_untold_and_another_as_told_by_an_earlier_run_is_told(pending):
    note(
        pending, MISS, waited_sec=60
    )  # that bus was asked first; the run was killed before it had the record
    assert pending.restore({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == ["healer:healer"]
    assert pending.find_due_alerts(1000) == []
    note(pending, OK, now=1)
    assert tell(pending, PATIENCE + 1) == [OK.id]


def test_an_end_that_came_before_that_was_known_is_told_too(pending):
    note(pending, MISS, waited_sec=60)
    note(pending, OK, now=1)
    pending.restore({"healer:healer": OpenOutage(MISS.id, MISS.ts)})
    assert tell(pending, PATIENCE + 1) == [OK.id]


def test_an_end_that_came_before_anything_was_known_of_its_miss_is_told_once_too(pending):
    note(pending, OK)  # we said it ourselves before any bus had answered what an earlier run told
    pending.restore({"healer:healer": OpenOutage(MISS.id, MISS.ts)})
    pending.record_up("healer:healer", OK.ts, 1)
    assert tell(pending, PATIENCE + 1) == [OK.id]
    note(pending, OK, now=PATIENCE + 2)  # from the log of another bus
    assert tell(pending, 1000) == []


def test_the_record_of_an_earlier_run_is_not_taken_for_somebody_elses_for_ever(pending):
    note(pending, MISS, waited_sec=60)
    [alert] = pending.find_due_alerts(10)
    pending.drop_sent_by_others(alert)  # there is a record; whose, a bus that is slow will say
    assert pending.restore({"healer:healer": OpenOutage(MISS.id, MISS.ts)}) == ["healer:healer"]
    note(pending, OK, now=11)
    assert tell(pending, PATIENCE + 11) == [OK.id]


# -- what only we know


OWN = event(Kind.BUS_MISS, "market-redis", 1000.0, "sentinel")
OWN_BACK = event(Kind.BUS_OK, "market-redis", 1040.0, "sentinel")


def test_a_bus_lost_with_all_others_is_told_at_once(pending):
    pending.add_own_event(OWN, 0)
    assert tell(pending, 0) == [OWN.id]
    assert pending.open_outages["bus:market-redis"].is_own


def test_a_bus_whose_loss_is_known_is_not_told_again_when_the_others_follow(pending):
    note(pending, AWAY)
    pending.add_own_event(event(Kind.BUS_MISS, "market-redis", 1010.0, "sentinel"), 10)
    assert tell(pending, 15) == [AWAY.id]
    assert tell(pending, 1000) == []


def test_what_the_healer_says_afterwards_of_that_outage_is_no_news_but_its_ok_ends_it(pending):
    pending.add_own_event(OWN, 0)
    tell(pending, 0)
    pending.add_own_event(OWN_BACK, 40)
    note(pending, event(Kind.BUS_MISS, "market-redis", 1005.0), BACK, now=41)
    assert tell(pending, 1000) == [BACK.id]  # in the place of our own
    assert pending.open_outages == {}


def test_its_end_is_told_also_when_the_healer_says_nothing(pending):
    pending.add_own_event(OWN, 0)
    tell(pending, 0)
    pending.add_own_event(OWN_BACK, 40)
    assert tell(pending, 40 + PATIENCE) == [OWN_BACK.id]
    note(pending, event(Kind.BUS_MISS, "market-redis", 1005.0), BACK, now=60)  # a slow healer
    assert tell(pending, 1000) == []


def test_an_outage_after_that_one_is_news(pending):
    pending.add_own_event(OWN, 0)
    tell(pending, 0)
    pending.add_own_event(OWN_BACK, 40)
    again = event(Kind.BUS_MISS, "market-redis", 1052.0)
    note(pending, again, now=52)
    assert tell(pending, 1000)[-1] == again.id
    assert pending.open_outages["bus:market-redis"] == OpenOutage(again.id, again.ts)


def test_an_outage_after_that_one_is_news_although_the_clock_was_set_back_meanwhile(pending):
    pending.add_own_event(OWN, 0)
    tell(pending, 0)
    pending.add_own_event(OWN_BACK, 40)
    note(pending, BACK, now=41)
    tell(pending, 41 + PATIENCE)
    again = event(Kind.BUS_MISS, "market-redis", 500.0)
    note(pending, again, now=600)
    assert tell(pending, 1000) == [again.id]


def test_an_outage_of_ours_that_came_before_another_one_of_ours_is_still_known(pending):
    for n in range(2):
        at = 100.0 * n
        pending.add_own_event(event(Kind.BUS_MISS, "market-redis", 1000.0 + at, "sentinel"), at)
        tell(pending, at)
        pending.add_own_event(event(Kind.BUS_OK, "market-redis", 1040.0 + at, "sentinel"), at + 40)
        tell(pending, at + 40 + PATIENCE)
    for ts in (1005.0, 1105.0):
        note(pending, event(Kind.BUS_MISS, "market-redis", ts), now=200)
    assert tell(pending, 1000) == []


def own_outage(n: int) -> tuple[Event, Event]:
    """The miss and the ok of the n-th time that all buses were lost."""
    at = 1000.0 + 100 * n
    return event(Kind.BUS_MISS, AWAY.svc, at, "sentinel"), event(Kind.BUS_OK, AWAY.svc, at + 40, "sentinel")


def claim_due(pending: PendingAlerts, now: float) -> list[PendingAlert]:
    """Claims all that is due, which no channel takes yet."""
    return [alert for alert in pending.find_due_alerts(now) if pending.claim(alert)]


def test_its_end_is_told_too_if_the_bus_is_back_before_a_channel_took_its_loss(pending):
    pending.add_own_event(OWN, 0)
    [miss] = claim_due(pending, 0)
    pending.add_own_event(OWN_BACK, 40)
    pending.record_sent(miss)
    pending.remove(miss)
    assert tell(pending, 40 + PATIENCE) == [OWN_BACK.id]
    assert pending.open_outages == {}
    note(pending, event(Kind.BUS_MISS, "market-redis", 1005.0), BACK, now=60)  # the healer, of the same
    assert tell(pending, 1000) == []


def test_the_healers_ok_takes_the_place_of_ours_while_no_channel_took_the_loss(pending):
    pending.add_own_event(OWN, 0)
    [miss] = claim_due(pending, 0)
    pending.add_own_event(OWN_BACK, 40)
    note(pending, BACK, now=41)
    pending.record_sent(miss)
    pending.remove(miss)
    assert tell(pending, 1000) == [BACK.id]


@pytest.mark.parametrize("is_refused", [False, True], ids=["late", "refused for good"])
def test_the_next_loss_of_all_buses_is_told_whatever_became_of_the_first(pending, is_refused):
    pending.add_own_event(OWN, 0)
    [miss] = claim_due(pending, 0)
    if is_refused:
        pending.remove(miss)
    pending.add_own_event(OWN_BACK, 40)
    again, _ = own_outage(1)
    pending.add_own_event(again, 100)
    assert again.id in tell(pending, 100)


def test_losses_that_no_channel_takes_for_long_each_have_their_end(pending):
    alerts = []
    for n, (miss, ok) in enumerate(map(own_outage, range(3))):
        pending.add_own_event(miss, 100.0 * n)
        alerts += claim_due(pending, 100.0 * n)
        pending.add_own_event(ok, 100.0 * n + 40)
        alerts += claim_due(pending, 100.0 * n + 40 + PATIENCE)
    assert types(alerts) == ["bus_miss", "bus_ok"] * 3
    for alert in alerts:
        pending.record_sent(alert)
        pending.remove(alert)
    assert (pending.open_outages, len(pending)) == ({}, 0)


def test_the_end_of_a_loss_of_all_buses_does_not_end_one_that_the_healer_knows(pending):
    note(pending, AWAY)
    [alert] = pending.find_due_alerts(PATIENCE)
    pending.drop_sent_by_others(alert)
    pending.add_own_event(OWN, 30)
    pending.add_own_event(OWN_BACK, 40)
    pending.add_own_event(own_outage(1)[0], 100)
    assert tell(pending, 1000) == []  # people know it as away


# -- bounds


def test_it_remembers_no_more_than_it_must(pending):
    events = [event(Kind.BUS_MISS, "market-redis", 1000.0 + n) for n in range(3 * MAX_SEEN)]
    note(pending, *events)
    assert len(pending) == MAX_PENDING
    assert pending.find_due_alerts(1000)[-1].event == events[-1]  # the newest are kept
    note(pending, events[-MAX_SEEN])
    assert pending.find_due_alerts(1000)[-1].event == events[-1], "it was seen"
    note(pending, events[-MAX_SEEN - 1])
    assert pending.find_due_alerts(1000)[-1].event == events[-MAX_SEEN - 1], "it was forgotten"
