"""Record the way of each alert as a trace, for a collector of OpenTelemetry.

Parts of the tree record steps by a `Tracer`, and `otlp` exports them. `otlp` imports the packages of the
extra `otel`, so it is imported only while traces are on.

Enters: steps with the ids of their events.
Leaves: spans by OTLP over HTTP, or nothing.
Never: an alert that waits for a collector, or is lost with it.
"""

from marketswarm.tracing.endpoint import open_tracer
from marketswarm.tracing.tracer import Tracer, TraceStep, read_event_ids

__all__ = ["TraceStep", "Tracer", "open_tracer", "read_event_ids"]
