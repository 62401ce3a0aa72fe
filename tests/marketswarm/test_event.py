import tracemalloc
from dataclasses import replace

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketswarm.event import (
    MAX_EVENT_BYTES,
    Event,
    Kind,
    MalformedEvent,
    encode_event,
    make_event_id,
    parse_event,
)

BARE = {"ts": 1762433458.3, "id": "", "by": ""}


# what CONTRACTS shows: these bytes, then the additions
@pytest.mark.parametrize(
    ("event", "original"),
    [
        (
            Event(
                Kind.HEARTBEAT_MISS, "rss_agg", 1762433458.3, "x", "healer", late_sec=31.2, timeout_sec=30.0
            ),
            b'{"type":"heartbeat_miss","svc":"rss_agg","late_sec":31.2,"timeout_sec":30.0,"ts":1762433458.3,',
        ),
        (
            Event(Kind.HEARTBEAT_OK, "rss_agg", 1762433561.0, "x", "healer", age_sec=0.004),
            b'{"type":"heartbeat_ok","svc":"rss_agg","age_sec":0.004,"ts":1762433561.0,',
        ),
        (
            Event(Kind.HEALER_MISS, "healer", 1762434000.0, "x", "sentinel", late_sec=35.0, timeout_sec=30.0),
            b'{"type":"healer_miss","svc":"healer","late_sec":35.0,"timeout_sec":30.0,"ts":1762434000.0,',
        ),
        (
            Event(Kind.HEALER_OK, "healer", 1762434100.0, "x", "sentinel"),
            b'{"type":"healer_ok","svc":"healer","ts":1762434100.0,',
        ),
        (
            Event(
                Kind.BUS_MISS, "market-redis", 1762434100.0, "x", "healer", late_sec=12.0, timeout_sec=10.0
            ),
            b'{"type":"bus_miss","svc":"market-redis","late_sec":12.0,"timeout_sec":10.0,"ts":1762434100.0,',
        ),
        (
            Event(Kind.BUS_OK, "market-redis", 1762434160.0, "x", "healer"),
            b'{"type":"bus_ok","svc":"market-redis","ts":1762434160.0,',
        ),
        (
            Event(Kind.TRUTH_DRIFT, "market-redis", 1762434160.0, "x", "sentinel"),
            b'{"type":"truth_drift","svc":"market-redis","ts":1762434160.0,',
        ),
        (
            Event(Kind.TRUTH_OK, "market-redis", 1762434170.0, "x", "sentinel"),
            b'{"type":"truth_ok","svc":"market-redis","ts":1762434170.0,',
        ),
        (
            Event(Kind.HEARTBEAT_UNWATCHED, "rss_agg", 1762434170.0, "x", "healer"),
            b'{"type":"heartbeat_unwatched","svc":"rss_agg","ts":1762434170.0,',
        ),
    ],
)
def test_each_event_begins_with_the_contracts_keys_in_their_order(event, original):
    raw = encode_event(event)
    assert raw.startswith(original + b'"id":"x"')
    assert list(orjson.loads(raw))[-1] == "by"
    assert parse_event(raw) == event


def test_additions_follow_and_what_is_none_is_left_out():
    event = Event(
        Kind.HEARTBEAT_MISS,
        "a",
        5.0,
        "x",
        "healer",
        late_sec=2.0,
        timeout_sec=1.0,
        reason="stopped",
        since=3.0,
    )
    assert list(orjson.loads(encode_event(event))) == [
        *("type", "svc", "late_sec", "timeout_sec", "ts"),
        *("id", "reason", "since", "by"),
    ]
    ok = Event(Kind.HEARTBEAT_OK, "a", 9.0, "y", "healer", age_sec=0.0, down_sec=6.0, since=3.0)
    assert list(orjson.loads(encode_event(ok))) == [
        "type",
        "svc",
        "age_sec",
        "ts",
        "id",
        "down_sec",
        "since",
        "by",
    ]


def test_numbers_go_to_the_millisecond():
    event = Event(
        Kind.HEARTBEAT_MISS,
        "a",
        1762433458.30049,
        "x",
        "healer",
        late_sec=31.20051,
        timeout_sec=30.0,
        since=1.23456,
    )
    found = orjson.loads(encode_event(event))
    assert (found["ts"], found["late_sec"], found["since"]) == (1762433458.3, 31.201, 1.235)


def test_an_id_comes_from_the_transition_alone_and_fits_into_a_header():
    assert (
        make_event_id(Kind.HEARTBEAT_MISS, "rss_agg", 1762433458.3004)
        == "heartbeat_miss.rss_agg.1762433458300"
    )
    assert make_event_id(Kind.BUS_OK, "127.0.0.1:6379/2", 1.0) == "bus_ok.127.0.0.1:6379/2.1000"


def test_an_event_of_the_references_shape_is_read_and_gets_the_id_it_would_have_had():
    raw = b'{"type":"heartbeat_miss","svc":"a","late_sec":31,"timeout_sec":30,"ts":1762433458}'
    assert parse_event(raw) == Event(
        Kind.HEARTBEAT_MISS,
        "a",
        1762433458,
        "heartbeat_miss.a.1762433458000",
        "unknown",
        late_sec=31,
        timeout_sec=30,
    )


