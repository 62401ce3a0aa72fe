"""The steps of a message, and what the worker of a channel records."""

import asyncio
from types import SimpleNamespace

import pytest

from marketswarm.channels import Failure, Message, MessageKind, Receipt, SendError, Severity
from marketswarm.event import Event, Kind, encode_event
from notifier.channel_worker import ChannelWorker
from notifier.delivery_step import make_delivery_step, make_wait_step

CHANNEL = SimpleNamespace(name="slack", where="hooks.slack.com", within_sec=1.0)


def message(*idents: str, kind: MessageKind = MessageKind.DOWN) -> Message:
    events = tuple(encode_event(Event(Kind.HEARTBEAT_MISS, "a", 5.0, each, "healer")) for each in idents)
    return Message("m", "a is down", "no beat", Severity.WARNING, 5.0, events=events, kind=kind)


def delivery(outcome, *idents: str):
    return make_delivery_step(
        CHANNEL, message(*idents), attempt=2, outcome=outcome, started_at=6.0, ended_at=7.0
    )


def test_a_receipt_is_an_accepted_attempt():
    step = delivery(Receipt("200"), "e1", "e2")
    assert (step.trace_keys, step.error, step.is_first) == (("e1", "e2"), None, False)
    assert (step.started_at, step.ended_at) == (6.0, 7.0)
    assert {key: value for key, value in step.attributes.items() if value is not None} == {
        "marketswarm.channel": "slack",
        "server.address": "hooks.slack.com",
        "marketswarm.message.id": "m",
        "marketswarm.message.kind": "down",
        "marketswarm.message.events": 2,
        "marketswarm.attempt": 2,
        "marketswarm.outcome": "accepted",
        "marketswarm.answer": "200",
    }


@pytest.mark.parametrize("failure", Failure)
def test_an_error_says_what_it_means_for_the_next_attempt(failure):
    step = delivery(SendError("503", failure), "e1")
    assert (step.error, step.attributes["error.type"]) == ("503", "503")
    assert step.attributes["marketswarm.outcome"] == failure


def test_a_message_without_events_has_a_trace_of_its_own():
    assert delivery(Receipt("200")).trace_keys == ("m",)


def test_the_wait_begins_with_the_event():
    step = make_wait_step(CHANNEL, message("e1"), 6.0)
    assert (step.name, step.started_at, step.ended_at) == ("notifier.wait", 5.0, 6.0)


class Records(list):
    """A tracer that keeps its steps."""

    def record(self, step):
        self.append(step)


async def test_a_worker_records_one_wait_and_every_attempt(moved_time):
    script = [
        SendError("503", retry_after_sec=0.0),
        SendError("timeout", retry_after_sec=0.0),
        Receipt("200"),
    ]
    sent, steps = asyncio.Event(), Records()

    async def send(_message, _anchor=None):
        outcome = script.pop(0)
        if isinstance(outcome, SendError):
            raise outcome
        return outcome

    def outcome(found):
        worker.wake()
        if found.receipt:
            sent.set()

    worker = ChannelWorker(
        SimpleNamespace(name="slack", where="hooks.slack.com", within_sec=1.0, send=send),
        anchor=lambda *_: None,
        outcome=outcome,
        retry_for_sec=lambda: 60.0,
        chance=lambda: 0.0,
        tracer=steps,
    )
    worker.put(message("e1"))
    task = asyncio.create_task(worker.run())
    async with asyncio.timeout(10):
        await sent.wait()
    worker.stop()
    await task
    assert [step.name for step in steps] == ["notifier.wait", *["notifier.deliver"] * 3]
    assert [step.attributes.get("marketswarm.attempt") for step in steps] == [None, 1, 2, 3]
    assert [step.error for step in steps] == [None, "503", "timeout", None]
