"""Log the outcome of an attempt to send a message, and make its steps for the traces of its events.

The steps are the wait before a message's first attempt on a channel, and each attempt.
"""

from collections.abc import Iterator
from typing import Final

from marketswarm import log as logs
from marketswarm.channels.worker import Outcome
from marketswarm.tracing import TraceStep, read_event_ids

WAIT: Final = "notifier.wait"
DELIVER: Final = "notifier.deliver"
ACCEPTED: Final = "accepted"
"""The outcome of an attempt that the receiver accepted; of others it is the `Failure`."""

log = logs.get("deliver")


def log_outcome(outcome: Outcome) -> None:
    message, error = outcome.message, outcome.error
    about = {
        "channel": outcome.channel,
        "where": outcome.where,
        "id": message.id,
        "what": message.kind,
        "waiting": outcome.waiting,
    }
    if outcome.receipt is not None:
        log.info("message.sent", answer=outcome.receipt.answer, events=len(message.events), **about)
    elif error is not None and outcome.final:
        log.error("message.refused", reason=error.reason, **about)
    elif error is not None:
        log.warning("message.failed", reason=error.reason, again_in_sec=round(outcome.again_sec, 1), **about)


def make_steps(outcome: Outcome) -> Iterator[TraceStep]:
    """Yield the wait, from what a message is about until its first attempt, and the attempt.

    For a message that was given up without an attempt, yield nothing.
    """
    message, receipt, error = outcome.message, outcome.receipt, outcome.error
    trace_keys = tuple(read_event_ids(message.events)) or (message.id,)
    attributes: dict[str, str | int | None] = {
        "marketswarm.channel": outcome.channel,
        "server.address": outcome.where,
        "marketswarm.message.id": message.id,
        "marketswarm.message.kind": message.kind.value,
        "marketswarm.message.events": len(message.events),
    }
    if outcome.is_first:
        yield TraceStep(WAIT, trace_keys, message.timestamp, outcome.started_at, attributes)
    if outcome.attempt:
        attributes = attributes | {
            "marketswarm.attempt": outcome.attempt,
            "marketswarm.outcome": error.failure.value if error else ACCEPTED,
            "marketswarm.answer": receipt.answer if receipt else None,
            "error.type": error.reason if error else None,
        }
        yield TraceStep(
            DELIVER,
            trace_keys,
            outcome.started_at,
            outcome.at,
            attributes,
            role="client",
            error=error.reason if error else None,
        )
