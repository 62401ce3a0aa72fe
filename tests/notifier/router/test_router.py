"""What people are told, and what they are spared."""

from dataclasses import replace

import orjson
import pytest

from marketswarm.channels import MessageKind, Severity
from marketswarm.event import UNWATCHED_REASON, Kind, encode_event
from notifier.router.incident import HANDLED_AT_MOST, Decision
from notifier.router.router import LogPosition
from support.simulation.router import Town

HOUR = 3600.0


def test_a_service_that_dies_alone_is_told_at_once_and_its_return_in_the_same_thread():
    town = Town()
    assert town.down("a") is Decision.TELL
    assert [message.title for message in town.run(0.3)] == ["a is down"]
    miss = town.last()
    assert (miss.kind, miss.severity, miss.opens, miss.closes) == (
        MessageKind.DOWN,
        Severity.WARNING,
        True,
        (),
    )
    assert miss.id == miss.thread == orjson.loads(miss.events[0])["id"]
    town.run(60)
    assert town.up("a") is Decision.TELL
    assert [message.title for message in town.run(0.3)] == ["a is up again"]
    ok = town.last()
    assert (ok.kind, ok.severity, ok.opens, ok.closes) == (MessageKind.UP, Severity.INFO, False, (miss.id,))
    assert ok.thread == miss.id


def test_with_no_wait_a_message_goes_out_in_the_very_turn():
    town = Town(group_wait_sec=0)
    town.down("a")
    assert town.titles() == ["a is down"]


def test_two_hundred_that_die_within_a_second_are_one_message_that_names_them_all():
    names = [f"svc{n}" for n in range(200)]
    town = Town(names)
    for name in names:
        town.down(name)
        town.run(0.005)
    town.run(3)
    assert town.titles() == ["200 services are down"]
    message = town.last()
    assert message.kind is MessageKind.GROUP
    assert [line.split()[0] for line in message.lines] == names
    assert [orjson.loads(event)["svc"] for event in message.events] == names


def test_nothing_waits_longer_than_the_group_wait_however_much_keeps_coming():
    names = [f"svc{n}" for n in range(100)]
    town = Town(names, group_wait_sec=2)
    for name in names:
        town.down(name)
        town.run(0.1)
    town.run(3)
    first = [town.messages[0][0] - town.now]
    assert len(town.messages) == 5
    assert len(town.messages[0][1].events) == pytest.approx(21, abs=1)
    assert first


def test_a_group_comes_back_in_its_thread_which_is_over_with_the_last_of_it():
    town = Town()
    for svc in "abc":
        town.down(svc)
    town.run(3)
    thread = town.last().id
    town.up("a")
    town.run(3)
    assert (town.last().thread, town.last().closes) == (thread, ())
    town.up("b")
    town.up("c")
    town.run(3)
    assert town.titles() == ["3 services are down", "a is up again", "2 services are up again"]
    assert (town.last().thread, town.last().closes) == (thread, (thread,))


def test_what_is_back_before_anybody_was_told_is_one_line():
    town = Town()
    town.down("a")
    assert town.up("a", ts=town.now + 0.1) is Decision.TELL
    town.run(3)
    assert town.titles() == ["a was down for 30.1 s, and is up again"]
    assert len(town.last().events) == 2
    assert not town.last().opens


def test_the_end_of_what_nobody_was_told_of_is_not_told():
    town = Town()
    town.be_silent("a", sec=HOUR)
    assert town.down("a") is Decision.SILENCED
    town.run(60)
    assert town.up("a") is Decision.NOT_NOTIFIED
    town.run(2 * HOUR)
    assert town.titles() == []


