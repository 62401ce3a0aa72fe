"""The history of a fleet: any order of events gives the same, and finishing hours changes no sum."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.beat import Beat
from marketswarm.event import Event, Kind
from marketswarm.history.encoding import encode_service, parse_service
from marketswarm.history.fleet_history import (
    EXACT_HOURS,
    GONE_SEC,
    KEPT_HOURS,
    MAX_OUTAGES,
    PERIOD_HOURS,
    FleetHistory,
    UnsavedChanges,
    bus_subject,
)
from marketswarm.history.rollup import HOUR_SEC, WINDOWS, PastOutage, Seconds
from marketswarm.history.spans import KnownState

H0 = 497_000
T0 = H0 * HOUR_SEC
UP, DOWN, UNKNOWN = KnownState.UP, KnownState.DOWN, KnownState.UNKNOWN
BUS_OF = {"a": "system", "b": "system", "m": "market", "healer": "system"}


def event(kind, svc, ts, since=None, **more):
    return Event(
        kind, svc, T0 + ts, f"{kind}.{svc}.{ts}", "x", since=None if since is None else T0 + since, **more
    )


def outage(svc, start, end, kind="heartbeat"):
    return (
        event(Kind(f"{kind}_miss"), svc, start + 30, start),
        event(Kind(f"{kind}_ok"), svc, end, start, down_sec=float(end - start)),
    )


def listening(hours=24, services=BUS_OF, at=0):
    """Return the history of services that are up, with a healer that beats until `hours` later."""
    history = FleetHistory(H0 + at)
    begin = T0 + at * HOUR_SEC
    history.follow(services, 30.0, begin)
    for svc in services:
        history.adopt(svc, UP, begin - 5)
    for i, moment in ((1, begin), (hours * 360, begin + hours * HOUR_SEC)):
        history.hear_healer(Beat("healer", i, 0.0, boot="one", every=10.0), moment, float(begin))
    return history


def reread(history):
    """Return a history as a board reads it that starts anew."""
    found = FleetHistory(history.final, history.listening)
    found.healer, found.buses, found.hours = history.healer, history.buses, history.hours
    found.services = {svc: parse_service(encode_service(each)) for svc, each in history.services.items()}
    return found


def finish(history, now):
    list(history.finish_in_steps(history.due_hour(T0 + now)))


def states(history, svc, now):
    return [(one.start - T0, one.end - T0, one.state.value) for one in history.spans(svc, T0 + now)]


def test_a_fleet_without_events_is_up_while_the_healer_beats():
    history = listening()
    assert history.uptime("a", T0 + 3600) == dict.fromkeys(WINDOWS, Seconds(up=3600))


def test_a_daily_job_that_comes_two_hours_late_is_two_hours_down():
    history = listening(hours=30)
    scheduled, now = 25 * 3600, 28 * 3600
    more = {"down_since": float(T0 + scheduled)}
    history.apply_event(event(Kind.HEARTBEAT_MISS, "a", scheduled + 1800, 3600, reason="overdue", **more))
    finish(history, scheduled + 3600)
    back = scheduled + 7200
    history.apply_event(event(Kind.HEARTBEAT_OK, "a", back, 3600, down_sec=7200.0, **more))
    assert history.uptime("a", T0 + now)["7d"] == Seconds(26 * 3600, 7200, 0)
    assert history.outages("a", T0 + now) == [PastOutage(T0 + scheduled, T0 + back)]


def test_an_outage_counts_from_the_last_beat():
    history = listening()
    for each in outage("a", 1000, 1600):
        history.apply_event(each)
    assert history.uptime("a", T0 + 3600)["24h"] == Seconds(3000, 600, 0)
    assert history.uptime("b", T0 + 3600)["24h"] == Seconds(3600, 0, 0)
    assert history.outages("a", T0 + 3600) == [PastOutage(T0 + 1000, T0 + 1600)]


def test_an_outage_that_lasts_has_no_end():
    history = listening()
    history.apply_event(outage("a", 1000, 1600)[0])
    assert history.outages("a", T0 + 3600) == [PastOutage(T0 + 1000, None)]


def test_services_of_a_lost_bus_are_unknown_and_those_of_others_are_not():
    history = listening()
    for each in outage("market", 100, 400, "bus"):
        history.apply_event(each)
    assert states(history, "m", 1000) == [(0, 100, "up"), (100, 400, "unknown"), (400, 1000, "up")]
    assert states(history, "a", 1000) == [(0, 1000, "up")]


def test_while_the_healer_is_away_all_is_unknown_but_the_healer_is_down():
    history = listening()
    for each in outage("healer", 100, 400, "healer"):
        history.apply_event(each)
    assert states(history, "a", 1000) == [(0, 100, "up"), (100, 400, "unknown"), (400, 1000, "up")]
    assert states(history, "healer", 1000) == [(0, 100, "up"), (100, 400, "down"), (400, 1000, "up")]


def test_a_healer_that_is_silent_makes_all_unknown_before_anybody_says_so():
    history = listening(hours=1)
    assert states(history, "a", 3600 + 30) == [(0, 3630, "up")]
    assert states(history, "a", 3600 + 31) == [(0, 3600, "up"), (3600, 3631, "unknown")]


def test_a_silence_that_a_beat_explains_is_up_also_for_a_moment_that_was_asked_about_before():
    history, now = listening(hours=1), 3600 + 31
    assert states(history, "a", now)[-1] == (3600, now, "unknown")
    history.hear_healer(Beat("healer", 363, 0.0, boot="one", every=10.0), T0 + now)
    assert states(history, "a", now) == [(0, now, "up")]


def test_while_a_bus_refuses_the_healer_a_channel_its_service_is_unknown():
    history = listening()
    history.apply_event(event(Kind.WATCH_MISS, "a", 130, 100))
    history.apply_event(event(Kind.WATCH_OK, "a", 400))
    assert states(history, "a", 1000) == [(0, 100, "up"), (100, 400, "unknown"), (400, 1000, "up")]
    assert states(history, "b", 1000) == [(0, 1000, "up")]


def test_a_night_in_which_the_whole_machine_was_off_is_unknown():
    history = listening(hours=1)
    night = 10 * HOUR_SEC
    history.hear_healer(Beat("healer", 2, 0.0, boot="two", every=10.0), T0 + night, float(T0 + night - 15))
    found = history.uptime("a", T0 + night)["24h"]
    assert found == Seconds(3600 + 15, 0, 9 * 3600 - 15)


def test_a_healer_that_reached_no_bus_heard_nothing():
    history = listening()
    history.apply_event(event(Kind.REACH_GAP, "healer", 900, gap_sec=300.0))
    assert states(history, "a", 1000) == [(0, 600, "up"), (600, 900, "unknown"), (900, 1000, "up")]


def test_a_service_that_is_new_is_unknown_until_it_is_heard():
    history = listening()
    history.follow({**BUS_OF, "new": "system"}, 30.0, T0 + 5000)
    history.apply_event(event(Kind.HEARTBEAT_OK, "new", 5400))
    assert states(history, "new", 7200) == [(3600, 5400, "unknown"), (5400, 7200, "up")]
    assert history.uptime("new", T0 + 7200)["1y"] == Seconds(1800, 0, 1800)


def lose_bus(history, bus, start, end):
    history.apply_event(event(Kind.BUS_MISS, bus, start + 30, start))
    history.apply_event(event(Kind.BUS_OK, bus, end, start, down_sec=float(end - start)))


@pytest.mark.parametrize("hours", [3, 20])  # held as facts, and finished
@pytest.mark.parametrize("restarts", [False, True])
def test_a_service_that_moves_to_another_bus_keeps_its_history(hours, restarts):
    history = listening(hours=40)
    lose_bus(history, "system", 600, 2 * 3600 + 60)
    lose_bus(history, "market", 7200, 9000)
    for each in outage("b", 9900, 10_200):
        history.apply_event(each)
    now = hours * 3600 + 600
    finish(history, now)
    before = {svc: history.uptime(svc, T0 + now) for svc in ("a", "b", "m")}
    if restarts:
        history = reread(history)
    history.changes = UnsavedChanges()
    history.follow({"a": "market", "b": "market", "m": "system", "healer": "system"}, 30.0, T0 + now)
    assert history.changes.services == {"a", "b", "m"}
    assert {svc for svc, _ in history.changes.hours} == ({"a", "b", "m"} if hours == 20 else set())
    assert {svc: history.uptime(svc, T0 + now) for svc in before} == before
    lose_bus(history, "market", now + 1000, now + 1100)
    lose_bus(history, "system", now + 1000, now + 1500)
    later = now + EXACT_HOURS * 3600 + 7200
    expected = {
        svc: before[svc]["1y"].plus(Seconds(later - now - lost, 0, lost))
        for svc, lost in (("a", 100), ("b", 100), ("m", 500))
    }
    assert {svc: history.uptime(svc, T0 + later)["1y"] for svc in before} == expected
    finish(history, later)
    assert {svc: history.uptime(svc, T0 + later)["1y"] for svc in before} == expected


@pytest.mark.parametrize("hours", [3, 20])
def test_a_service_that_leaves_the_truth_keeps_what_its_bus_lost(hours):
    history = listening(hours=40)
    lose_bus(history, "market", 600, 5000)
    now = hours * 3600
    finish(history, now)
    before = history.uptime("m", T0 + now)
    history.follow({"a": "system"}, 30.0, T0 + now)
    assert history.uptime("m", T0 + now) == before
    history.follow(BUS_OF, 30.0, T0 + now)
    assert history.uptime("m", T0 + now) == before


def test_a_service_that_leaves_the_truth_is_unknown_and_forgotten_in_the_end():
    history = listening()
    history.follow({"b": "system"}, 30.0, T0 + 1000)
    assert states(history, "a", 2000) == [(0, 1000, "up"), (1000, 2000, "unknown")]
    history.follow({"b": "system"}, 30.0, T0 + 1000 + GONE_SEC)
    assert "a" in history.services
    history.follow({"b": "system"}, 30.0, T0 + 1001 + GONE_SEC)
    assert history.uptime("a", T0 + GONE_SEC + 2000) == dict.fromkeys(WINDOWS, Seconds())


def test_the_last_hour_has_no_holes_and_begins_with_a_full_hour():
    history = listening()
    assert [tuple(span) for span in history.recent("a", T0 + 1000)] == [
        (T0 - 3600, T0, UNKNOWN),
        (T0, T0 + 1000, UP),
    ]
    assert [tuple(span) for span in history.recent("nobody", T0 + 1000)] == [(T0 - 3600, T0 + 1000, UNKNOWN)]
    history.apply_event(outage("a", 1000, 1600)[0])
    assert [tuple(span) for span in history.recent("a", T0 + 8000)] == [(T0 + 3600, T0 + 8000, DOWN)]


def test_an_outage_that_began_in_finished_hours_corrects_them():
    history = listening(hours=40)
    finish(history, 30 * HOUR_SEC)
    assert history.final == H0 + 30 - EXACT_HOURS
    history.apply_event(event(Kind.HEARTBEAT_MISS, "a", 30 * HOUR_SEC, 10 * HOUR_SEC + 1800))
    found = history.uptime("a", T0 + 30 * HOUR_SEC)
    assert found["7d"] == Seconds(10 * 3600 + 1800, 19 * 3600 + 1800, 0)
    assert history.outages("a", T0 + 30 * HOUR_SEC) == [PastOutage(T0 + 10 * HOUR_SEC + 1800, None)]


def test_a_correction_comes_once_however_often_its_outage_is_told():
    history = listening(hours=40)
    finish(history, 30 * HOUR_SEC)
    late = outage("a", 23 * HOUR_SEC + 1800, 29 * HOUR_SEC)
    for each in (late[1], late[0], *late):
        history.apply_event(each)
    down = 29 * HOUR_SEC - (23 * HOUR_SEC + 1800)
    assert history.uptime("a", T0 + 30 * HOUR_SEC)["7d"] == Seconds(30 * 3600 - down, down, 0)


def test_an_event_that_is_older_than_all_facts_changes_nothing():
    history = listening(hours=40)
    finish(history, 30 * HOUR_SEC)
    before = history.uptime("a", T0 + 30 * HOUR_SEC)
    for each in outage("a", 100, 1000):
        history.apply_event(each)
    assert history.uptime("a", T0 + 30 * HOUR_SEC) == before


def test_a_quiet_fleet_keeps_no_hours():
    history = listening(hours=1000)
    finish(history, 1000 * HOUR_SEC)
    assert history.hours == {}
    assert history.uptime("a", T0 + 1000 * HOUR_SEC)["30d"] == Seconds(up=720 * HOUR_SEC)


def test_an_hour_without_a_listener_is_kept_once_for_a_bus():
    history = listening(hours=50)
    history.apply_event(event(Kind.REACH_GAP, "healer", 7200, gap_sec=300.0))
    finish(history, 50 * HOUR_SEC)
    assert set(history.hours) == {
        bus_subject("system"),
        bus_subject("market"),
    }
    assert history.uptime("a", T0 + 50 * HOUR_SEC)["7d"] == Seconds(50 * 3600 - 300, 0, 300)
    assert history.uptime("healer", T0 + 50 * HOUR_SEC)["7d"] == Seconds(50 * 3600, 0, 0)


def test_a_healer_that_never_came_back_leaves_unknown_hours():
    history = listening(hours=2)
    finish(history, 100 * HOUR_SEC)
    assert history.uptime("a", T0 + 100 * HOUR_SEC)["7d"] == Seconds(2 * 3600, 0, 98 * 3600)
    assert history.uptime("healer", T0 + 100 * HOUR_SEC)["7d"] == Seconds(2 * 3600, 0, 98 * 3600)


def test_hours_that_are_older_than_they_may_be_are_forgotten():
    history = listening(hours=KEPT_HOURS + 2 * PERIOD_HOURS)
    for each in outage("a", 100, 1000):
        history.apply_event(each)
    finish(history, 100 * HOUR_SEC)
    assert history.hours["a"]
    finish(history, (KEPT_HOURS + 2 * PERIOD_HOURS) * HOUR_SEC)
    assert "a" not in history.hours


def test_only_the_last_outages_are_remembered():
    history = listening(hours=2000)
    for n in range(3 * MAX_OUTAGES):
        for each in outage("a", n * 3600 + 100, n * 3600 + 200):
            history.apply_event(each)
    finish(history, 1000 * HOUR_SEC)
    assert len(history.outages("a", T0 + 1000 * HOUR_SEC)) == MAX_OUTAGES
    assert history.uptime("a", T0 + 1000 * HOUR_SEC)["1y"].down == 3 * MAX_OUTAGES * 100


DAY = 30 * HOUR_SEC


@st.composite
def some_events(draw):
    """Return events as healer and sentinel write them: by subject, outages one after the other."""
    found = []
    for svc, kind in (("a", "heartbeat"), ("m", "heartbeat"), ("market", "bus"), ("healer", "healer")):
        at = 0
        for _ in range(draw(st.integers(0, 5))):
            start = at + draw(st.integers(40, 6 * HOUR_SEC))
            at = start + draw(st.integers(31, 3 * HOUR_SEC))
            if at >= DAY - 1:
                break
            found += outage(svc, start, at, kind)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(1000, DAY))
        found.append(event(Kind.REACH_GAP, "healer", at, gap_sec=float(draw(st.integers(1, 900)))))
        found.append(event(Kind.HEARTBEAT_GAP, "b", at, at - 900, gap_sec=60.0, restarted=True))
    return sorted(found, key=lambda each: each.ts)


def sums(history, now):
    return {svc: history.uptime(svc, T0 + now) for svc in BUS_OF}


@given(some_events(), st.randoms(use_true_random=False))
def test_any_order_of_events_and_any_repetition_give_the_same_sums(events, chance):
    one, other = listening(hours=40), listening(hours=40)
    for each in events:
        one.apply_event(each)
    mixed = [*events, *chance.sample(events, len(events) // 2)]
    chance.shuffle(mixed)
    for each in mixed:
        other.apply_event(each)
    assert sums(one, DAY) == sums(other, DAY)
    finish(one, DAY)
    finish(other, DAY)
    assert sums(one, DAY) == sums(other, DAY)
    assert one.hours == other.hours


@given(some_events(), st.lists(st.integers(0, 30), max_size=4))
def test_finishing_hours_changes_no_sum(events, moments):
    exact, stepwise = listening(hours=40), listening(hours=40)
    for each in events:
        exact.apply_event(each)
    steps = sorted(hour * HOUR_SEC for hour in moments)
    for each in events:
        while steps and steps[0] <= each.ts - T0:
            finish(stepwise, steps.pop(0))
        stepwise.apply_event(each)
    assert sums(exact, DAY) == sums(stepwise, DAY)
    finish(stepwise, DAY)
    assert sums(exact, DAY) == sums(stepwise, DAY)


@given(some_events())
def test_the_seconds_of_a_window_are_as_many_as_it_has(events):
    history = listening(hours=40)
    for each in events:
        history.apply_event(each)
    finish(history, DAY)
    for found in sums(history, DAY + 1234).values():
        assert {name: sum(each) for name, each in found.items()} == {
            name: min(hours * HOUR_SEC, DAY) + 1234 for name, hours in WINDOWS.items()
        }
        assert all(each.share is None or 0 <= each.share <= 1 for each in found.values())


@given(some_events(), st.integers(-400, 400))
def test_a_history_does_not_depend_on_the_date(events, days):
    shift = days * 24
    moved = listening(hours=40, at=shift)
    here = listening(hours=40)
    for each in events:
        here.apply_event(each)
        since = None if each.since is None else each.since + shift * HOUR_SEC
        moved.apply_event(
            Event(
                *(each.type, each.svc, each.ts + shift * HOUR_SEC, "", "x"),
                *(each.late_sec, each.timeout_sec, each.age_sec, each.reason, each.down_sec, since),
                *(each.gap_sec, each.restarted),
            )
        )
    assert sums(moved, DAY + shift * HOUR_SEC) == sums(here, DAY)


@pytest.mark.parametrize("count", range(1, 6))
def test_finishing_that_was_interrupted_is_done_again_without_harm(count):
    history, whole = listening(hours=40), listening(hours=40)
    for one in (history, whole):
        for each in (*outage("a", 100, 9000), *outage("m", 50, 200), *outage("healer", 400, 500, "healer")):
            one.apply_event(each)
    steps = history.finish_in_steps(history.due_hour(T0 + DAY))
    assert len(list(islice(steps, count))) == count
    finish(history, DAY)
    finish(whole, DAY)
    assert sums(history, DAY) == sums(whole, DAY)
    assert history.hours == whole.hours


def test_between_the_steps_of_finishing_what_is_asked_is_answered_right():
    history, day = listening(hours=40), DAY + 900 * HOUR_SEC
    for each in (*outage("a", 100, 9000), *outage("m", 50, 200), *outage("market", 4000, 8000, "bus")):
        history.apply_event(each)
    finish(history, DAY)
    for each in (*outage("a", DAY - 3000, DAY - 100), *outage("healer", DAY - 9000, DAY - 8000, "healer")):
        history.apply_event(each)
    wanted = sums(history, day)
    steps = history.finish_in_steps(history.due_hour(T0 + day))  # so late that old hours are forgotten, too
    answers = [sums(history, day) for _ in steps]
    assert len(answers) > 1 + len(BUS_OF)
    assert [each == wanted for each in answers] == [True] * len(answers)
    assert sums(history, day) == wanted
