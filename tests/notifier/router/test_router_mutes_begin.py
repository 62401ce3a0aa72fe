"""What waits for its group when a silence begins: only the end of what was told is sent inside."""

import pytest

from marketswarm.event import Kind
from support.simulation.router import Town

WAIT_SEC = 20.0
PAGED = {"escalate": [{"after_sec": 900, "channels": ["pager"]}]}


def wait_for_a_group(town):
    """From now on a notice waits for its group."""
    town.down("x")
    town.down("y")


def lines(messages, svc="a"):
    """What messages say about a service."""
    return [
        line
        for message in messages
        for line in message.lines or (f"{message.title}: {message.text}",)
        if line.startswith(f"{svc} ")
    ]


@pytest.fixture
def make_town():
    def make(**settings):
        defaults = {"remind_sec": [], "rate_limit_sec": 0, "channels": ["ops", "pager"]}
        return Town(group_wait_sec=WAIT_SEC, **{**defaults, **settings})

    return make


def test_an_outage_that_is_over_is_never_told(make_town):
    town = make_town()
    wait_for_a_group(town)
    town.down("a")
    town.up("a")
    town.be_silent("a", sec=100)
    assert lines(town.run(300)) == []


def test_a_restart_is_never_told(make_town):
    town = make_town()
    event, raw = town.event(Kind.HEARTBEAT_GAP, "a", gap_sec=40.0)
    town.take(event, raw)
    town.be_silent("a", sec=100)
    assert lines(town.run(300)) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"remind_sec": [900]}, "a is still down"), (PAGED, "a is down and not acknowledged")],
    ids=["reminder", "escalation"],
)
def test_what_reminds_comes_once_the_silence_is_over(make_town, settings, words):
    town = make_town(**settings)
    town.down("a")
    told_at = town.now + 0.25
    town.run(890)
    wait_for_a_group(town)
    town.run(told_at + 901 - town.now)
    town.be_silent("a", sec=100)
    assert lines(town.run(95)) == []
    [line] = lines(town.run(10))
    assert line.startswith(words)
    assert lines(town.run(300)) == []


def test_who_settles_is_told_once_the_silence_is_over(make_town):
    towns = [make_town(), make_town()]
    for town in towns:
        town.flap("a", 4, 1, 1)
        town.run(WAIT_SEC)
        assert town.last().title == "a is flapping"
    thread = town.last().thread
    towns[0].run(900)
    settled_at, message, _ = towns[0].messages[-1]
    assert message.title == "a has settled"
    town.run(settled_at - 2 - town.now)
    wait_for_a_group(town)
    town.run(5)
    town.be_silent("a", sec=100)
    assert lines(town.run(95)) == []
    [line] = lines(town.run(40))
    assert "has settled" in line
    assert town.last().thread == thread
    assert lines(town.run(300)) == []


def test_the_end_of_what_was_told_is_sent_inside(make_town):
    town = make_town()
    town.down("a")
    town.run(60)
    wait_for_a_group(town)
    town.up("a")
    town.be_silent("a", sec=100)
    [line] = lines(town.run(95))
    assert line.startswith("a is up again")
