"""What is stored: few bytes, read back as it was, and nothing that anyone writes there does harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.history.encoding import (
    MAX_HOURS_BYTES,
    MAX_RECORD_BYTES,
    UnreadableHistoryError,
    encode_hours,
    encode_progress,
    encode_service,
    encode_timeline,
    parse_hours,
    parse_progress,
    parse_service,
    parse_timeline,
)
from marketswarm.history.fleet_history import MAX_OUTAGES, PERIOD_HOURS, ServiceHistory
from marketswarm.history.listening import Heard, Listening
from marketswarm.history.rollup import HOUR_SEC, Run
from marketswarm.history.spans import Change, KnownState, Timeline, make_fact

H0 = 497_000
T0 = H0 * HOUR_SEC
PERIOD = H0 // PERIOD_HOURS

facts = st.lists(
    st.builds(
        lambda change, at, back, length: make_fact(change, T0 + at, T0 + at - back, T0 + at - back + length),
        st.sampled_from(Change),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
    ),
    max_size=20,
)
timelines = st.builds(
    lambda state, found, refused: Timeline(T0, state, found, refused=refused),
    st.sampled_from(KnownState),
    facts,
    st.booleans(),
)


def same(one, two):
    return (one.begin, one.state, one.refused, one.facts) == (two.begin, two.state, two.refused, two.facts)


def test_a_record_of_another_format_is_refused():
    raw = encode_service(ServiceHistory(H0, Timeline(T0, KnownState.UP), [(T0, T0 + 5)], T0 + 9))
    with pytest.raises(UnreadableHistoryError, match="no such format"):
        parse_service(b"\1" + raw[1:])


@given(
    timelines,
    st.lists(st.integers(1, 10**6), max_size=2 * MAX_OUTAGES),
    st.none() | st.integers(0, 2**33),
    st.none() | st.integers(0, 2**32 - 1),
    st.integers(0, 2**33),
)
def test_the_record_of_a_service_is_read_back_as_it_was(timeline, lengths, gone_at, bus, moved_at):
    outages, at = [], T0
    for start, end in zip(lengths[::2], lengths[1::2], strict=False):
        outages.append((at + start, at + start + end))
        at += start + end
    record = ServiceHistory(H0, timeline, outages, gone_at, bus, moved_at)
    found = parse_service(encode_service(record))
    assert (found.first, found.outages, found.gone_at) == (H0, outages, gone_at)
    assert (found.bus, found.moved_at) == (bus, moved_at)
    assert same(found.timeline, timeline)


@given(timelines)
def test_a_timeline_is_read_back_as_it_was(timeline):
    assert same(parse_timeline(encode_timeline(timeline)), timeline)


@given(
    st.lists(st.tuples(*[st.integers(0, 5), st.integers(1, 5), st.integers(0, 3600), st.integers(0, 3600)]))
)
def test_hours_are_read_back_as_they_were(parts):
    runs, at = [], PERIOD * PERIOD_HOURS
    for gap, hours, down, unknown in parts:
        if at + gap + hours > (PERIOD + 1) * PERIOD_HOURS:
            break
        runs.append(Run(at + gap, hours, down, min(unknown, 3600 - down)))
        at += gap + hours
    assert parse_hours(encode_hours(runs, PERIOD), PERIOD) == runs


def test_hours_on_both_sides_of_a_period_are_stored_in_both():
    first = (PERIOD + 1) * PERIOD_HOURS
    runs = [Run(first - 5, 10, 7, 8)]
    assert parse_hours(encode_hours(runs, PERIOD), PERIOD) == [Run(first - 5, 5, 7, 8)]
    assert parse_hours(encode_hours(runs, PERIOD + 1), PERIOD + 1) == [Run(first, 5, 7, 8)]
    assert encode_hours(runs, PERIOD + 2) == b""


def test_progress_is_read_back_as_it_was():
    known = Listening(T0 + 5, (Heard("abc", 5, T0), Heard("d", 2**40, T0 + 5)))
    assert parse_progress(encode_progress(H0, known)) == (H0, known)


def test_a_quiet_service_takes_a_few_bytes():
    record = ServiceHistory(H0, Timeline(T0, KnownState.UP), bus=2**32 - 1)
    assert len(encode_service(record)) <= 21


def test_the_worst_period_fits_its_limit():
    low = PERIOD * PERIOD_HOURS
    runs = [Run(low + hour, 1, 1000 + hour, 1000) for hour in range(PERIOD_HOURS)]
    assert len(encode_hours(runs, PERIOD)) <= MAX_HOURS_BYTES * 3 // 4


@given(st.binary(max_size=60))
def test_any_bytes_are_a_history_or_are_refused(raw):
    for parse in (parse_service, parse_timeline, parse_progress, lambda raw: parse_hours(raw, PERIOD)):
        try:
            parse(raw)
        except UnreadableHistoryError:
            continue


@given(timelines, st.data())
def test_a_record_with_a_changed_byte_is_a_history_or_is_refused(timeline, data):
    raw = bytearray(encode_service(ServiceHistory(H0, timeline)))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        record = parse_service(bytes(raw))
    except UnreadableHistoryError:
        return
    record.timeline.spans((), record.timeline.begin + 7200)


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b"5",
        b"{}",
        b'{"final":1,"until":1,"heard":[]}',
        b'{"final":-1,"until":1,"heard":[]}',
        b'{"final":true,"until":4000,"heard":[]}',
        b'{"final":1,"until":1e300,"heard":[]}',
        b'{"final":1,"until":4000,"heard":5}',
        b'{"final":1,"until":4000,"heard":[5]}',
        b'{"final":1,"until":4000,"heard":["abc"]}',
        b'{"final":1,"until":4000,"heard":[[1,2,3]]}',
        b'{"final":1,"until":4000,"heard":[["a",2.5,3]]}',
        b'{"final":1,"until":4000,"heard":{"a":1}}',
    ],
)
def test_progress_of_another_shape_is_refused(raw):
    with pytest.raises(UnreadableHistoryError):
        parse_progress(raw)


def test_what_is_too_long_is_not_even_read():
    for parse, longest in ((parse_service, MAX_RECORD_BYTES), (parse_timeline, MAX_RECORD_BYTES)):
        with pytest.raises(UnreadableHistoryError, match="more than"):
            parse(bytes(longest + 1))
    with pytest.raises(UnreadableHistoryError, match="more than"):
        parse_hours(bytes(MAX_HOURS_BYTES + 1), PERIOD)
