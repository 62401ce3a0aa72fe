"""Waits are as long as they should be, and silences end by the wall clock, however the clock is set."""

import pytest

from marketswarm.event import Kind
from notifier.router.incident import Decision
from support.simulation.router import Town

HOUR = 3600.0
MEDIC = {"medic": {"settings": {"mode": "act"}}}
STEPS = pytest.mark.parametrize("step_sec", [-HOUR, HOUR, -30 * 24 * HOUR])


def set_clock(town, step_sec):
    """The wall clock is set while the notifier runs, and it notices that."""
    town.now += step_sec
    town.router.shift_times(step_sec)


def told_after(town, since, count=0):
    """Return after how many seconds since `since` the messages came, without the first `count`."""
    return [round(at - since) for at, _, _ in town.messages[count:]]


@STEPS
def test_what_waits_for_its_group_is_told_in_time(step_sec):
    town = Town(group_wait_sec=2.0)
    town.down("a")
    town.down("b")
    set_clock(town, step_sec)
    began = town.now
    town.run(10)
    assert told_after(town, began) == [2]


@STEPS
def test_what_the_rate_limit_holds_is_told_in_time(step_sec):
    town = Town(rate_limit_sec=300, rate_limit_max_hold_sec=60)
    town.down("a")
    town.run(5)
    town.up("a")
    town.run(30)
    assert town.down("a") is Decision.RATE_LIMIT
    town.run(10)
    set_clock(town, step_sec)
    began, count = town.now, len(town.messages)
    town.run(100)
    assert told_after(town, began, count) == [50]


@STEPS
def test_the_rate_limit_of_what_is_over_ends_in_time(step_sec):
    town = Town(rate_limit_sec=300, flap_window_sec=1)
    town.down("a")
    town.run(5)
    town.up("a")
    town.run(30)
    town.down("a")
    town.run(5)
    town.up("a")
    set_clock(town, step_sec)
    began, count = town.now, len(town.messages)
    town.run(400)
    assert told_after(town, began, count) == [260]


@STEPS
def test_reminders_come_in_time_and_their_words_go_by_the_wall_clock(step_sec):
    town = Town(remind_sec=(900.0,))
    town.down("a")
    town.run(600)
    set_clock(town, step_sec)
    began = town.now
    town.run(301)
    assert told_after(town, began, 1) == [300]
    by_wall_clock = "for 75 min" if step_sec > 0 else "for 15 min"  # `since` is later than now
    assert town.last().text.startswith(by_wall_clock)


@STEPS
def test_a_service_has_its_whole_grace_once_its_cause_is_back(step_sec):
    town = Town({"a": {"depends_on": ["b"]}, "b": {}}, group_wait_sec=0.0)
    town.down("b")
    town.run(1)
    assert town.down("a") is Decision.DEPENDS
    town.up("b")
    town.run(10)
    set_clock(town, step_sec)
    began, count = town.now, len(town.messages)
    town.run(60)
    assert told_after(town, began, count) == [pytest.approx(20, abs=1)]


@STEPS
def test_a_digest_comes_in_time(step_sec):
    town = Town({"a": {}, **MEDIC}, digest_sec=100.0, healing_max_hold_sec=60.0, rate_limit_sec=0)
    town.lead()
    town.heal("a", "waiting")
    assert town.down("a") is Decision.HEALING
    town.run(5)
    assert town.up("a") is Decision.HEALED
    town.run(40)
    set_clock(town, step_sec)
    began = town.now
    town.run(200)
    assert told_after(town, began) == [60]


@STEPS
def test_a_message_goes_on_waiting_for_the_medic(step_sec):
    town = Town({"a": {}, **MEDIC}, healing_max_hold_sec=60.0)
    town.lead()
    town.heal("a", "waiting")
    assert town.down("a") is Decision.HEALING
    town.run(20)
    set_clock(town, step_sec)
    began = town.now
    town.run(100)
    assert told_after(town, began) == [40]


@STEPS
def test_a_service_that_flaps_settles_in_time(step_sec):
    town = Town(flap_window_sec=600)
    town.flap("a", 4, 10, 10)
    assert town.titles()[-1] == "a is flapping"
    control = Town(flap_window_sec=600)
    control.flap("a", 4, 10, 10)
    set_clock(town, step_sec)
    began, control_began = town.now, control.now
    count = len(town.messages)
    town.run(700)
    control.run(700)
    (settled_after,) = told_after(control, control_began, count)
    assert told_after(town, began, count) == [pytest.approx(settled_after, abs=1)]


def test_a_silence_ends_by_the_wall_clock_though_that_was_far_ahead_for_a_second():
    town = Town()
    began = town.now
    town.be_silent("a", sec=2 * HOUR)
    town.run(60)
    assert town.down("a") is Decision.SILENCED
    set_clock(town, HOUR)
    town.run(1)
    set_clock(town, -HOUR)
    town.run(2 * HOUR)
    assert told_after(town, began)[0] == 2 * HOUR


def test_a_silence_that_seemed_to_have_ended_holds_on_once_the_clock_is_right():
    town = Town()
    town.be_silent("a", sec=2 * HOUR)
    set_clock(town, 3 * HOUR)
    assert town.down("b") is Decision.TELL
    town.run(1)
    set_clock(town, -3 * HOUR)
    assert town.down("a") is Decision.SILENCED


