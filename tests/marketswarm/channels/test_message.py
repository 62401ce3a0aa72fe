"""A message comes back as it was kept, and nonsense comes back as nothing."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as some

from marketswarm.channels import AlertState, Message, MessageKind, Severity
from marketswarm.channels.message import Style, choose_style, encode_message, parse_message
from support.channel_messages import MISS, OK

texts = some.text(some.characters(codec="utf-8"))
states = some.builds(
    AlertState,
    name=texts,
    svc=texts,
    thread=texts,
    severity=some.sampled_from(Severity),
    started_at=some.floats(0, 1e11),
    ended_at=some.none() | some.floats(0, 1e11),
    title=texts,
    text=texts,
)
messages = some.builds(
    Message,
    id=some.text(some.characters(codec="utf-8"), min_size=1),
    title=texts,
    text=texts,
    severity=some.sampled_from(Severity),
    timestamp=some.floats(0, 1e11),
    late=some.booleans(),
    events=some.lists(texts.map(lambda text: orjson.dumps({"svc": text})), max_size=3).map(tuple),
    kind=some.sampled_from(MessageKind),
    lines=some.lists(texts, max_size=3).map(tuple),
    thread=texts,
    opens=some.booleans(),
    closes=some.lists(texts, max_size=3).map(tuple),
    states=some.lists(states, max_size=3).map(tuple),
    lasting=some.lists(states, max_size=3).map(tuple),
)


@given(messages)
def test_a_message_comes_back_as_it_was(message):
    assert parse_message(encode_message(message)) == message


def test_the_bytes_of_an_event_are_kept_as_the_log_had_them():
    event = b'{"type": "heartbeat_miss",  "svc":"\\u00e4", "ts":1.0e3}'
    message = Message("a", "t", "x", Severity.INFO, 1.0, events=(event,))
    assert getattr(parse_message(encode_message(message)), "events", None) == (event,)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"null", b"{}", b'{"id":"a"}', b'{"id":"","title":"t","timestamp":1}',
            b'{"id":"a","title":"t","timestamp":"x"}', b'{"id":"a","title":"t","timestamp":1,"lines":1}'],
)  # fmt: skip
def test_what_is_no_message_is_none(raw):
    assert parse_message(raw) is None


def test_states_that_can_not_be_read_are_left_out_and_the_message_stays():
    for states in ("x", [5], [{"name": "a"}], {"a": 1}):
        raw = orjson.dumps({"id": "a", "title": "t", "timestamp": 1, "states": states})
        assert parse_message(raw) == Message("a", "t", "", Severity.WARNING, 1.0)


def test_what_a_newer_writer_says_is_taken_for_the_nearest_known():
    raw = b'{"id":"a","title":"t","timestamp":1,"severity":"doom","what":"party","more":1}'
    assert parse_message(raw) == Message("a", "t", "", Severity.WARNING, 1.0)


@pytest.mark.parametrize(
    ("severity", "look"),
    [(Severity.INFO, Style.NEWS), (Severity.WARNING, Style.WARNING), (Severity.CRITICAL, Style.ALARM)],
)
def test_what_is_down_looks_as_much_as_it_matters(severity, look):
    for what in (
        MessageKind.DOWN,
        MessageKind.GROUP,
        MessageKind.REMINDER,
        MessageKind.FLAPPING,
        MessageKind.NOTE,
        MessageKind.TEST,
    ):
        assert choose_style(replace(MISS, kind=what, severity=severity)) is look
    for what in (MessageKind.UP, MessageKind.SETTLED):
        assert choose_style(replace(OK, kind=what, severity=severity)) is Style.GOOD


def test_no_two_looks_are_told_apart_by_colour_alone():
    assert len({look.sign for look in Style}) == len({look.colour for look in Style}) == len(Style)
