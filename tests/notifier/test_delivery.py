"""The steps of a message, and what the worker of a channel records."""

import asyncio
from types import SimpleNamespace

import pytest

from marketswarm.channels import Failure, Message, MessageKind, Receipt, SendError, Severity
from marketswarm.channels.worker import ChannelWorker, Outcome
from marketswarm.event import Event, Kind, encode_event
from notifier.delivery import make_steps


def message(*idents: str, kind: MessageKind = MessageKind.DOWN) -> Message:
    events = tuple(encode_event(Event(Kind.HEARTBEAT_MISS, "a", 5.0, each, "healer")) for each in idents)
    return Message("m", "a is down", "no beat", Severity.WARNING, 5.0, events=events, kind=kind)


def outcome(found, *idents: str, **more):
    receipt, error = (found, None) if isinstance(found, Receipt) else (None, found)
    facts = {"attempt": 2, "started_at": 6.0, **more}
    return Outcome("slack", "hooks.slack.com", message(*idents), 7.0, receipt, error, **facts)


def delivery(found, *idents: str):
    [step] = make_steps(outcome(found, *idents))
    return step


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
    step, _ = make_steps(outcome(Receipt("200"), "e1", attempt=1, is_first=True))
    assert (step.name, step.started_at, step.ended_at) == ("notifier.wait", 5.0, 6.0)


async def test_a_worker_records_one_wait_and_every_attempt(moved_time):
    script = [
        SendError("503", retry_after_sec=0.0),
        SendError("timeout", retry_after_sec=0.0),
        Receipt("200"),
    ]
    sent, steps = asyncio.Event(), []

    async def send(_message, _anchor=None):
        outcome = script.pop(0)
        if isinstance(outcome, SendError):
            raise outcome
        return outcome

    def record(found):
        steps.extend(make_steps(found))
        worker.wake()
        if found.receipt:
            sent.set()

    worker = ChannelWorker(
        SimpleNamespace(name="slack", where="hooks.slack.com", within_sec=1.0, send=send),
        anchor=lambda *_: None,
        outcome=record,
        retry_for_sec=lambda: 60.0,
        chance=lambda: 0.0,
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
