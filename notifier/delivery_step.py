"""Make the steps of a message for the traces of its events. Pure.

They are the wait before its first attempt on a channel, and each attempt.
"""

from typing import Final

from marketswarm.channels import Channel, Message, Receipt, SendError
from marketswarm.tracing import TraceStep, read_event_ids

WAIT: Final = "notifier.wait"
DELIVER: Final = "notifier.deliver"
ACCEPTED: Final = "accepted"
"""The outcome of an attempt that the receiver accepted; of others it is the `Failure`."""


def make_wait_step(channel: Channel, message: Message, started_at: float) -> TraceStep:
    """Return the step from what a message is about until its first attempt on a channel, at `started_at`."""
    return TraceStep(
        name=WAIT,
        trace_keys=_trace_keys(message),
        started_at=message.timestamp,
        ended_at=started_at,
        attributes=_describe(channel, message),
    )


def make_delivery_step(
    channel: Channel,
    message: Message,
    *,
    attempt: int,
    outcome: Receipt | SendError,
    started_at: float,
    ended_at: float,
) -> TraceStep:
    """Return the step of one attempt to send a message, counted from 1; times are epoch seconds."""
    error = outcome if isinstance(outcome, SendError) else None
    return TraceStep(
        name=DELIVER,
        trace_keys=_trace_keys(message),
        started_at=started_at,
        ended_at=ended_at,
        attributes={
            **_describe(channel, message),
            "marketswarm.attempt": attempt,
            "marketswarm.outcome": error.failure.value if error else ACCEPTED,
            "marketswarm.answer": outcome.answer if isinstance(outcome, Receipt) else None,
            "error.type": error.reason if error else None,
        },
        role="client",
        error=error.reason if error else None,
    )


def _trace_keys(message: Message) -> tuple[str, ...]:
    return tuple(read_event_ids(message.events)) or (message.id,)


def _describe(channel: Channel, message: Message) -> dict[str, str | int]:
    return {
        "marketswarm.channel": channel.name,
        "server.address": channel.where,
        "marketswarm.message.id": message.id,
        "marketswarm.message.kind": message.kind.value,
        "marketswarm.message.events": len(message.events),
    }
