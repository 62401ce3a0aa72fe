"""What can be read of the past of a probe's target, whatever is stored there."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.status.probe_past import (
    PAST_BYTES,
    RECORD_BYTES,
    RINGS,
    ProbeReading,
    describe_reading,
    encode_days,
    find_probes_point,
    format_response,
    list_target_names,
    parse_failure,
    parse_past,
    parse_reading,
)
from marketswarm.truth import AccessPoint, parse_truth

NOW = 1_795_400_700.0
RESULT = {"target": "shop", "ok": True, "ts": NOW, "kind": "https", "where": "https://shop.example/",
          "stage": "done", "total_ms": 43.2, "dns_ms": 2.0, "status": 200, "days_left": 61.3,
          "issuer": "Example CA", "ends_at": 1_800_700_000}  # fmt: skip

digits = st.binary(max_size=200).map(lambda raw: bytes(48 + each % 12 for each in raw))


@given(st.one_of(st.binary(max_size=500), digits, digits.map(lambda raw: raw * 250)), st.floats(0, 4e9))
def test_any_bytes_are_bins_of_their_time_or_nothing(raw, now):
    past = parse_past(raw[:PAST_BYTES], now)
    for name, (length_sec, count) in RINGS.items():
        bins = getattr(past, name)
        assert len(bins) <= count
        assert all(now - length_sec * count - length_sec < one.at <= now for one in bins)
        assert all(0 <= one.failures <= one.probes and one.probes for one in bins)
        assert [one.at for one in bins] == sorted({one.at for one in bins})


def test_a_record_of_now_is_read():
    """The proof that the test above would fail if nothing were read."""
    number = int(NOW // 60)
    raw = (
        b"\0" * (RECORD_BYTES * (number % 60))
        + f"{number:010}{3:05}{1:05}{40_000:08}{50_000:08}{614:05}".encode()
    )
    (one,) = parse_past(raw, NOW).hour
    assert (one.probes, one.failures, one.mean_sec, one.most_sec, one.days_left) == (3, 1, 0.04, 0.05, 61.3)


@pytest.mark.parametrize(
    ("days", "stored"), [(61.3, 614), (0.0, 1), (-3.0, 1), (None, 0), ("61", 0), (True, 0), (1e9, 0)]
)
def test_days_are_stored_in_tenths_and_nothing_else_is(days, stored):
    assert encode_days(days) == stored


def test_a_result_is_read_with_its_steps_and_its_certificate():
    found = parse_reading("shop", orjson.dumps(RESULT))
    assert found is not None
    assert (found.ok, found.total_sec, found.steps_sec) == (True, 0.0432, {"dns": 0.002})
    assert (found.status, found.days_left, found.issuer, found.ends_at) == (
        200,
        61.3,
        "Example CA",
        1_800_700_000,
    )


@pytest.mark.parametrize(
    "changes", [{"target": "other"}, {"ok": 1}, {"ts": "now"}, {"ts": -1}], ids=lambda each: next(iter(each))
)
def test_what_is_no_result_of_this_target_is_none(changes):
    assert parse_reading("shop", orjson.dumps(RESULT | changes)) is None


def test_values_that_cannot_be_are_left_out():
    found = parse_reading(
        "shop",
        orjson.dumps(
            RESULT | {"total_ms": -1, "status": "200", "days_left": [], "issuer": "x" * 300, "error": {}}
        ),
    )
    assert found is not None
    assert (found.total_sec, found.status, found.days_left, found.issuer, found.error) == (None,) * 5


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'{"since":1}', b'{"since":1,"until":1,"count":0,"stage":"x","error":"y"}']
)
def test_what_is_no_failure_is_none(raw):
    assert parse_failure(raw) is None


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (ProbeReading(NOW, True, total_sec=0.0432, status=200, days_left=61.3),
         "200 in 43 ms, certificate good for 61.3 days"),
        (ProbeReading(NOW, True, total_sec=1.5), "answered in 1.50 s"),
        (ProbeReading(NOW, False, stage="tcp", error="refused"), "failed at tcp: refused"),
    ],
)  # fmt: skip
def test_a_result_is_said_in_words(reading, words):
    assert describe_reading(reading) == words


@pytest.mark.parametrize(
    ("sec", "words"),
    [
        (None, "\N{EN DASH}"),
        (0.00081, "0.8 ms"),
        (0.00996, "10 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (61, "61.00 s"),
    ],
)
def test_a_response_time_has_few_digits(sec, words):
    assert format_response(sec) == words


def test_the_targets_and_their_stream_are_found_in_the_truth():
    targets = [{"name": "shop", "url": "https://shop.example/"}, {"name": "shop", "host": "h", "port": 1}, 7]
    point = {"bus": "market-redis", "key": "team:probes"}
    services = {"massive": {"settings": {"targets": targets}, "access_points": {"publish_to": [point]}}}
    truth = parse_truth(orjson.dumps({"services": services})).truth
    assert list_target_names(truth) == ("shop",)
    assert find_probes_point(truth) == AccessPoint(**point)
    assert find_probes_point(parse_truth(b'{"services": {"shop": {}}}').truth) is None
