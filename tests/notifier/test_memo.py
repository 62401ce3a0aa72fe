"""What the desk must not forget comes back as it was."""

import pytest

from notifier.memo import ASKS_KEPT, Memo


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
    assert memo.restore({"d:read:a": raw, "d:asks": raw, "d:broken": raw}) == {}
    assert memo.broken == {}
