from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.pings import (
    MAX_BODY_BYTES,
    JobPing,
    JobRun,
    PingForm,
    PingKind,
    find_runs,
    parse_ping,
    parse_pings,
)


def stored(ping):
    """What Redis gives back of an entry."""
    fields = {name.encode(): value.encode() for name, value in ping.encode().items()}
    return fields | ({b"body": ping.body} if ping.body else {})


def ping(kind, ts, rid=None, body=b"", exit_code=None):
    return JobPing(kind=PingKind(kind), ts=ts, rid=rid, body=body, size=len(body), exit_code=exit_code)


def test_a_ping_comes_back_from_its_entry_as_it_was():
    whole = JobPing(
        kind=PingKind.FAIL,
        ts=1762433458.125,
        form=PingForm.KUMA,
        rid="8c5b3b1e-5d77-4d8f-bb53-4b0a8b52a1f2",
        exit_code=3,
        method="POST",
        client="10.0.0.7",
        user_agent="curl/8",
        body=b"no space\xff",
        size=20_000,
        n=1762433458125002,
    )
    assert parse_ping(b"1762433458125-2", stored(whole)) == whole


def test_a_run_under_exec_comes_back_with_its_duration_and_is_one_row_of_its_own():
    whole = JobPing(
        kind=PingKind.FAIL, ts=112.5, form=PingForm.EXEC, rid="a", exit_code=3, took_sec=12.5, method=""
    )
    assert parse_ping(b"112500-0", stored(whole)) == replace(whole, n=112500000)
    assert find_runs([ping("start", 90), whole, ping("success", 120)]) == [
        JobRun(rid=None, started_at=90, ended_at=120, ok=True),
        JobRun(rid="a", started_at=100, ended_at=112.5, ok=False, exit_code=3),
    ]


@pytest.mark.parametrize("took", [b"-1", b"nan", b"x", b"1e999"])
def test_a_duration_that_can_not_be_is_unknown(took):
    found = parse_ping(b"1-0", {b"kind": b"success", b"ts": b"1", b"took_sec": took})
    assert found is not None
    assert found.took_sec is None


def test_a_body_is_kept_up_to_its_limit_and_its_size_is_known():
    long = JobPing(kind=PingKind.LOG, ts=1.0, body=b"x" * 30_000, size=30_000)
    found = parse_ping(b"1-0", stored(long))
    assert (len(found.body), found.size) == (MAX_BODY_BYTES, 30_000)


@pytest.mark.parametrize(
    ("entry_id", "fields"),
    [
        (b"1-0", {}),
        (b"1-0", {b"kind": b"success"}),
        (b"1-0", {b"kind": b"explode", b"ts": b"1"}),
        (b"1-0", {b"kind": b"success", b"ts": b"nan"}),
        (b"1-0", {b"kind": b"success", b"ts": b"1e999"}),
        (b"x", {b"kind": b"success", b"ts": b"1"}),
        (b"9" * 40 + b"-0", {b"kind": b"success", b"ts": b"1"}),
    ],
)
def test_what_is_no_ping_is_passed_over(entry_id, fields):
    assert parse_ping(entry_id, fields) is None


@given(
    st.binary(max_size=30),
    st.dictionaries(
        st.sampled_from([b"kind", b"ts", b"rid", b"exit_code", b"took_sec", b"body", b"size", b"client"]),
        st.binary(max_size=40) | st.sampled_from([b"success", b"start", b"1.5", b"0", b"-1", b"999"]),
    ),
)
def test_foreign_entries_never_raise(entry_id, fields):
    find_runs(parse_pings([(b"5-1", {b"kind": b"start", b"ts": b"1", **fields}), (entry_id, fields)]))


def test_pings_come_oldest_first_whichever_way_they_were_read():
    entries = [(b"20-1", stored(ping("success", 2))), (b"20-0", stored(ping("start", 1)))]
    assert [each.kind for each in parse_pings(entries)] == ["start", "success"]


def test_a_start_and_an_end_are_a_run_with_its_duration_and_its_bodies():
    runs = find_runs(
        [ping("start", 10, body=b"a"), ping("log", 11, body=b"b"), ping("success", 15.5, body=b"c")]
    )
    assert runs == [JobRun(rid=None, started_at=10, ended_at=15.5, ok=True, bodies=("a", "b", "c"))]
    assert runs[0].took_sec == 5.5


def test_runs_that_overlap_are_told_apart_by_their_ids():
    runs = find_runs(
        [
            ping("start", 1, "a"),
            ping("start", 2, "b"),
            ping("fail", 3, "a", exit_code=7),
            ping("success", 9, "b"),
        ]
    )
    assert [(run.rid, run.took_sec, run.ok, run.exit_code) for run in runs] == [
        ("a", 2, False, 7),
        ("b", 7, True, None),
    ]


def test_a_run_that_goes_on_or_was_never_ended_has_no_end():
    runs = find_runs([ping("start", 1), ping("start", 5)])
    assert [(run.started_at, run.ended_at, run.ok, run.took_sec) for run in runs] == [
        (1, None, None, None),
        (5, None, None, None),
    ]


def test_an_end_without_a_start_is_a_run_whose_duration_is_not_known():
    (run,) = find_runs([ping("log", 1), ping("success", 5)])
    assert (run.started_at, run.ended_at, run.took_sec) == (None, 5, None)


def test_an_end_that_follows_an_end_is_a_run_of_its_own():
    runs = find_runs([ping("start", 1), ping("success", 2), ping("success", 5)])
    assert [(run.started_at, run.ended_at) for run in runs] == [(1, 2), (None, 5)]
