"""Who asked hears of each channel once, and knows which line is the last."""

from marketswarm.attention import Answer
from marketswarm.channels import Failure, Message, Receipt, SendError, Severity
from notifier.answering import Answering
from notifier.deliver import Outcome


def outcome(channel, ident="m1", error=None, *, over=True):
    receipt = None if error else Receipt("200 ok")
    return Outcome(channel, "host", Message(ident, "t", "x", Severity.INFO, 1.0), 1.0, receipt, error, over)


def said(answering, ask="a"):
    found = [Answer.parse(raw) for raw in answering.lines().get(ask, ())]
    return [(each.channel, each.ok, each.said, each.done) for each in found]


def test_each_channel_is_answered_for_once_and_the_last_line_says_that_it_is():
    answering = Answering()
    for channel in ("one", "two"):
        answering.expect("a", "m1", channel)
    answering.came(outcome("two", error=SendError("500"), over=False))
    answering.came(outcome("two"))
    answering.came(outcome("one", ident="m2"))
    assert said(answering) == [("two", False, "500; it will be tried again", False)]
    answering.came(outcome("one"))
    assert said(answering) == [("one", True, "200 ok", True)]
    answering.came(outcome("one"))
    assert answering.lines() == {}


def test_a_channel_that_pauses_keeps_nobody_waiting():
    answering = Answering()
    answering.expect("a", "m1", "one")
    answering.put_off("a", "m1", "one", "host", "one: 500; it waits for 60 s more")
    assert said(answering) == [("one", False, "one: 500; it waits for 60 s more", True)]
    answering.came(outcome("one"))
    assert answering.lines() == {}


def test_what_needs_no_channel_is_answered_at_once():
    answering = Answering()
    answering.say("a", ok=True, said="x" * 2000)
    assert said(answering) == [("", True, "x" * 1000, True)]


def test_what_a_channel_refuses_for_good_is_said_as_it_is():
    answering = Answering()
    answering.expect("a", "m1", "one")
    answering.came(outcome("one", error=SendError("404", Failure.BROKEN)))
    assert said(answering) == [("one", False, "404", True)]
