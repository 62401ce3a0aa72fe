"""What the desk must not forget comes back as it was."""

import pytest

from notifier.state import ASKS_KEPT, Memo


def again(memo):
    other = Memo()
    fields = {name: value for name, value in memo.changes().items() if value is not None}
    return other, other.restore(fields)


def test_it_comes_back_as_it_was():
    memo = Memo()
    memo.read({"a": b"1-2"})
    memo.does("ask1")
    assert memo.breaks("slack", "404")
    assert not memo.breaks("slack", "410")
    other, read = again(memo)
    assert read == {"a": b"1-2"}
    assert other.did("ask1")
    assert not other.did("ask2")
    assert other.broken == {"slack": "410"}
    assert other.changes() == {}
    assert other.mends("slack")
    assert not other.mends("slack")
    assert again(other)[0].broken == {}


def test_a_pause_goes_on_where_it_was_and_no_longer_than_anyone_is_granted():
    memo = Memo()
    memo.pauses("slack", 3, 1000.0)
    memo.pauses("email", 1, 1e12)
    other, _ = again(memo)
    assert other.channels() == {"slack", "email"}
    assert other.pause("slack", 990.0) == (3, 10.0)
    assert other.pause("slack", 1010.0) == (3, 0.0)
    assert other.pause("email", 990.0) == (1, 3600.0)
    assert other.pause("teams", 990.0) == (0, 0.0)
    other.resumes("slack")
    other.resumes("slack")
    assert again(other)[0].channels() == {"email"}


def test_old_asks_go():
    memo = Memo()
    for n in range(ASKS_KEPT + 1):
        memo.does(str(n))
    assert not memo.did("0")
    assert memo.did("1")
    assert not again(memo)[0].did("0")


@pytest.mark.parametrize("raw", [b"", b"{", b"7", b"null", b'"x"', b"x-y", b"1-2-3"])
def test_nonsense_is_passed_over(raw):
    memo = Memo()
    assert memo.restore({"d:read:a": raw, "d:asks": raw, "d:broken": raw, "d:pauses": raw}) == {}
    assert memo.broken == {}


@pytest.mark.parametrize("pause", [b"{}", b"[]", b"[1]", b'["1", 2]', b"[1, null]", b"[true, 1.0]", b"7"])
def test_a_pause_that_is_none_is_passed_over(pause):
    memo = Memo()
    memo.restore({"d:pauses": b'{"slack":' + pause + b"}"})
    assert memo.channels() == set()
