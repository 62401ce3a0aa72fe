"""An end goes to the channels that heard of its beginning, also when they can be opened again only later."""

import pytest

from notifier.router.incident import Notice, NoticeKind
from notifier.router.late_ends import MAX_HELD_ENDS, LateEnds
from notifier.router.pending import PendingNotices
from notifier.router.suppression import Suppression
from support.simulation.router import Town

DAY = 86_400.0
BOTH = ("ops", "pager")


@pytest.fixture
def town():
    """Outages are told to the pager alone."""
    return Town(channels=BOTH, routes=[{"channels": ["pager"]}], remind_sec=[], rate_limit_sec=0)


def open_only(town, *names):
    town.open, town.closed = names, tuple(each for each in BOTH if each not in names)
    town.router.set_channels(town.open, town.closed)


def said(town, channel):
    return [(message.title, message.closes) for _, message, to in town.messages if channel in to]


def test_an_end_waits_for_the_channel_that_heard_of_the_beginning_and_goes_to_no_other(town):
    town.down("a")
    town.run(5)
    thread = town.last().thread
    open_only(town, "ops")
    town.up("a")
    town.run(600)
    assert said(town, "ops") == []
    town.restart()
    open_only(town, *BOTH)
    town.run(5)
    assert said(town, "pager")[1:] == [("a is up again", (thread,))]
    assert not [name for name in town.kept if name.startswith("r:e:")]


def test_of_two_channels_that_heard_of_it_each_hears_the_end_once(town):
    town = Town(channels=BOTH, remind_sec=[])
    town.down("a")
    town.run(5)
    open_only(town, "ops")
    town.up("a")
    town.run(5)
    open_only(town, *BOTH)
    town.run(5)
    assert [title for title, _ in said(town, "ops")] == ["a is down", "a is up again"]
    assert [title for title, _ in said(town, "pager")] == ["a is down", "a is up again"]


def test_the_end_of_an_outage_before_the_one_that_lasts_comes_once_all_is_well(town):
    town.down("a")
    town.run(5)
    open_only(town, "ops")
    town.up("a")
    town.run(5)
    town.down("a")
    town.run(5)
    open_only(town, *BOTH)
    town.run(60)
    assert [title for title, _ in said(town, "ops")] == ["a is down"]
    assert len(said(town, "pager")) == 1
    town.up("a")
    town.run(5)
    assert [title for title, _ in said(town, "pager")] == ["a is down", "a is up again"]
    assert [title for title, _ in said(town, "ops")] == ["a is down", "a is up again"]


def test_who_flaps_settles_for_the_channel_that_heard_of_the_flapping(town):
    town.flap("a", 4, 1, 1)
    town.run(1)
    assert [title for title, _ in said(town, "pager")][-1] == "a is flapping"
    open_only(town, "ops")
    town.run(900)
    open_only(town, *BOTH)
    town.run(5)
    assert said(town, "ops") == []
    assert [title for title, _ in said(town, "pager")][-1] == "a has settled"


def test_an_end_that_is_about_to_be_sent_waits_again_if_the_service_goes_down_before(town):
    town.flap("a", 4, 1, 1)
    town.run(1)
    open_only(town, "ops")
    town.run(900)
    open_only(town, *BOTH)
    town.run(0.1)
    town.down("a")
    town.run(5)
    assert [title for title, _ in said(town, "pager")][-2:] == ["a is flapping", "a is down"]
    town.up("a")
    town.run(5)
    assert [title for title, _ in said(town, "pager")][-1] == "1 service has settled, 1 is up again"


def test_a_late_end_comes_before_the_next_outage_if_that_is_told_with_it():
    town = Town(channels=BOTH, remind_sec=[], rate_limit_sec=0)
    town.down("a")
    town.run(5)
    open_only(town, "ops")
    town.up("a")
    town.run(60)
    town.down("b")
    town.run(1)
    town.down("c")  # what comes now waits for its group
    open_only(town, *BOTH)
    town.run(0.1)
    town.down("a")
    town.run(10)
    titles = [title for title, _ in said(town, "pager")]
    assert titles[:2] == ["a is down", "a is up again"]
    assert any("down" in title for title in titles[2:])


def test_a_late_end_comes_before_what_happened_after_it(town):
    town = Town(channels=BOTH, remind_sec=[], rate_limit_sec=0)
    town.down("a")
    town.run(5)
    open_only(town, "ops")
    town.up("a")
    town.run(60)
    town.down("a")
    town.up("a")
    open_only(town, *BOTH)
    town.run(10)
    titles = [title for title, _ in said(town, "pager")]
    assert titles == ["a is down", "a is up again", "a was down for 30 s, and is up again"]


def test_without_a_channel_that_the_truth_still_has_an_end_takes_its_route(town):
    town.down("a")
    town.run(5)
    town.router.set_channels(["ops"])  # the truth has no pager any more
    town.up("a")
    town.run(5)
    assert [title for title, _ in said(town, "ops")] == ["a is up again"]


def test_who_is_reminded_over_another_channel_hears_the_end_there_too():
    town = Town(channels=BOTH, routes=[{"channels": ["pager"]}], remind_sec=[900])
    town.down("a")
    town.run(5)
    open_only(town, "ops")
    town.run(900)
    town.up("a")
    town.run(5)
    assert [title for title, _ in said(town, "ops")] == ["a is still down", "a is up again"]


def test_an_end_is_held_for_a_day(town):
    town.down("a")
    town.run(5)
    open_only(town, "ops")
    town.up("a")
    town.run(5)
    town.now += DAY
    town.down("b")
    town.run(5)
    open_only(town, *BOTH)
    town.run(5)
    assert [title for title, _ in said(town, "pager")] == ["a is down"]
    assert not [name for name in town.kept if name.startswith("r:e:")]


def make_late_ends(suppression):
    return LateEnds("r:e:", {}, PendingNotices("r:l:"), suppression)


def test_what_is_held_is_bounded_and_a_field_that_names_no_channel_is_unusable():
    suppression = Suppression({}, PendingNotices("r:l:"))
    suppression.set_channels(["pager"], [])
    held = make_late_ends(suppression)
    for n in range(MAX_HELD_ENDS + 1):
        held.hold(Notice(f"n{n}", "a", "a", NoticeKind.UP, 1.0, 1.0), "pager")
    assert len(held.notices) == len(held.list_sendable()) == MAX_HELD_ENDS
    fields = {"r:e:end.pager.x": Notice("end.pager.x", "a", "a", NoticeKind.UP, 1.0, 1.0).encode()}
    assert make_late_ends(suppression).restore(fields) == list(fields)
