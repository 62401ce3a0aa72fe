"""Find the collector that the settings name, and open the tracer that exports to it."""

from typing import Final

from marketswarm import log as logs
from marketswarm.settings.programs import TracingSettings
from marketswarm.tracing.tracer import Tracer, show_endpoint

TRACES_PATH: Final = "v1/traces"
"""The path that is added to OTEL_EXPORTER_OTLP_ENDPOINT, as the specification of OTLP says."""
REMEDY: Final = "pip install 'marketswarm[otel]'"

log = logs.get("traces")


def open_tracer(name: str, boot: str, settings: TracingSettings) -> Tracer | None:
    """Return a tracer that exports to the collector that the settings name; None if traces are off.

    If a collector is named and the extra `otel` is not installed, log that once.
    """
    endpoint = find_endpoint(settings)
    if endpoint is None:
        return None
    try:
        from marketswarm.tracing.otlp import OtlpTracer  # noqa: PLC0415 - takes memory and time to import
    except ImportError as error:
        log.warning("traces.unavailable", missing=error.name, remedy=REMEDY)
        return None
    headers = settings.otel_exporter_otlp_headers
    log.info("traces.on", where=show_endpoint(endpoint))
    return OtlpTracer(endpoint, name, boot, headers=headers.get_secret_value() if headers else "")


def find_endpoint(settings: TracingSettings) -> str | None:
    """Return the URL that spans are POSTed to, or None if the settings name none or turn traces off."""
    if settings.otel_sdk_disabled:
        return None
    if settings.otel_exporter_otlp_traces_endpoint:
        return settings.otel_exporter_otlp_traces_endpoint
    base = settings.otel_exporter_otlp_endpoint
    return f"{base.rstrip('/')}/{TRACES_PATH}" if base else None
