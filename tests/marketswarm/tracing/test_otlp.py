"""Spans as a collector gets them, and what the log says of a collector."""

import base64
import logging
import time
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from marketswarm.tracing import TraceStep, otlp
from marketswarm.tracing.otlp import OtlpTracer, split_credentials
from marketswarm.tracing.tracer import compute_first_span_id, compute_trace_id
from support.fixtures import opened
from support.rig.collector import PATH, Collector
from support.waiting import until

FIRST = TraceStep("healer.publish", ("one",), 10.0, 11.0, {"marketswarm.service": "a"}, is_first=True)
NEXT = TraceStep("notifier.deliver", ("one", "two", "three"), 12.0, 13.0)

collector = opened(Collector)


@pytest.fixture(autouse=True)
def library_logger(monkeypatch):
    """The library's logger, as it was before."""
    library = logging.getLogger(otlp.LIBRARY_LOGGER)
    monkeypatch.setattr(library, "handlers", [])
    monkeypatch.setattr(library, "propagate", True)


@pytest.fixture(autouse=True)
def time_to_close(monkeypatch):
    """Have each tracer export all that is left, on however slow a machine."""
    monkeypatch.setattr(otlp, "CLOSE_WITHIN_SEC", 15.0)


def exported(collector, *steps, **settings):
    """The spans of some steps, once the tracer has closed."""
    with closing(OtlpTracer(f"{collector.endpoint}{PATH}", "healer", "b00t", **settings)) as tracer:
        for step in steps:
            tracer.record(step)
    return collector.spans


def test_steps_of_two_processes_are_spans_of_one_trace(collector):
    [first] = exported(collector, FIRST)
    [_, after] = exported(collector, NEXT)  # by another tracer
    assert first.trace_id == after.trace_id == f"{compute_trace_id('one'):032x}"
    assert after.parent_id == first.span_id == f"{compute_first_span_id('one'):016x}"
    assert (first.parent_id, after.span_id != first.span_id) == ("", True)
    assert after.links == tuple(f"{compute_trace_id(key):032x}" for key in ("two", "three"))
    assert (first.started_at, first.ended_at) == (10.0, 11.0)
    assert (first.agent, first.resource["service.instance.id"]) == ("healer", "b00t")


def test_a_failed_step_says_so_and_texts_are_bounded(collector):
    step = TraceStep("x", ("one",), 2.0, 1.0, {"a": "x" * 5000, "b": "\ud800", "c": None}, error="5" * 5000)
    [span] = exported(collector, step)
    assert (span.failed, len(span.why), len(span.attributes["a"])) == (True, 200, 200)
    assert span.attributes["b"] == "?"
    assert "c" not in span.attributes
    assert span.started_at == span.ended_at == 1.0, "a clock that was set back gives no negative time"


@pytest.mark.parametrize("ratio", ["0.0", "0.5", "1.0"])
def test_a_sampler_decides_alike_about_all_spans_of_a_trace(collector, monkeypatch, ratio):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    keys = [f"event {n}" for n in range(100)]
    exported(collector, *(TraceStep("first", (key,), 1.0, 2.0, is_first=True) for key in keys))
    found = exported(collector, *(TraceStep("next", (key,), 1.0, 2.0) for key in keys))
    traces = {name: {each.trace_id for each in found if each.name == name} for name in ("first", "next")}
    assert traces["first"] == traces["next"]
    assert {"0.0": 0, "1.0": 100}.get(ratio, len(traces["first"])) == len(traces["first"])
    assert ratio != "0.5" or 20 < len(traces["first"]) < 80


def test_a_step_costs_little_and_a_flood_of_them_is_dropped_and_reported_once(collector):
    with capture_logs() as logged:
        began = time.process_time()
        spans = exported(collector, *[NEXT] * 5 * otlp.BURST)
        took = time.process_time() - began
    assert otlp.BURST <= len(spans) < 2 * otlp.BURST
    [line] = [each for each in logged if each["event"] == "traces.dropped"]
    assert line["log_level"] == "warning"
    assert took < 10


def test_headers_and_credentials_reach_the_collector_and_no_log(collector):
    url = collector.endpoint.replace("http://", "http://kim:hunt%40er2@")
    with capture_logs() as logged, closing(
        OtlpTracer(f"{url}{PATH}", "healer", "b00t", headers="x-team=blue,hunter3")
    ) as tracer:  # fmt: skip
        tracer.record(FIRST)
    [request] = collector.seen
    assert request.headers["x-team"] == "blue"
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"kim:hunt@er2"
    assert "hunt" not in str(logged)
    assert [each["event"] for each in logged] == ["traces.message"], "a header that is malformed"


def test_the_credentials_of_a_url_are_taken_out_of_it():
    url, headers = split_credentials("https://kim:a%3Ab@collector:4318/v1/traces?x=1")
    assert url == "https://collector:4318/v1/traces?x=1"
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"kim:a:b"


def test_a_url_without_credentials_stays_as_it_is():
    assert split_credentials("http://collector:4318/v1/traces") == ("http://collector:4318/v1/traces", {})


def test_an_outage_is_two_lines_however_many_exports_fail(collector, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    collector.always = 400
    with capture_logs() as logged, closing(
        OtlpTracer(f"{collector.endpoint}{PATH}", "healer", "b00t")
    ) as tracer:  # fmt: skip
        for n in range(1, 5):
            tracer.record(FIRST)
            until(lambda n=n: len(collector.seen) >= n, what="an export")
        collector.always = 200
        tracer.record(FIRST)
        until(lambda: collector.spans, what="an export that is taken")
    assert [each["event"] for each in logged] == ["traces.failed", "traces.resumed"]
    failed, resumed = logged
    assert failed["where"] == resumed["where"] == collector.endpoint.removeprefix("http://")
    assert "400" in failed["reason"]
    assert resumed["lost"] == 4
