"""Messages that are too long for anything that is listened to: skipped, and the session goes on."""

import pytest

from marketswarm.bus.parser import UnfinishedMessage, find_unfinished


def message(channel: bytes, payload: bytes) -> bytes:
    head = b"*3\r\n$7\r\nmessage\r\n"
    return head + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in (channel, payload))


HUGE = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$65000000\r\n"
FAKE = b"\r\n*3\r\n$7\r\nmessage\r\n$1\r\nb\r\n$99999999\r\n"


def test_the_message_that_is_not_whole_yet_is_found_behind_those_that_are():
    data = message(b"s0:heartbeat", b"one") + message(b"b", b"") + HUGE + b"xxx"
    assert find_unfinished(data) == UnfinishedMessage(b"a", 65_000_000, len(data) - 3)


def test_one_that_comes_by_a_pattern_is_found_too():
    whole = b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\na\r\n$3\r\none\r\n"
    begun = b"*4\r\n$8\r\npmessage\r\n$3\r\n*:b\r\n$3\r\nx:b\r\n$65000000\r\n"
    data = message(b"b", b"one") + whole + begun + b"xxx"
    assert find_unfinished(data) == UnfinishedMessage(b"x:b", 65_000_000, len(data) - 3, b"*:b")
    for cut in range(1, len(begun)):
        assert find_unfinished(whole + begun[:cut]) is None


def test_what_a_payload_imitates_is_no_message():
    data = message(b"b", FAKE) + HUGE + FAKE
    assert find_unfinished(data) == UnfinishedMessage(b"a", 65_000_000, len(data) - len(FAKE))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        message(b"a", b"whole"),
        HUGE[:-2],
        HUGE[:20],
        b"$5\r\nalpha\r\n" + HUGE,
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" + HUGE,
        b"-NOPERM this user has no permissions\r\n" + HUGE,
    ],
)
def test_where_it_can_not_be_told_nothing_is_found(data):
    assert find_unfinished(data) is None
