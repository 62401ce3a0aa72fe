"""The step of a published event in its trace."""

import time
from typing import Final

from marketswarm.event import Event, parse_event
from marketswarm.tracing import Tracer, TraceStep

ATTRIBUTES: Final = ("late_sec", "timeout_sec", "down_sec", "gap_sec", "reason")
"""The fields of an event that its span has as `marketswarm.event.<name>`."""


def record_publication(tracer: Tracer, publisher: str, bus: str, raw_event: bytes, *, is_home: bool) -> None:
    """Record that a bus took an event just now, unless too many are waiting."""
    if tracer.has_room():
        step = make_publication_step(publisher, bus, raw_event, time.time(), is_home=is_home)
        if step is not None:
            tracer.record(step)


def make_publication_step(
    publisher: str, bus: str, raw_event: bytes, now: float, *, is_home: bool
) -> TraceStep | None:
    """Return the step from the time of an event until the bus took it; None for what is not an event.

    Args:
        is_home: whether this is the bus of the alerts, where the trace begins.
    """
    event = parse_event(raw_event)
    if not isinstance(event, Event):
        return None
    found = {f"marketswarm.event.{name}": getattr(event, name) for name in ATTRIBUTES}
    return TraceStep(
        name=f"{publisher}.publish",
        trace_keys=(event.id,),
        started_at=event.ts,
        ended_at=now,
        attributes={
            "marketswarm.event.id": event.id,
            "marketswarm.event.type": event.type.value,
            "marketswarm.service": event.svc,
            "marketswarm.bus": bus,
            **found,
        },
        role="producer",
        is_first=is_home,
    )
