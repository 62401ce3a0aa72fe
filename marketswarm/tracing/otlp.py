"""Export steps to a collector by OTLP over HTTP. No other module imports the packages of the extra `otel`.

A step becomes a span in the caller's thread. The SDK's own thread sends the spans, and what does not fit its
queue is dropped. A collector that fails costs one log line, and another one when it takes spans again.
"""

import base64
import logging
import threading
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.util.re import parse_env_headers

from marketswarm import __version__
from marketswarm import log as logs
from marketswarm.tracing.tracer import TraceStep, compute_first_span_id, compute_trace_id, show_endpoint

CLOSE_WITHIN_SEC: Final = 1.0
"""How long the spans that are left may take at the end of the process, in seconds."""
MAX_TEXT_CHARS: Final = 200
"""The longest text of an attribute."""
MAX_REASON_CHARS: Final = 300
"""The longest reason of a failed export, because the library puts the cause at the end of a long sentence."""
BURST: Final = 2000
STEPS_PER_SEC: Final = 200.0
"""How many steps are recorded at once, and per second after that: no verdict must wait for others' traces."""
DROPPED_EVERY_SEC: Final = 60.0
LIBRARY_LOGGER: Final = "opentelemetry"
MAX_LIBRARY_MESSAGES: Final = 20
"""How many different messages of the library are logged in the life of a process."""

log = logs.get("traces")


class OtlpTracer:
    """Exports the steps of one process.

    Args:
        endpoint: the URL that spans are POSTed to; a user and a password in it become a header.
        headers: further headers, as OTEL_EXPORTER_OTLP_HEADERS has them.
    """

    def __init__(self, endpoint: str, name: str, boot: str, headers: str = "") -> None:
        messages = _LibraryMessages()
        library = logging.getLogger(LIBRARY_LOGGER)
        library.handlers, library.propagate = [messages], False
        url, credentials = split_credentials(endpoint)
        self._where = show_endpoint(url)
        sent = OTLPSpanExporter(
            endpoint=url, headers={**credentials, **parse_env_headers(headers, liberal=True)}
        )
        self._exporter = _ReportingExporter(sent, self._where, messages)
        self._ids = _ChosenIds()
        self._provider = TracerProvider(
            resource=_make_resource(name, boot), id_generator=self._ids, shutdown_on_exit=False
        )
        self._processor = BatchSpanProcessor(self._exporter)
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("marketswarm", __version__)
        self._budget = _Budget()

    def has_room(self) -> bool:
        return self._budget.check(time.monotonic())

    def record(self, step: TraceStep) -> None:
        """Record a step as a span, which uses up some of the budget; leave it out if that is used up."""
        if not step.trace_keys or not self._budget.check(time.monotonic()):
            return
        self._budget.take()
        first, *others = step.trace_keys
        trace_id = self._ids.trace_id = compute_trace_id(first)
        self._ids.span_id = compute_first_span_id(first) if step.is_first else None
        parent = Context()
        if not step.is_first:
            remote_span = trace.NonRecordingSpan(self._make_context(trace_id, first, step.name))
            parent = trace.set_span_in_context(remote_span, parent)
        span = self._tracer.start_span(
            step.name,
            context=parent,
            kind=trace.SpanKind[step.role.upper()],
            attributes={key: _bound(value) for key, value in step.attributes.items() if value is not None},
            links=[trace.Link(self._make_context(compute_trace_id(key), key, step.name)) for key in others],
            start_time=_to_ns(min(step.started_at, step.ended_at)),
        )
        if step.error is not None:
            span.set_status(trace.StatusCode.ERROR, step.error[:MAX_TEXT_CHARS])
        span.end(_to_ns(step.ended_at))

    def close(self) -> None:
        """Export what is left, within CLOSE_WITHIN_SEC; log that it does not suffice."""
        ending = threading.Thread(target=self._processor.shutdown, name="traces end", daemon=True)
        ending.start()
        ending.join(CLOSE_WITHIN_SEC)
        if ending.is_alive():
            log.warning("traces.unsent", where=self._where, within_sec=CLOSE_WITHIN_SEC)
            self._exporter.shutdown()  # ends the wait between two attempts

    def _make_context(self, trace_id: int, key: str, name: str) -> trace.SpanContext:
        """Return the first span of an event's trace as another process records it, sampled by its id."""
        decision = self._provider.sampler.should_sample(None, trace_id, name).decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
        return trace.SpanContext(trace_id, compute_first_span_id(key), is_remote=True, trace_flags=flags)