def test_a_first_ok_is_no_news_and_a_repeat_is_a_repeat():
    town = Town()
    assert town.up("a") is Decision.NEWS
    event, raw = town.event(Kind.HEARTBEAT_MISS, "a", late_sec=30.0, timeout_sec=30.0)
    assert town.take(event, raw) is Decision.TELL
    assert town.take(event, raw) is Decision.REPEAT
    town.run(3)
    assert town.take(event, raw) is Decision.REPEAT
    town.up("a")
    town.run(3)
    assert town.take(event, raw) is Decision.REPEAT, "an old one, from the other bus"
    town.run(3)
    assert town.titles() == ["a is down", "a is up again"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_writer_whose_clock_is_set_back_between_two_outages_loses_none(restart):
    town = Town()
    ahead = town.now + HOUR
    town.down("a", ts=ahead)
    town.run(30)
    town.up("a", ts=ahead + 30)
    town.run(600)
    if restart:
        town.restart()
    assert town.down("a") is Decision.TELL
    town.run(30)
    assert town.up("a") is Decision.TELL
    town.run(30)
    assert town.titles() == ["a is down", "a is up again"] * 2


def test_a_clock_that_is_set_back_makes_no_news_of_what_was_handled():
    town = Town(rate_limit_sec=0, flap_window_sec=1)
    ahead = town.now + HOUR
    old = [
        town.event(Kind.HEARTBEAT_MISS, "a", ahead, late_sec=30.0),
        town.event(Kind.HEARTBEAT_OK, "a", ahead + 30),
    ]
    for event, raw in old:
        assert town.take(event, raw) is Decision.TELL
        town.run(30)
    again = LogPosition("system-redis", b"1762433458000-1")
    for event, raw in old:
        assert town.take(event, raw) is Decision.REPEAT, "the bus got it again, after it had lost it"
    assert town.down("a") is Decision.TELL
    town.run(30)
    for event, raw in old:
        assert town.take(event, raw, again) is Decision.REPEAT, "claimed from a notifier that died"
    town.up("a")
    town.run(30)
    for event, raw in old:
        for position in (again, LogPosition("market-redis", b"1762433458000-1"), None):
            assert town.take(event, raw, position) is Decision.REPEAT
    town.run(30)
    assert len(town.messages) == 4


def failed_and_ended(town):
    """A job fails and ends before the next evaluation: a miss and an ok of one `ts`, one after the other."""
    miss = town.event(Kind.HEARTBEAT_MISS, "a", reason="failed", since=town.now - 100)
    ok = town.event(Kind.HEARTBEAT_OK, "a", age_sec=0.0, down_sec=0.0)
    return [(*each, b"1762433458000-%d" % entry) for entry, each in enumerate((miss, ok), 1)]


@pytest.mark.parametrize("bus", ["system-redis", "market-redis"])
def test_a_failure_and_the_end_of_the_same_time_are_told_once_however_often_they_are_read(bus):
    town = Town()
    both = failed_and_ended(town)
    for event, raw, entry in both:
        assert town.take(event, raw, LogPosition("system-redis", entry)) is Decision.TELL
    town.run(30)
    for _ in range(3):
        town.restart()
        town.run(400)
        for event, raw, entry in both:
            assert town.take(event, raw, LogPosition(bus, entry)) is Decision.REPEAT
    town.run(400)
    assert town.titles() == ["a was down for 0 s, and is up again"]


def test_of_two_events_of_the_same_time_the_one_that_is_read_late_changes_nothing():
    town = Town()
    (miss, miss_raw, first), (ok, ok_raw, second) = failed_and_ended(town)
    town.down("a", ts=town.now - 60, position=LogPosition("system-redis", b"1762433398000-0"))
    assert town.take(ok, ok_raw, LogPosition("system-redis", second)) is Decision.TELL
    assert town.take(miss, miss_raw, LogPosition("system-redis", first)) is Decision.REPEAT
    town.run(400)
    assert not town.router.open_incidents()


def test_a_state_of_a_release_that_kept_no_ids_is_read_on_without_a_repeat():
    town = Town(rate_limit_sec=0, flap_window_sec=1)
    told = []
    for kind in (Kind.HEARTBEAT_MISS, Kind.HEARTBEAT_OK) * 3:
        told.append(town.event(kind, "a", late_sec=30.0))
        town.take(*told[-1])
        town.run(200)
    stored = orjson.loads(town.kept["r:i:a"])
    for name in ("handled", "gap_since", "gap_entries"):
        del stored[name]
    town.kept["r:i:a"] = orjson.dumps(stored)
    town.restart()
    for event, raw in told:
        assert town.take(event, raw) is Decision.REPEAT, "a bus got it again after it had lost it"
    assert town.down("a") is Decision.TELL
    for event, raw in told:
        assert town.take(event, raw) is Decision.REPEAT
    town.run(30)
    assert len(town.messages) == 7


@pytest.mark.parametrize("restart", [False, True])
def test_gaps_after_a_clock_that_is_set_back_are_told(restart):
    town = Town()
    ahead = town.now + HOUR
    town.take(*town.event(Kind.HEARTBEAT_GAP, "a", ahead, gap_sec=0.0, restarted=True))
    town.take(*town.event(Kind.REACH_GAP, "healer", ahead, gap_sec=60.0, since=ahead - 60))
    town.run(1800)
    if restart:
        town.restart()
    again = town.event(Kind.HEARTBEAT_GAP, "a", gap_sec=1500.0, restarted=False)
    assert town.take(*again) is Decision.TELL
    reach = town.event(Kind.REACH_GAP, "healer", gap_sec=900.0, since=town.now - 900)
    assert town.take(*reach) is Decision.TELL
    town.run(100)
    for each in (again, reach):
        for bus in ("system-redis", "market-redis"):
            position = LogPosition(bus, b"1762433459000-1")
            assert town.take(*each, position) is Decision.REPEAT
    town.run(100)
    assert sum(len(message.events) for _, message, _ in town.messages) == 4


def test_after_a_clock_that_is_set_back_the_gaps_of_a_bus_that_lags_are_told_once():
    town = Town()
    ahead = town.now + HOUR
    told = [town.event(Kind.HEARTBEAT_GAP, "a", ahead + n, gap_sec=9.0, restarted=True) for n in range(3)]
    for each in told:
        assert town.take(*each) is Decision.TELL
        town.run(30)
    for entry, each in enumerate(told, 1):
        position = LogPosition("market-redis", b"1762433458000-%d" % entry)
        assert town.take(*each, position) is Decision.REPEAT
    new = town.event(Kind.HEARTBEAT_GAP, "a", gap_sec=9.0, restarted=True)
    assert town.take(*new, LogPosition("market-redis", b"1762433458000-4")) is Decision.TELL
    assert town.take(*new) is Decision.REPEAT


def test_two_reach_gaps_whose_times_overlap_are_one():
    town = Town()
    began = town.now
    town.take(*town.event(Kind.REACH_GAP, "healer", began + 60, gap_sec=60.0, since=began))
    later = town.event(Kind.REACH_GAP, "healer", began + 62, gap_sec=59.0, since=began + 3)
    assert town.take(*later) is Decision.REPEAT, "of another healer, which could not read the first one"
    earlier = town.event(Kind.REACH_GAP, "healer", began + 59, gap_sec=60.0, since=began - 1)
    assert town.take(*earlier) is Decision.REPEAT
    another = town.event(Kind.REACH_GAP, "healer", began + 100, gap_sec=31.0, since=began + 69)
    assert town.take(*another) is Decision.TELL


def test_the_ids_that_an_incident_keeps_are_bounded_and_short():
    town = Town(rate_limit_sec=0, flap_window_sec=1)
    for _ in range(60):
        event, _ = town.event(Kind.HEARTBEAT_MISS, "a", late_sec=30.0)
        event = replace(event, id="x" * 5000 + event.id)
        town.take(event, encode_event(event))
        town.run(60)
        town.up("a")
        town.run(60)
    handled = orjson.loads(town.kept["r:i:a"])["handled"]
    assert len(handled) == len(set(handled)) == HANDLED_AT_MOST
    assert len(orjson.dumps(handled)) < 1000


def test_of_two_logs_the_one_that_lags_tells_nothing_twice_and_either_tells_what_is_new():
    town = Town()
    bus = "market-redis"

    def from_other_log(entry, event, raw):
        return town.take(event, raw, LogPosition(bus, b"1762433458000-%d" % entry))

    ahead = town.now + HOUR
    told = []
    for kind in (Kind.BUS_MISS, Kind.BUS_OK) * 15:
        told.append(town.event(kind, bus, ahead + len(told)))
        town.take(*told[-1])
        town.run(300)
    count = len(town.messages)
    for entry, each in enumerate(told, 1):
        assert from_other_log(entry, *each) is Decision.REPEAT
    town.run(60)
    assert len(town.messages) == count
    assert from_other_log(len(told) + 1, *town.event(Kind.BUS_MISS, bus)) is Decision.TELL


def test_what_the_sentinel_told_is_not_told_again_but_its_end_is():
    town = Town()
    assert town.down("healer", Kind.HEALER_MISS, reported_by_sentinel=True) is Decision.REPORTED_BY_SENTINEL
    town.run(5)
    assert town.titles() == []
    town.up("healer", Kind.HEALER_OK)
    town.run(5)
    assert town.titles() == ["healer is up again"]


# -- reminders


def test_reminders_come_after_15_minutes_1_hour_4_hours_and_then_every_12():
    town = Town()
    town.down("a")
    town.run(3)
    begun = town.messages[0][0]
    town.run(40 * HOUR)
    after = [
        round((at - begun) / 60) for at, message, _ in town.messages if message.kind is MessageKind.REMINDER
    ]
    assert after == [15, 60, 240, 12 * 60, 24 * 60, 36 * 60]
    assert town.titles()[1] == "a is still down"
    assert {message.thread for _, message, _ in town.messages} == {town.messages[0][1].id}


def test_a_restart_begins_no_reminder_anew_and_those_missed_meanwhile_are_one():
    town = Town()
    town.down("a")
    town.run(50 * 60)
    town.restart()
    town.run(20 * 60)
    assert town.titles() == ["a is down", "a is still down", "a is still down"]
    town.now += 14 * HOUR
    town.restart()
    town.run(60)
    assert len(town.titles()) == 4


def test_what_died_together_is_reminded_of_together():
    town = Town()
    for svc in "abc":
        town.down(svc)
    town.run(20 * 60)
    assert town.titles() == ["3 services are down", "3 services are still down"]
    assert town.last().kind is MessageKind.REMINDER


def test_an_acknowledged_outage_is_not_reminded_of():
    town = Town()
    town.down("a")
    town.run(3)
    assert town.router.acknowledge("a", "ada") == ["a"]
    assert town.router.acknowledge("b", "ada") == []
    town.run(5 * HOUR)
    assert town.titles() == ["a is down"]
    town.up("a")
    town.run(3)
    town.run(HOUR)
    town.down("a")
    town.run(20 * 60)
    assert town.titles()[-2:] == ["a is down", "a is still down"], "it was that outage that was acknowledged"


# -- flapping


def test_what_flaps_is_told_so_once_and_once_that_it_has_settled():
    town = Town()
    town.flap("a", 20, down_sec=1.5, up_sec=1.5)
    town.run(HOUR)
    is_flapping = [
        message
        for _, message, _ in town.messages
        if message.kind in (MessageKind.FLAPPING, MessageKind.SETTLED)
    ]
    assert [message.title for message in is_flapping] == ["a is flapping", "a has settled"]
    assert "it is up" in is_flapping[1].text
    assert is_flapping[1].closes == (is_flapping[0].thread,)
    assert town.titles()[:2] == ["a is down", "a is up again"]
    assert len(town.messages) == 4


def test_what_settles_while_it_is_down_is_an_outage_like_any_other():
    town = Town(rate_limit_sec=5)
    for _ in range(10):
        town.up("a")
        town.run(1.5)
        town.down("a")
        town.run(1.5)
    town.run(600)
    assert town.last().title == "a has settled"
    assert "it is down" in town.last().text
    thread = town.last().thread
    town.run(20 * 60)
    assert town.last().title == "a is still down"
    town.up("a")
    town.run(3)
    assert (town.last().title, town.last().closes) == ("a is up again", (thread,))


# -- routes, severity, escalation


def test_routes_go_by_tag_and_severity_and_an_ok_goes_where_its_miss_went():
    services = {
        "pay": {"severity": "critical", "tags": ["money"]},
        "feed": {"tags": ["ingest"]},
        "toy": {"severity": "info"},
    }
    routes = [
        {"severities": ["critical"], "channels": ["pager", "ops"]},
        {"tags": ["ingest"], "channels": ["data"]},
        {"channels": ["ops"]},
    ]
    town = Town(services, ["ops", "pager", "data"], routes=routes)
    for svc in services:
        town.down(svc)
    town.run(3)
    for svc in services:
        town.up(svc)
    town.run(3)
    assert town.titles("pager") == ["pay is down", "pay is up again"]
    assert town.titles("data") == ["feed is down", "feed is up again"]
    assert sorted(town.titles("ops")) == ["pay is down", "pay is up again", "toy is down", "toy is up again"]
    severities = {message.title: message.severity for _, message, _ in town.messages}
    assert severities["pay is down"] is Severity.CRITICAL
    assert severities["toy is down"] is Severity.INFO


def test_a_route_to_a_channel_that_is_not_there_goes_to_all_that_are():
    town = Town(channels=["one", "two"], routes=[{"channels": ["gone"]}])
    town.down("a")
    town.run(3)
    assert town.messages[0][2] == ("one", "two")


def test_what_nobody_acknowledges_goes_to_the_next_channel_and_so_does_its_end():
    town = Town(
        channels=["ops", "pager"],
        routes=[{"channels": ["ops"]}],
        escalate=[{"after_sec": 300, "channels": ["pager"]}],
    )
    town.down("a")
    town.down("b")
    town.run(60)
    town.router.acknowledge("b", "ada")
    town.run(5 * 60)
    assert town.titles("pager") == ["a is down and not acknowledged"]
    town.up("a")
    town.up("b")
    town.run(3)
    assert "a is up again" in town.titles("pager")
    assert not any("b " in title for title in town.titles("pager"))


def test_each_step_of_an_escalation_goes_by_its_own_time_whatever_their_order():
    steps = [{"after_sec": 1800, "channels": ["boss"]}, {"after_sec": 300, "channels": ["pager"]}]
    town = Town(channels=["ops", "pager", "boss"], routes=[{"channels": ["ops"]}], escalate=steps)
    town.down("a")
    town.run(6 * 60)
    assert (town.titles("pager"), town.titles("boss")) == (["a is down and not acknowledged"], [])
    town.run(30 * 60)
    assert town.titles("boss") == ["a is down and not acknowledged"]


def test_with_nobody_to_tell_nothing_is_lost_what_is_still_down_is_told_once_there_is():
    town = Town(channels=[])
    assert town.down("a") is Decision.NO_CHANNEL
    town.down("b")
    town.run(60)
    town.up("b")
    town.router.set_channels(["one"])
    town.run(5)
    assert town.titles() == ["a is down"]


def test_channels_that_go_away_while_something_waits_lose_nothing():
    town = Town()
    town.down("a")
    town.router.set_channels([])
    town.run(60)
    town.router.set_channels(["one"])
    town.run(3)
    assert town.titles() == ["a is down"]


# -- notes, restarts


def test_a_gap_is_told_and_says_how_long():
    town = Town()
    event, raw = town.event(Kind.HEARTBEAT_GAP, "a", gap_sec=95.0, restarted=True)
    assert town.take(event, raw) is Decision.TELL
    assert town.take(event, raw) is Decision.REPEAT
    town.run(3)
    assert town.titles() == ["a restarted, and is up"]
    assert town.last().text.splitlines()[0] == "silent for at least 95 s while nobody listened"


def test_an_unwatched_service_closes_its_outage_in_its_own_words():
    town = Town()
    town.down("a")
    town.run(3)
    town.up("a", Kind.HEARTBEAT_UNWATCHED)
    town.run(3)
    assert town.titles() == ["a is down", "a is no longer watched"]
    assert town.last().closes == (town.messages[0][1].id,)


@pytest.mark.parametrize("wait_sec", [0, 13 * HOUR])
def test_a_lost_bus_that_left_the_truth_closes_its_outage_and_its_reminders(wait_sec):
    town = Town()
    town.down("extra", Kind.BUS_MISS)
    town.run(wait_sec)
    count = len(town.titles())
    assert (count > 1) is (wait_sec > 0), "reminders"
    town.take(*town.event(Kind.BUS_OK, "extra", reason=UNWATCHED_REASON))
    town.run(3)
    assert town.titles()[count:] == ["bus extra is no longer watched"]
    assert town.last().text.splitlines()[0] == "it was away, and the truth no longer asks for it"
    if wait_sec:
        assert town.last().closes == (town.messages[0][1].id,)
    town.run(30 * HOUR)
    assert len(town.titles()) == count + 1


def test_what_waits_to_be_said_survives_a_restart_and_is_held_until_it_was_said():
    town = Town()
    event, raw = town.event(Kind.HEARTBEAT_MISS, "a", late_sec=30.0, timeout_sec=30.0)
    town.take(event, raw)
    assert town.router.is_pending(event.id)
    town.restart()
    assert town.router.is_pending(event.id)
    town.run(3)
    assert town.titles() == ["a is down"]
    assert not town.router.is_pending(event.id)
    town.restart()
    town.run(3)
    assert town.titles() == ["a is down"]


def test_what_is_kept_is_forgotten_when_all_has_been_well_for_a_day():
    town = Town(remind_sec=[])
    town.down("a")
    town.run(60)
    town.up("a")
    town.run(60)
    assert town.kept
    town.now += 25 * HOUR
    town.down("b")
    town.run(10)
    assert [name for name in town.kept if name.endswith(":a")] == []


def test_fields_that_nobody_can_read_are_left_out():
    town = Town()
    town.kept = {"r:i:a": b"{", "r:l:b": b"[]", "r:i:c": b'{"key":5}', "o:x": b"1"}
    town.restart()
    assert town.router.open_incidents() == []
