"""What the dispatcher must not forget comes back as it was."""

import pytest

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
    fields = dict.fromkeys(("d:read:a", "d:asks", "d:broken", "d:pauses", "d:addresses"), raw)
    assert state.restore(fields) == list(fields)
    assert (state.broken, state.read_positions) == ({}, {})


@pytest.mark.parametrize("pause", [b"{}", b"[]", b"[1]", b'["1", 2]', b"[1, null]", b"[true, 1.0]", b"7"])
def test_a_pause_that_is_none_is_passed_over(pause):
    state = NotifierState()
    state.restore({"d:pauses": b'{"slack":' + pause + b"}"})
    assert state.channels() == set()
