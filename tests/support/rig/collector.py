"""`Collector`: a receiver of OTLP over HTTP. It parses exports by OpenTelemetry's own definitions."""

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from support.rig.receiver import Receiver

PATH = "/v1/traces"
_ERROR = 2  # STATUS_CODE_ERROR


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived; ids are hex, times epoch seconds, `links` the traces that it names besides."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    started_at: float
    ended_at: float
    kind: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: tuple[str, ...]
    failed: bool
    why: str

    @property
    def agent(self) -> str:
        return str(self.resource["service.name"])


class Collector(Receiver):
    """`with Collector() as collector:`; what it answered with 200 is in `spans`."""

    @property
    def endpoint(self) -> str:
        """The value of OTEL_EXPORTER_OTLP_ENDPOINT."""
        return self.url.removesuffix("/hook/s3cret")

    @property
    def env(self) -> dict[str, str]:
        """The environment of an agent that exports here, quickly."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    @property
    def spans(self) -> list[ReceivedSpan]:
        accepted = [each for each in list(self.seen) if each.path == PATH and each.status == 200]
        return [span for each in accepted for span in parse_export(each.body)]

    def of_service(self, svc: str) -> list[ReceivedSpan]:
        """The spans of the traces that begin with an event about a service, by their start, roots first."""
        spans = self.spans
        traces = {each.trace_id for each in spans if each.attributes.get("marketswarm.service") == svc}
        found = [each for each in spans if each.trace_id in traces]
        return sorted(found, key=lambda each: (each.started_at, each.parent_id != ""))


def parse_export(body: bytes) -> list[ReceivedSpan]:
    """Return the spans of one export."""
    request = ExportTraceServiceRequest.FromString(body)
    return [
        ReceivedSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            started_at=span.start_time_unix_nano / 1e9,
            ended_at=span.end_time_unix_nano / 1e9,
            kind=span.kind,
            attributes=_values(span.attributes),
            resource=_values(group.resource.attributes),
            links=tuple(link.trace_id.hex() for link in span.links),
            failed=span.status.code == _ERROR,
            why=span.status.message,
        )
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def _values(pairs: Any) -> dict[str, Any]:
    """Return attributes as a dict."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
