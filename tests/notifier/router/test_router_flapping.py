"""Flapping that begins or ends while nothing may be sent: what is then true is told at the end of that."""

from datetime import UTC, datetime

import orjson
import pytest

from notifier.router.defect import DefectKind
from notifier.router.incident import Decision
from notifier.router.policy import Policy
from support.simulation.router import Town

HOUR = 3600.0
MUTE_SEC = 600.0


def flap(town, sec, half_sec=20.0):
    town.flap("a", round(sec / (2 * half_sec)), half_sec, half_sec)


def silenced():
    town = Town()
    town.be_silent("a", sec=MUTE_SEC)
    return town, town.now + MUTE_SEC


def in_maintenance():
    town = Town(maintenance=[{"at": "0 3 * * *", "for_sec": MUTE_SEC, "tz": "UTC"}])
    town.now = datetime(2026, 3, 10, 3, 0, 5, tzinfo=UTC).timestamp()
    return town, town.now - 5 + MUTE_SEC


def without_a_channel():
    town = Town(channels=())
    return town, town.now + MUTE_SEC


def lose_notice(town):
    """As a notifier of before would have left it: the notice gone, and no message sent."""
    for name in [name for name in town.kept if name.startswith("r:l:")]:
        del town.kept[name]
    town.restart()


def unmute(town):
    if not town.open:
        town.open = ("one",)
        town.router.set_channels(town.open)


MUTES = pytest.mark.parametrize("mute", [silenced, in_maintenance, without_a_channel])


@MUTES
def test_flapping_that_begins_while_muted_is_told_once_at_the_end_of_that(mute):
    town, ends_at = mute()
    flap(town, 560)
    assert town.titles() == []
    town.run(ends_at - town.now)
    unmute(town)
    flap(town, 1200)
    told = [(at - ends_at, message.title) for at, message, _ in town.messages]
    assert [title for _, title in told] == ["a is flapping"]
    assert 0 <= told[0][0] <= 3
    town.run(HOUR)
    assert town.titles() == ["a is flapping", "a has settled"]


@MUTES
def test_who_flapped_while_muted_and_is_down_when_that_ends_is_told_at_its_end(mute):
    town, ends_at = mute()
    flap(town, ends_at - town.now - 45)
    town.down("a")
    town.run(ends_at - town.now)
    unmute(town)
    town.run(3)
    assert town.titles() == ["a is flapping"]
    assert "it is down now, for" in town.last().text
    town.run(HOUR)
    assert town.titles() == ["a is flapping", "a has settled", "a is still down"]


@MUTES
def test_who_flapped_and_settled_while_muted_is_told_only_if_it_is_down(mute):
    town, ends_at = mute()
    flap(town, 240)
    town.down("a")
    town.run(ends_at - town.now)
    unmute(town)
    town.run(3)
    assert town.titles() == ["a is down"]
    quiet, ends_at = mute()
    flap(quiet, 240)
    quiet.run(ends_at - quiet.now)
    unmute(quiet)
    quiet.run(HOUR)
    assert quiet.titles() == []


def test_flapping_that_settles_in_a_silence_is_told_when_the_silence_ends():
    town = Town()
    flap(town, 240)
    assert town.titles()[-1] == "a is flapping"
    town.be_silent("a", sec=1200)
    before = len(town.messages)
    town.run(1199)
    assert town.messages[before:] == [], "told inside a silence"
    town.restart()
    town.run(4)
    assert town.titles()[before:] == ["a has settled"]
    assert "it is up" in town.last().text


def test_who_begins_to_flap_while_its_cause_is_down_is_told():
    town = Town({"cause": {}, "a": {"depends_on": ["cause"]}})
    town.down("cause")
    town.run(5)
    flap(town, 240)
    assert "a is flapping" in town.titles()


def test_an_outage_that_nobody_would_hear_of_is_found_counted_and_told():
    town = Town()
    town.down("a")
    lose_notice(town)  # a defect: it is neither pending, nor sent, nor held
    town.run(3)
    assert town.titles() == ["a is down"]
    assert [each.kind for each in town.router.take_defects()] == [DefectKind.LOST]
    town.run(HOUR)
    assert town.router.take_defects() == []


@pytest.mark.parametrize("is_down", [True, False])
def test_flapping_whose_message_is_in_no_outbox_is_a_defect_and_is_told_again(is_down):
    town = Town(rate_limit_sec=0)
    flap(town, 400)
    if is_down:
        town.down("a")
    [message] = [each for _, each, _ in town.messages if each.title == "a is flapping"]
    town.router.forget_message(message.thread)
    town.run(10)
    assert town.titles().count("a is flapping") == 2
    assert [each.kind for each in town.router.take_defects()] == [DefectKind.LOST]
    town.run(3600)
    assert town.router.take_defects() == []


def test_a_rate_limit_that_holds_back_nothing_is_no_reason_for_silence():
    town = Town()
    town.down("a")
    town.router.open_incidents()[0].held = Decision.RATE_LIMIT
    town.router.acknowledge("a", "")
    town.run(0.01)
    lose_notice(town)
    town.run(3)
    assert town.titles() == ["a is down"]


def test_the_end_of_flapping_goes_where_its_beginning_went_though_it_went_down_since():
    town = Town(channels=("ops", "pager"), routes=[{"channels": ["ops"]}])
    flap(town, 240)
    assert town.titles("ops")[-1] == "a is flapping"
    town.policy = Policy(routes=[{"channels": ["pager"]}])
    town.router.apply_policy(town.policy, town.truth)
    flap(town, 40)
    town.run(HOUR)
    assert town.titles("ops")[-1] == "a has settled"
    assert town.titles("pager") == []


def test_an_end_comes_before_the_next_beginning_though_another_message_has_the_route_of_that():
    both = [{"services": ["a"], "channels": ["ops", "pager"]}, {"channels": ["ops"]}]
    town = Town(channels=("ops", "pager"), routes=both, rate_limit_sec=0)
    town.down("a")
    town.run(5)
    town.policy = Policy(routes=[{"channels": ["ops"]}], rate_limit_sec=0)
    town.router.apply_policy(town.policy, town.truth)
    town.down("b")
    town.up("a")
    town.run(0.1)
    town.down("a")
    town.run(5)
    told = [event for _, message, _ in town.messages[1:] for event in message.events if b'"svc":"a"' in event]
    assert [orjson.loads(event)["type"] for event in told] == ["heartbeat_ok", "heartbeat_miss"]


def test_a_miss_that_comes_before_the_end_of_the_flapping_is_sent_is_one_message_with_it():
    town = Town(rate_limit_sec=0)
    town.flap("a", 4, 1, 1)
    town.run(1)
    town.router.set_channels([])
    town.run(900)
    town.router.set_channels(town.open)
    count = len(town.messages)
    town.down("a")
    town.run(5)
    assert [message.title for _, message, _ in town.messages[count:]] == ["a has settled"]
    town.up("a")
    town.run(5)
    opened = {message.thread for _, message, _ in town.messages if message.opens}
    assert opened == {thread for _, message, _ in town.messages for thread in message.closes}