def split_credentials(endpoint: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its user and password, which no message can show then, and their header."""
    parts = urlsplit(endpoint)
    userinfo, has_userinfo, host = parts.netloc.rpartition("@")
    if not has_userinfo:
        return endpoint, {}
    user, _, password = userinfo.partition(":")
    encoded = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return urlunsplit(parts._replace(netloc=host)), {"authorization": f"Basic {encoded}"}


def _make_resource(name: str, boot: str) -> Resource:
    ours = {
        "service.name": name,
        "service.namespace": "marketswarm",
        "service.instance.id": boot,
        "service.version": __version__,
    }
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence
    return Resource.create(ours).merge(OTELResourceDetector().detect())


def _bound(value: str | float) -> str | int | float | bool:
    """Cut a text to MAX_TEXT_CHARS, and replace lone surrogates in it."""
    if not isinstance(value, str):
        return value
    return value[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode()


def _to_ns(epoch_sec: float) -> int:
    return int(epoch_sec * 1e9)


class _ChosenIds(IdGenerator):
    """An id generator that returns the ids that were chosen for the next span. It is used in one thread."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id: int | None = None
        """The id of the next span; None for a random one."""
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self._random.generate_span_id() if self.span_id is None else self.span_id


class _Budget:
    """Limits how many steps are recorded: BURST at once, and STEPS_PER_SEC after that."""

    def __init__(self) -> None:
        self._left, self._at = float(BURST), float("-inf")
        self._dropped, self._logged_at = 0, float("-inf")

    def take(self) -> None:
        self._left -= 1.0

    def check(self, now: float) -> bool:
        """Return True if a step may be recorded at `now` (monotonic); otherwise count it, and log that."""
        self._left = min(float(BURST), self._left + (now - self._at) * STEPS_PER_SEC)
        self._at = now
        if self._left >= 1.0:
            return True
        self._dropped += 1
        if now - self._logged_at >= DROPPED_EVERY_SEC:
            self._logged_at = now
            log.warning("traces.dropped", count=self._dropped, per_sec=STEPS_PER_SEC)
        return False


class _LibraryMessages(logging.Handler):
    """Takes the log records of the library: those of an export give its reason, others are logged once each.

    Of the others only the pattern is logged, because their values may be secret, such as those of a header.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason = ""
        """The first message from an export, which names the cause; later ones say that it was given up."""
        self._logged: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        pattern = str(record.msg)
        if threading.current_thread() is not threading.main_thread():
            try:
                self.reason = self.reason or record.getMessage()[:MAX_REASON_CHARS]
            except Exception:  # noqa: BLE001 - a library's wrong format string must not end us
                self.reason = self.reason or pattern[:MAX_REASON_CHARS]
        elif pattern not in self._logged and len(self._logged) < MAX_LIBRARY_MESSAGES:
            self._logged.add(pattern)
            log.warning("traces.message", source=record.name, message=pattern[:MAX_TEXT_CHARS])


class _ReportingExporter(SpanExporter):
    """Exports by another exporter, and logs when exports begin to fail, and when they succeed again.

    `where` is the collector's host and port; `messages` has the reason of a failure.
    """

    def __init__(self, exporter: SpanExporter, where: str, messages: _LibraryMessages) -> None:
        self._exporter, self._where, self._messages = exporter, where, messages
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._messages.reason = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever a library does, the next spans are sent
            result, self._messages.reason = SpanExportResult.FAILURE, type(error).__name__
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("traces.resumed", where=self._where, lost=self._lost)
            self._lost = 0
        else:
            if not self._lost:
                log.warning("traces.failed", where=self._where, reason=self._messages.reason or "unknown")
            self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
