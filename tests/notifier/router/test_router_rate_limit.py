"""The rate limit: what is held back is told when it ends, once, and counted."""

import pytest

from notifier.router.incident import Decision
from support.simulation.router import Town


def test_further_misses_are_held_back_and_summed_up_at_the_end_of_the_limit():
    town = Town(rate_limit_sec=300, flap_window_sec=10)
    town.down("a")
    town.run(10)
    town.up("a")
    for _ in range(2):
        town.run(40)
        assert town.down("a") is Decision.RATE_LIMIT
        town.run(10)
        assert town.up("a") is Decision.NOT_NOTIFIED
    assert town.titles() == ["a is down", "a is up again"]
    town.run(300)
    assert town.titles()[2:] == ["a went down again and again"]
    assert "2 times more" in town.last().text
    assert "it is up" in town.last().text
    assert not town.last().opens


def test_an_outage_that_lasts_is_told_when_it_was_held_back_for_a_minute_and_so_is_its_end():
    town = Town(rate_limit_sec=300)
    town.flap("a", 1, 5.0, 10.0)
    assert town.down("a") is Decision.RATE_LIMIT
    miss = town.router.open_incidents()[0].id
    town.run(59)
    assert town.titles() == ["a is down", "a is up again"]
    town.restart()
    town.run(3)
    assert town.titles()[2:] == ["a is down"]
    assert town.last().id == miss
    assert "it lasts for" in town.last().text
    assert "not told" not in town.last().text
    assert town.last().opens
    town.up("a")
    town.run(3)
    assert town.titles()[3:] == ["a is up again"]
    assert town.last().closes == (miss,)
    town.run(600)
    assert len(town.messages) == 4, "nothing is left to be summed up"


def test_those_before_the_one_that_lasts_are_counted_in_its_message():
    town = Town(rate_limit_sec=300, flap_window_sec=10)
    town.flap("a", 3, 5.0, 10.0)
    town.down("a")
    town.run(65)
    assert town.titles()[2:] == ["a is down"]
    assert "2 outages before it not told" in town.last().text


@pytest.mark.parametrize(
    ("limit_sec", "hold_sec", "told_sec"), [(300, 20, 20), (30, 60, 30), (300, 300, 300)]
)
def test_an_outage_is_held_back_no_longer_than_the_setting_and_the_limit(limit_sec, hold_sec, told_sec):
    town = Town(rate_limit_sec=limit_sec, rate_limit_max_hold_sec=hold_sec)
    town.down("a")
    town.run(1)
    town.up("a")
    town.run(1)
    town.down("a")
    begun = town.now
    town.run(400)
    at, message, _ = town.messages[2]
    assert message.opens
    assert told_sec - 3 <= at - begun <= told_sec + 3


def test_an_outage_in_the_limit_that_is_silenced_meanwhile_is_told_at_the_end_of_the_silence():
    town = Town(rate_limit_sec=300)
    town.flap("a", 1, 5.0, 5.0)
    town.down("a")
    town.be_silent("a", sec=200.0)
    town.run(190)
    assert len(town.messages) == 2
    town.run(20)
    assert town.titles()[2:] == ["a is down"]


@pytest.mark.parametrize("silence_sec", [1.0, 100.0])
def test_what_sums_up_is_dropped_by_a_silence_that_begins_before_it_is_sent(silence_sec):
    town = Town(rate_limit_sec=300, rate_limit_max_hold_sec=300)
    town.flap("a", 1, 5.0, 5.0)
    assert town.down("a") is Decision.RATE_LIMIT
    town.run(town.messages[0][0] + 299.9 - town.now)
    town.down("b")
    town.down("c")  # they wait for others of their group, and what sums up waits with them
    town.run(0.5)
    town.be_silent("a", sec=silence_sec)
    town.run(60)
    told = [line for _, message, _ in town.messages[2:] for line in (message.title, *message.lines)]
    assert not [line for line in told if "again and again" in line]
    town.run(100)
    assert any(
        "a is down" in line for _, message, _ in town.messages[2:] for line in (message.title, *message.lines)
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (0, "a went down again and again"),
        (1, "a is down"),
        (2, "a was down for 30.2 s, and is up again"),
        (4, "a is flapping"),
    ],
)
def test_what_happens_while_the_sum_waits_for_its_group_delays_it_no_further(changes, told):
    town = Town(rate_limit_sec=60, group_wait_sec=5, flap_window_sec=600 if changes == 4 else 10)
    limit_ends_at = _have_one_held_back(town)
    town.run(limit_ends_at - 1 - town.now)
    town.down("b")  # a message a short time ago: what follows waits for its group
    town.run(limit_ends_at + 3 - town.now)
    assert town.titles()[2:] == ["b is down"]
    for index in range(changes):
        (town.up if index % 2 else town.down)("a")
        town.run(0.2)
    town.run(20)
    at, message, _ = town.messages[3]
    assert message.title == told
    assert ("one outage before it not told" in message.text) is (changes in (1, 2))
    assert at - limit_ends_at <= 1.0 + 5.0  # the check that finds the end of the limit, then the wait


