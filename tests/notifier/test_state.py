"""What the dispatcher must not forget comes back as it was."""

import pytest

from marketswarm.status.channel_records import MAX_CHANNELS
from notifier.state import REQUESTS_KEPT, NotifierState


def again(state):
    other = NotifierState()
    fields = {name: value for name, value in state.changes().items() if value is not None}
    return other, other.restore(fields)


def test_it_comes_back_as_it_was():
    state = NotifierState()
    state.set_read_positions({"a": b"1-2"})
    state.mark_done("ask1")
    assert state.mark_broken("slack", "404")
    assert not state.mark_broken("slack", "410")
    other, unusable = again(state)
    assert unusable == []
    assert other.read_positions == {"a": b"1-2"}
    assert other.is_done("ask1")
    assert not other.is_done("ask2")
    assert other.broken == {"slack": "410"}
    assert other.changes() == {}
    assert other.mark_mended("slack")
    assert not other.mark_mended("slack")
    assert again(other)[0].broken == {}


def test_a_pause_goes_on_where_it_was_and_no_longer_than_anyone_is_granted():
    state = NotifierState()
    state.set_pause("slack", 3, 1000.0)
    state.set_pause("email", 1, 1e12)
    other, _ = again(state)
    assert other.channels() == {"slack", "email"}
    assert other.pause("slack", 990.0) == (3, 10.0)
    assert other.pause("slack", 1010.0) == (3, 0.0)
    assert other.pause("email", 990.0) == (1, 3600.0)
    assert other.pause("teams", 990.0) == (0, 0.0)
    other.clear_pause("slack")
    other.clear_pause("slack")
    assert again(other)[0].channels() == {"email"}


def test_what_each_channel_sent_and_failed_last_comes_back_and_is_forgotten_with_the_channel():
    state = NotifierState()
    state.record_attempt("slack", "a is down", 10.0, None, is_final=True)
    state.record_attempt("slack", "b" * 999, 20.0, "503", is_final=False)
    state.record_attempt("slack", "b" * 999, 30.0, "x" * 999, is_final=True)
    state.record_attempt("email", "a is down", 10.0, None, is_final=True)
    other, unusable = again(state)
    assert unusable == []
    assert other.records == state.records
    slack = other.records["slack"]
    assert (slack.sent, slack.failed, slack.refused) == (1, 1, 1)
    assert (slack.sent_at, slack.sent_title, slack.failed_at) == (10.0, "a is down", 30.0)
    assert (len(slack.failed_title), len(slack.reason)) == (200, 300)
    other.shift_times(-25.0)
    other.record_channels({"slack": "hooks.slack.com"})
    (slack,) = again(other)[0].records.values()
    assert (slack.sent_at, slack.failed_at) == (0.0, 5.0)
    other.shift_times(1e300)  # a clock that no one believes ends no notifier
    assert again(other)[1] == []


def test_no_more_channels_are_recorded_than_can_be_read_back():
    state = NotifierState()
    for number in range(MAX_CHANNELS + 5):
        state.record_attempt(str(number), "a", 1.0, None, is_final=True)
    other, unusable = again(state)
    assert (len(other.records), unusable) == (MAX_CHANNELS, [])


def test_old_asks_go():
    state = NotifierState()
    for n in range(REQUESTS_KEPT + 1):
        state.mark_done(str(n))
    assert not state.is_done("0")
    assert state.is_done("1")
    assert not again(state)[0].is_done("0")


@pytest.mark.parametrize("raw", [b"", b"{", b"7", b"null", b'"x"', b"x-y", b"1-2-3"])
def test_nonsense_is_passed_over(raw):
    state = NotifierState()
    names = ("d:read:a", "d:asks", "d:broken", "d:pauses", "d:addresses", "d:records")
    fields = dict.fromkeys(names, raw)
    assert state.restore(fields) == list(fields)
    assert (state.broken, state.read_positions) == ({}, {})


@pytest.mark.parametrize("pause", [b"{}", b"[]", b"[1]", b'["1", 2]', b"[1, null]", b"[true, 1.0]", b"7"])
def test_a_pause_that_is_none_is_passed_over(pause):
    state = NotifierState()
    state.restore({"d:pauses": b'{"slack":' + pause + b"}"})
    assert state.channels() == set()


def test_a_clock_that_is_set_makes_no_pause_longer_or_shorter():
    state = NotifierState()
    state.set_pause("slack", 3, 10_000.0)
    state.shift_times(-3600.0)
    for each in (state, again(state)[0]):
        assert each.pause("slack", 9_990.0 - 3600) == (3, 10.0)
