"""The entries of `healer:jobs`: what is written is read again, and anything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketswarm.detector import SavedJob
from marketswarm.monitor.job_entry import MAX_JOB_ENTRY_BYTES, encode_job_entry, parse_job_entry

SOME = SavedJob(1762433458.125, runs=(("5f0c", 1762519859.1), ("", 1762519860.0)), leads_sec=(3600.0, 3590.5))
NAMED = SOME._replace(schedule="0 3 * * * Europe/Berlin", moved_at=1762433400.25)


@pytest.mark.parametrize("job", [SOME, NAMED, SavedJob(1762433458.0, has_run=False)])
def test_what_is_written_is_read_again(job):
    assert parse_job_entry(encode_job_entry(job)) == job


def test_other_readers_find_since_when_a_run_is_under_way():
    assert b'"running_since":1762519859.1,' in encode_job_entry(SOME)


def test_the_longest_entry_fits():
    runs = tuple((f"{n:02}" + "\x01" * 34, 1762433458.125) for n in range(32))
    assert len(encode_job_entry(SavedJob(1762433458.125, runs=runs))) <= MAX_JOB_ENTRY_BYTES


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"expected_from":1}',
        b'{"expected_from":"1","has_run":true}',
        b'{"expected_from":1e300,"has_run":true}',
        b'{"expected_from":1,"has_run":1}',
        b'{"expected_from":1,"has_run":true,"runs":[]}',
        b'{"expected_from":1,"has_run":true,"runs":{"a":"x"}}',
        b'{"expected_from":1,"has_run":true,"runs":{"' + b"a" * 37 + b'":1}}',
        b'{"expected_from":1,"has_run":true,"leads_sec":{}}',
        b'{"expected_from":1,"has_run":true,"leads_sec":[-1]}',
        b'{"expected_from":1,"has_run":true,"leads_sec":[1,2,3,4]}',
        b" " * MAX_JOB_ENTRY_BYTES + encode_job_entry(SOME),
    ],
)
def test_anything_else_is_refused(raw):
    assert parse_job_entry(raw) is None


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reading(raw):
    assert parse_job_entry(raw) is None or isinstance(parse_job_entry(raw), SavedJob)