def test_what_newer_writers_added_is_passed_over():
    event = Event(Kind.HEARTBEAT_OK, "a", 1.0, "x", "healer")
    assert parse_event(orjson.dumps({**orjson.loads(encode_event(event)), "mood": ["fine"]})) == event


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"),
        (b"\xff", "not_json"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "incomplete"),
        (b'{"type":"heartbeat_miss","svc":"a"}', "incomplete"),
        (b'{"type":"heartbeat_miss","ts":1}', "incomplete"),
        (b'{"svc":"a","ts":1}', "incomplete"),
        (b'{"type":"heartbeat_miss","svc":"a","ts":null}', "incomplete"),
        (b'{"type":"heartbeat_mist","svc":"a","ts":1}', "unknown_type"),
        (b'{"type":"HEARTBEAT_MISS","svc":"a","ts":1}', "unknown_type"),
        (b'{"type":5,"svc":"a","ts":1}', "bad_type"),
        (b'{"type":"heartbeat_miss","svc":5,"ts":1}', "bad_svc"),
        (b'{"type":"heartbeat_miss","svc":"a","ts":"1"}', "bad_ts"),
        (b'{"type":"heartbeat_miss","svc":"a","ts":true}', "bad_ts"),
        (b'{"type":"heartbeat_miss","svc":"a","ts":1.7e308}', "bad_ts"),
        (b'{"type":"heartbeat_miss","svc":"a","ts":1,"late_sec":"1"}', "bad_late_sec"),
        (b'{"type":"heartbeat_miss","svc":"a","ts":1,"id":1}', "bad_id"),
        (b'{"type":"heartbeat_miss","svc":"a","ts":1,"by":{}}', "bad_by"),
    ],
)
def test_bytes_that_are_no_event_say_why(raw, reason):
    assert parse_event(raw) == MalformedEvent(reason)


def test_an_event_over_16_kib_is_not_read():
    raw = encode_event(Event(Kind.HEARTBEAT_OK, "a", 1.0, "x", "healer"))
    assert parse_event(raw + b" " * (MAX_EVENT_BYTES - len(raw))) == parse_event(raw)
    assert parse_event(raw + b" " * (MAX_EVENT_BYTES - len(raw) + 1)) == MalformedEvent("too_long")


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(
    [
        "type",
        "svc",
        "ts",
        "late_sec",
        "timeout_sec",
        "age_sec",
        "id",
        "reason",
        "down_sec",
        "since",
        "by",
        "x",
    ]
)


@given(st.binary(max_size=200))
@example(b"[" * 5000)
def test_no_bytes_crash_the_reading(raw):
    assert isinstance(parse_event(raw), Event | MalformedEvent)


@given(st.dictionaries(names, anything | st.sampled_from([*Kind, 1.5])))
def test_no_json_whatever_crashes_the_reading_and_what_was_read_can_be_written(found):
    got = parse_event(orjson.dumps(found))
    if isinstance(got, Event):
        again = parse_event(encode_event(got))
        assert isinstance(again, Event)
        assert (again.type, again.svc, again.id, again.by) == (got.type, got.svc, got.id, got.by)


ms = st.integers(0, 2**44).map(lambda n: n / 1000)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.builds(
        Event,
        type=st.sampled_from(Kind),
        svc=texts,
        ts=ms,
        id=texts,
        by=texts,
        late_sec=st.none() | ms,
        timeout_sec=st.none() | ms,
        age_sec=st.none() | ms,
        reason=st.none() | texts,
        down_sec=st.none() | ms,
        since=st.none() | ms,
    )
)
def test_what_is_encoded_is_read_back(event):
    assert parse_event(encode_event(event)) == event
    assert encode_event(replace(event)) == encode_event(event)


def test_an_event_that_is_kept_takes_as_much_memory_as_it_is_long():
    """A healer keeps the miss of each service that is down; orjson's own bytes take 4 KiB each."""
    events = [Event(Kind.HEARTBEAT_MISS, f"svc{n}", 1762433458.3, "x", "healer") for n in range(500)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = [encode_event(event) for event in events]
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < sum(map(len, kept)) + 100 * len(kept)


def test_what_a_failure_said_is_read_as_one_short_line():
    event = Event(Kind.HEARTBEAT_MISS, "a", 9.0, "i", "healer", reason="failed", detail="disk full")
    assert parse_event(encode_event(event)) == event
    hostile = replace(event, detail="\x1b[31mdisk\x1b[0m full" + "!" * 9_000 + "\nnext: marketswarm seed")
    assert parse_event(encode_event(hostile)).detail == "disk full" + "!" * 191
    assert parse_event(encode_event(replace(event, detail="\n"))).detail is None
    assert parse_event(b'{"type":"heartbeat_miss","svc":"a","ts":1,"detail":5}') == MalformedEvent(
        "bad_detail"
    )