@pytest.mark.parametrize("step_sec", [-HOUR, -30 * 24 * HOUR])
def test_what_was_stored_by_a_clock_that_was_set_back_is_told_in_time(step_sec):
    town = Town(group_wait_sec=2.0)
    town.down("a")
    town.down("b")
    town.down("b")
    town.now += step_sec
    town.restart()
    began = town.now
    town.run(10)
    assert told_after(town, began) == [2]


@pytest.mark.parametrize("is_down", [True, False])
def test_what_the_rate_limit_held_by_a_clock_that_was_set_back_is_told_in_time(is_down):
    town = Town(rate_limit_sec=300, rate_limit_max_hold_sec=60, flap_window_sec=1)
    town.down("a")
    town.run(5)
    town.up("a")
    town.run(30)
    assert town.down("a") is Decision.RATE_LIMIT
    town.run(1)
    if not is_down:
        town.up("a")
        town.run(1)
    town.now -= HOUR
    town.restart()
    began, count = town.now, len(town.messages)
    town.run(400)
    assert told_after(town, began, count) == [60 if is_down else 264]


def test_a_digest_and_a_reminder_of_a_clock_that_was_set_back_come_in_time():
    town = Town(
        {"a": {}, "b": {}, **MEDIC},
        digest_sec=100.0,
        healing_max_hold_sec=60.0,
        remind_sec=(900.0,),
    )
    town.down("b", Kind.PROBE_MISS)
    town.heal("a", "waiting")
    assert town.down("a") is Decision.HEALING
    town.run(5)
    town.up("a")
    town.run(5)
    town.now -= HOUR
    town.restart()
    began, count = town.now, len(town.messages)
    town.run(1000)
    assert told_after(town, began, count) == [100, 896]


def test_a_writer_whose_clock_is_ahead_makes_no_service_flap_for_longer():
    towns = Town(flap_window_sec=600), Town(flap_window_sec=600)
    for town, ahead_sec in zip(towns, (0.0, HOUR), strict=True):
        for _ in range(4):
            town.down("a", ts=town.now + ahead_sec)
            town.run(10)
            town.up("a", ts=town.now + ahead_sec)
            town.run(10)
        town.run(700)
    assert towns[0].titles() == towns[1].titles()
    assert towns[0].titles()[-1] == "a has settled"


def test_changes_before_the_clock_was_set_back_make_nothing_flap():
    town = Town(rate_limit_sec=0)
    town.flap("a", 2, 60, 60)  # four changes in four minutes
    town.down("a")
    town.run(500)
    town.now -= HOUR
    town.restart()
    town.up("a")
    town.run(5)
    assert town.last().title == "a is up again"


def test_what_flaps_while_the_clock_is_set_back_settles_as_long_after_its_latest_change():
    town = Town(rate_limit_sec=0)
    town.flap("a", 4, 10, 10)
    assert town.last().title == "a is flapping"
    town.now -= HOUR
    town.restart()
    began = town.now
    town.run(900)
    assert town.last().title == "a has settled"
    assert 200 < town.messages[-1][0] - began < 500


@pytest.mark.parametrize(("away_sec", "told_sec"), [(40, 20), (100, 0)])
def test_what_the_rate_limit_holds_counts_the_time_in_which_no_notifier_ran(away_sec, told_sec):
    town = Town(rate_limit_sec=300, rate_limit_max_hold_sec=60)
    town.down("a")
    town.run(5)
    town.up("a")
    town.run(5)
    missed_at = town.now
    town.now += away_sec
    town.restart()
    began, count = town.now, len(town.messages)
    town.down("a", ts=missed_at)
    town.run(100)
    assert told_after(town, began, count)[:1] == [told_sec]


def test_the_clock_of_a_healer_that_is_behind_ends_no_rate_limit():
    town = Town(rate_limit_sec=300, rate_limit_max_hold_sec=60)
    town.restart()
    town.run(HOUR)
    town.down("a", ts=town.now - 600)
    town.run(5)
    town.up("a", ts=town.now - 600)
    town.run(5)
    began, count = town.now, len(town.messages)
    town.down("a", ts=town.now - 600)
    town.run(100)
    assert told_after(town, began, count)[:1] == [60]


@pytest.mark.parametrize("is_over", [False, True])
def test_what_the_limit_held_when_the_notifier_was_killed_is_said_once_with_the_next_miss(is_over):
    town = Town(rate_limit_sec=60, group_wait_sec=2.0)
    town.down("a")
    town.run(5)
    town.up("a")
    town.run(5)
    assert town.down("a") is Decision.RATE_LIMIT
    town.up("a")
    town.now += 70
    town.router = town._new()  # noqa: SLF001 - killed before the limit ended
    count = len(town.messages)
    town.down("a")
    if is_over:
        town.up("a")
    town.run(120)
    [(_, message, _)] = town.messages[count:]
    assert "one outage before it not told" in message.text


def test_who_flaps_at_the_same_time_of_a_clock_that_was_set_back_is_told_by_another_id():
    town = Town(rate_limit_sec=0, flap_window_sec=600)
    began = town.now
    for change in (town.down, town.up) * 4:
        change("a")
        town.run(10)
    town.run(900)
    town.down("a")  # so that what happens at each time is something else than before
    town.run(900)
    set_clock(town, began - town.now)
    for change in (town.up, town.down) * 4:
        change("a")
        town.run(10)
    told = [message for _, message, _ in town.messages if message.title == "a is flapping"]
    assert len(told) == 2
    assert told[0].timestamp == told[1].timestamp
    assert told[0].id != told[1].id