@pytest.mark.parametrize("begins_sec", [-0.5, 2.0])
def test_the_sum_is_one_line_and_counts_an_outage_with_a_cause_that_began_before_it_was_sent(begins_sec):
    town = Town({"a": {"depends_on": ["z"]}, "z": {}}, rate_limit_sec=60, group_wait_sec=5)
    limit_ends_at = _have_one_held_back(town)
    town.run(limit_ends_at - 4 - town.now)
    town.down("z")  # a message a short time ago: what follows waits for its group
    town.run(limit_ends_at + begins_sec - town.now)
    assert town.down("a") is Decision.DEPENDS
    town.run(10)
    assert town.titles()[2:] == ["z is down", "a went down again and again"]
    assert "down 2 times more since the last message about it, now for" in town.last().text


def test_an_outage_with_a_cause_that_is_over_counts_neither_in_the_number_nor_in_the_length_of_the_sum():
    town = Town({"a": {"depends_on": ["z"]}, "z": {}}, rate_limit_sec=60)
    _have_one_held_back(town)
    town.down("z")
    town.run(3)
    assert town.down("a") is Decision.DEPENDS
    town.run(10)
    town.up("a")
    town.up("z")
    town.run(60)
    assert "down once more since the last message about it, 35 s in all; it is up" in town.last().text


def test_an_outage_does_not_wait_for_the_medic_while_those_before_it_are_summed_up():
    services = {"a": {}, "b": {}, "medic": {"settings": {"mode": "act"}}}
    town = Town(services, rate_limit_sec=60, group_wait_sec=5)
    limit_ends_at = _have_one_held_back(town)
    town.run(limit_ends_at - 1 - town.now)
    town.down("b")
    town.lead()
    town.run(limit_ends_at + 2 - town.now)
    assert town.down("a") is Decision.TELL
    town.run(10)
    assert town.titles()[2:] == ["b is down", "a is down"]
    assert "one outage before it not told" in town.last().text


def test_an_outage_that_begins_before_the_end_of_the_last_one_is_sent_stays_held_back_and_counted():
    town = Town(rate_limit_sec=300, group_wait_sec=5, flap_window_sec=10)
    _have_one_held_back(town)
    town.run(10)
    assert town.down("a") is Decision.RATE_LIMIT
    town.run(59)
    town.down("b")  # a message a short time ago: what follows waits for its group
    town.run(3)
    assert town.titles()[2:] == ["b is down"]
    assert town.up("a") is Decision.TELL
    assert town.down("a") is Decision.RATE_LIMIT
    town.run(10)
    assert town.titles()[3:] == ["a was down for 92 s, and is up again"]
    assert "one outage before it not told" in town.last().text
    assert town.router.take_defects() == []
    town.up("a")
    town.run(300)
    assert town.titles()[4:] == ["a went down again and again"]
    assert "down once more since the last message about it, 40 s in all; it is up" in town.last().text


def _have_one_held_back(town: Town) -> float:
    """Have one outage of `a` told, and the next one held back; return when the rate limit ends."""
    town.flap("a", 1, 10, 10)
    assert town.down("a") is Decision.RATE_LIMIT
    town.run(5)
    town.up("a")
    return town.messages[0][0] + 60


def test_one_that_is_still_down_at_the_end_of_the_limit_is_told_and_so_is_its_end():
    town = Town(rate_limit_sec=300, rate_limit_max_hold_sec=300)
    town.down("a")
    town.run(10)
    town.up("a")
    town.run(10)
    assert town.down("a") is Decision.RATE_LIMIT
    town.run(300)
    assert town.titles()[2:] == ["a went down again and again"]
    assert "once more" in town.last().text
    assert town.last().opens
    thread = town.last().id
    town.up("a")
    town.run(3)
    assert town.titles()[3:] == ["a is up again"]
    assert town.last().closes == (thread,)


def test_without_a_limit_each_is_told():
    town = Town(rate_limit_sec=0, flap_window_sec=1)
    town.flap("a", 4, down_sec=5, up_sec=5)
    assert town.titles() == ["a is down", "a is up again"] * 4
