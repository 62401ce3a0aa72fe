"""Whether traces are on, and the ids of traces."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from marketswarm.event import Event, Kind, encode_event, make_event_id
from marketswarm.exit import Exit
from marketswarm.settings import read_settings
from marketswarm.settings.programs import TracingSettings
from marketswarm.tracing import open_tracer, read_event_ids
from marketswarm.tracing.endpoint import find_endpoint
from marketswarm.tracing.tracer import (
    MAX_EVENTS,
    compute_first_span_id,
    compute_trace_id,
    show_endpoint,
)

HOST = "http://collector:4318"


def settings(**values):
    return TracingSettings(**values)


def test_ids_are_the_same_in_every_process_and_release():
    """They are what healer and notifier of two releases agree on: no change without a reason."""
    ident = make_event_id(Kind.HEARTBEAT_MISS, "rss_agg", 1762433458.3)
    assert f"{compute_trace_id(ident):032x}" == "cd345e5baadb73d4a0c7bc5b9f76de5b"
    assert f"{compute_first_span_id(ident):016x}" == "03e8d0c281efe205"


@given(st.text(), st.text())
def test_any_event_has_ids_of_its_own_that_the_specification_allows(one, other):
    for key in (one, other):
        assert 0 < compute_trace_id(key) < 1 << 128
        assert 0 < compute_first_span_id(key) < 1 << 64
    assert (compute_trace_id(one) == compute_trace_id(other)) == (one == other)


@pytest.mark.parametrize(
    ("values", "endpoint"),
    [
        ({}, None),
        ({"otel_exporter_otlp_endpoint": HOST}, f"{HOST}/v1/traces"),
        ({"otel_exporter_otlp_endpoint": f"{HOST}/otlp/"}, f"{HOST}/otlp/v1/traces"),
        ({"otel_exporter_otlp_traces_endpoint": f"{HOST}/mine"}, f"{HOST}/mine"),
        (
            {"otel_exporter_otlp_endpoint": HOST, "otel_exporter_otlp_traces_endpoint": f"{HOST}/mine"},
            f"{HOST}/mine",
        ),
        ({"otel_exporter_otlp_endpoint": HOST, "otel_sdk_disabled": True}, None),
    ],
)
def test_traces_are_on_when_an_endpoint_is_named_and_the_sdk_is_not_disabled(values, endpoint):
    assert find_endpoint(settings(**values)) == endpoint


def test_a_secret_of_the_endpoint_is_not_shown_and_may_be_in_a_file(tmp_path, monkeypatch):
    path = tmp_path / "endpoint"
    path.write_text("https://kim:hunter2@collector/x\n")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT_FILE", str(path))
    found = read_settings(TracingSettings)
    assert found.otel_exporter_otlp_endpoint == "https://kim:hunter2@collector/x"
    assert "hunter2" not in repr(found)
    assert show_endpoint(found.otel_exporter_otlp_endpoint) == "collector"


def test_an_endpoint_that_is_no_url_ends_the_program_and_is_not_shown(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2:4317")
    with pytest.raises(Exit, match=r"^OTEL_EXPORTER_OTLP_ENDPOINT: must be http://host") as end:
        read_settings(TracingSettings)
    assert "hunter2" not in str(end.value)


def test_without_the_extra_one_warning_names_the_remedy_and_the_agent_goes_on(monkeypatch):
    monkeypatch.delitem(sys.modules, "marketswarm.tracing.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with capture_logs() as logged:
        assert open_tracer("healer", "b00t", settings(otel_exporter_otlp_endpoint=HOST)) is None
    [line] = logged
    assert (line["event"], line["log_level"]) == ("traces.unavailable", "warning")
    assert line["remedy"] == "pip install 'marketswarm[otel]'"
    assert line["missing"] == "opentelemetry.sdk.trace"


def loaded_modules(code, **env):
    """What is loaded of OpenTelemetry in a program that has run the code."""
    code += (
        "\nimport sys; print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert ended.stderr == ""
    return ended.stdout.strip()


AGENTS = """
import healer.watch, notifier.app, sentinel.watch
from marketswarm.settings.programs import TracingSettings
from marketswarm.tracing import open_tracer
assert open_tracer("healer", "b00t", TracingSettings()) is None
"""


def test_while_traces_are_off_nothing_is_logged_and_nothing_imported():
    assert loaded_modules(AGENTS) == "[]"


def test_a_service_that_uses_opentelemetry_has_it_in_redis_too():
    check = "import redis.observability.providers as p; assert p.OTEL_AVAILABLE"
    assert loaded_modules(f"import opentelemetry, marketswarm.bus\n{check}") != "[]"
    assert loaded_modules(f"import marketswarm.bus\n{check}", OTEL_SERVICE_NAME="mine") != "[]"


def test_ids_are_read_from_events_once_each_and_what_is_no_event_is_skipped():
    events = [
        encode_event(Event(Kind.HEARTBEAT_MISS, "a", 1.0, ident, "healer")) for ident in ("x", "y", "x")
    ]
    assert read_event_ids([*events, b"{}", b"\xff", b"x" * 20_000]) == ["x", "y"]
    many = [encode_event(Event(Kind.HEARTBEAT_MISS, "a", 1.0, f"e{n}", "healer")) for n in range(500)]
    assert read_event_ids(many) == [f"e{n}" for n in range(MAX_EVENTS)]
