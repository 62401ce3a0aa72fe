"""What operators ask of the notifier: which dead letters are sent again, and what is said of the others."""

import asyncio
from types import SimpleNamespace

import pytest

from marketswarm.bus import BusError
from marketswarm.channels import Message, Severity
from marketswarm.channels.message import encode_message
from marketswarm.operator.requests import ALL, Answer, RequestKind, create_request
from notifier.dispatcher import AnswerTracker
from notifier.inbox import ReceivedRequest
from notifier.requests import RESENT_AT_ONCE, RequestHandler
from notifier.state import NotifierState

NOW = 1_762_433_458.0


class DeadBus:
    """A bus with dead letters; one that is `stuck` answers, and deletes nothing."""

    def __init__(self, name, *idents, channel="one", ts=NOW - 60):
        self.name, self.is_away, self.is_stuck = name, False, False
        self.entries = [
            (
                b"1762433458000-%d" % n,
                {
                    b"message": encode_message(Message(ident, "t", "x", Severity.INFO, NOW)),
                    b"channel": channel.encode(),
                    b"ts": b"%.3f" % ts,
                },
            )
            for n, ident in enumerate(idents)
        ]
        self.client = SimpleNamespace(xrange=lambda _key, count: self.entries[:count])

    async def ask(self, entries, _within_sec):
        if self.is_away:
            raise BusError(self.name, "refused")
        return entries

    def delete(self, idents):
        if not self.is_stuck:
            self.entries = [each for each in self.entries if each[0] not in idents]


class Desk:
    """A handler of requests; what it had sent, over which channels, and what it answered."""

    def __init__(self, *buses, channels=("one", "two")):
        self.buses, self.sent = {bus.name: bus for bus in buses}, []
        self.answers, self.state = AnswerTracker(), NotifierState()
        workers = {
            name: SimpleNamespace(pause_left_sec=0.0, trouble=None, channel=SimpleNamespace(where=name))
            for name in channels
        }
        self.finish_request = lambda _received: None
        self.handler = RequestHandler(
            self, SimpleNamespace(workers=workers, retry_for_sec=3600.0), buses, lambda: NOW
        )

    def send_message(self, message, channels):
        self.sent.append((message.id, tuple(channels)))

    def delete_dead_letters(self, bus, entries):
        self.buses[bus].delete(entries)

    def resend(self, what=ALL):
        """Ask for it; return the answers that come at once, and what was sent."""
        request, before = create_request(RequestKind.RESEND, what, "kim", NOW), len(self.sent)
        asyncio.run(self.handler.handle(ReceivedRequest("system-redis", b"1-0", request)))
        lines = self.answers.take_answers().get(request.id, ())
        return [Answer.parse(line) for line in lines], self.sent[before:]


def idents(first, last):
    return [f"m{n}" for n in range(first, last)]


@pytest.mark.parametrize("count", [1, RESENT_AT_ONCE])
def test_as_many_as_are_sent_at_once_are_all_sent_and_nothing_is_said_to_be_left(count):
    desk = Desk(DeadBus("system-redis", *idents(0, count)))
    assert desk.resend() == ([], [(ident, ("one",)) for ident in idents(0, count)])
    (answer,), sent = desk.resend()
    assert (answer.ok, answer.said, answer.done, sent) == (True, "nothing is dead", True, [])


def test_of_more_the_oldest_are_sent_and_the_first_answer_says_how_many_are_left():
    count = 2 * RESENT_AT_ONCE + 50
    desk = Desk(DeadBus("system-redis", *idents(0, count)), DeadBus("market-redis", *idents(0, count)))
    for first, left in ((0, 150), (RESENT_AT_ONCE, 50)):
        (answer,), sent = desk.resend()
        assert [ident for ident, _ in sent] == idents(first, first + RESENT_AT_ONCE)
        assert (answer.left, answer.ok, answer.done) == (left, False, False)
        assert answer.said == f"100 of {left + 100} are sent now, {left} are left"
    answers, sent = desk.resend()
    assert (answers, [ident for ident, _ in sent]) == ([], idents(2 * RESENT_AT_ONCE, count))


def test_one_that_is_named_is_sent_wherever_it_lies():
    desk = Desk(DeadBus("system-redis", *idents(0, 300)))
    assert desk.resend("m299") == ([], [("m299", ("one",))])
    (answer,), sent = desk.resend("m299")
    assert (answer.ok, answer.said, sent) == (False, "nothing that is dead is called m299", [])


def test_a_dead_letter_goes_over_all_channels_where_its_own_is_not_open():
    desk = Desk(DeadBus("system-redis", "m1", channel="gone"))
    assert desk.resend() == ([], [("m1", ("one", "two"))])


def test_a_bus_that_can_not_be_read_at_first_has_no_dead_letter_sent_twice():
    slow, other = DeadBus("system-redis", *idents(0, 150)), DeadBus("market-redis", *idents(0, 150))
    slow.is_away = True
    desk = Desk(slow, other)
    assert [ident for ident, _ in desk.resend()[1]] == idents(0, 100)
    slow.is_away = False
    assert [ident for ident, _ in desk.resend()[1]] == idents(100, 150)
    assert desk.resend()[1] == []
    assert slow.entries == []
    for bus in (slow, other):
        bus.entries = DeadBus("", *idents(0, 151)).entries[150:]
        bus.entries += [(b"1762433459000-0", DeadBus("", "m7").entries[0][1])]  # refused once more
    assert [ident for ident, _ in desk.resend()[1]] == ["m150", "m7"]


@pytest.mark.parametrize("ts", [NOW + 1, float("nan")])
def test_what_was_refused_once_more_meanwhile_is_no_copy(ts):
    slow, other = DeadBus("system-redis", "m1"), DeadBus("market-redis", "m1")
    slow.is_away = True
    desk = Desk(slow, other)
    assert [ident for ident, _ in desk.resend()[1]] == ["m1"]
    slow.is_away, other.is_away = False, True
    slow.entries += [(b"1762433459000-0", DeadBus("", "m1", ts=ts).entries[0][1])]
    assert [ident for ident, _ in desk.resend()[1]] == ["m1"]
    assert slow.entries == []
    (answer,), sent = desk.resend()
    assert (answer.ok, answer.said, sent) == (False, "the dead letters of market-redis could not be read", [])


def test_a_bus_that_deletes_nothing_for_now_has_no_dead_letter_sent_twice():
    stuck, other = DeadBus("system-redis", *idents(0, 150)), DeadBus("market-redis", *idents(0, 150))
    stuck.is_stuck = True
    desk = Desk(stuck, other)
    desk.resend()
    stuck.is_away = True  # in between it is not even read
    assert desk.resend("nothing")[1] == []
    stuck.is_away = False
    assert [ident for ident, _ in desk.resend()[1]] == idents(100, 150)
    (answer,), sent = desk.resend()
    assert (answer.said, sent) == ("nothing is dead", [])
    stuck.is_stuck = False
    stuck.entries += DeadBus("", *idents(0, 151)).entries[150:]  # and what is refused anew is dead
    assert [ident for ident, _ in desk.resend()[1]] == ["m150"]
