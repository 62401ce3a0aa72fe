"""What a result looks like on the bus."""

import orjson

from services.massive.probes.result import ProbeFinding, ProbeResult

ILL = ProbeFinding("b", 5.0, ProbeResult("tcp", "h:2", "tcp", "refused", ms={"dns": 1.5, "tcp": 0.25}))
WELL = ProbeFinding(
    "a",
    5.0,
    ProbeResult(
        "tls", "h:1", warning="ends_soon", ms={"tls": 2.0}, facts={"days_left": 6.2, "address": "::1"}
    ),
)


def test_a_result_is_flat_on_the_stream():
    assert ILL.fields() == {
        "target": "b",
        "ok": "0",
        "where": "h:2",
        "ts": "5.000",
        "stage": "tcp",
        "error": "refused",
        "kind": "tcp",
        "dns_ms": "1.500",
        "tcp_ms": "0.250",
    }


def test_and_an_object_in_its_key():
    assert orjson.loads(WELL.encode()) == {
        "target": "a",
        "ok": True,
        "where": "h:1",
        "ts": 5.0,
        "stage": "done",
        "kind": "tls",
        "warning": "ends_soon",
        "tls_ms": 2.0,
        "days_left": 6.2,
        "address": "::1",
    }


def test_what_a_stranger_said_is_cut_and_harmless():
    finding = ProbeFinding("a", 5.0, ProbeResult("dns", "h", facts={"answers": "\x1b[2J\ud800" + "x" * 9999}))
    assert len(finding.fields()["answers"]) == 200
    assert finding.fields()["answers"].isprintable()
    assert orjson.loads(finding.encode())["answers"] == finding.fields()["answers"]


def test_no_fact_passes_for_what_the_probe_says():
    finding = ProbeFinding(
        "a", 5.0, ProbeResult("https", "h", "http", "status_503", facts={"ok": 1, "error": "none"})
    )
    assert (finding.fields()["ok"], finding.fields()["error"]) == ("0", "status_503")
