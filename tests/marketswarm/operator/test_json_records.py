"""Silences, requests, tokens, … as JSON: each is read back whole, and no bytes break the reading."""

from dataclasses import MISSING, fields
from importlib import import_module
from pkgutil import iter_modules

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marketswarm import operator
from marketswarm.operator.announcements import AnnouncementEntry, AnnouncementState
from marketswarm.operator.fields import MAX_BYTES, JsonRecord
from marketswarm.operator.healing import (
    DiagnosisRecord,
    EntryKind,
    HealingApproval,
    OutageEvidence,
    TimelineEntry,
)
from marketswarm.operator.requests import Answer, OperatorRequest, RequestKind
from marketswarm.operator.service_reports import (
    BackupReport,
    BackupRequest,
    BackupState,
    DatabaseReport,
    RequestReport,
    RequestResult,
    ServiceRequest,
)
from marketswarm.operator.silences import Silence
from marketswarm.operator.source_refresh import RefreshReport, RefreshRequest, RefreshState
from marketswarm.operator.tokens import PingKey, Scope, Token

NOW = 1_762_433_458.25
CREDENTIAL = {"id": "1f0c3a9e", "name": "deploy", "sha256": "0a" * 32, "author": "kim", "created_at": NOW}
ENTRY = {"id": "a", "ts": NOW, "title": "Slow", "text": "We look into it.", "author": "kim"}
SPAN = {"begins_at": NOW, "ends_at": NOW + 60}
OUTAGE = {"svc": "feed", "incident": "feed.17000", "ts": NOW}

RECORDS = [
    Silence(
        id="a1b2",
        starts_at=NOW,
        ends_at=NOW + 7200,
        author="kim",
        reason="new disks",
        changed_at=NOW,
        services=("rss_*",),
        tags=("ingest",),
    ),
    OperatorRequest(id="4f2a", do=RequestKind.ACK, what="rss_agg", by="kim", ts=NOW),
    Answer(ok=False, said="404 Not Found", channel="slack", where="hooks.slack.com", done=True),
    Token(**CREDENTIAL, scopes=(Scope.WRITE,), expires_at=NOW + 60),
    PingKey(**CREDENTIAL, svc="nightly"),
    AnnouncementEntry(**ENTRY, state=AnnouncementState.INVESTIGATING, tags=("web",)),
    AnnouncementEntry(**ENTRY, state=AnnouncementState.SCHEDULED, **SPAN),
    ServiceRequest(id="r1", boot="b1", by="medic", ts=NOW),
    RequestReport(request="r1", boot="b1", ts=NOW, result=RequestResult.DONE, ended=3),
    BackupReport(state=BackupState.RUNNING, ts=NOW, made_at=NOW - 60, why="no room"),
    BackupRequest(id="r1", by="medic", ts=NOW),
    RefreshRequest(id="refresh.1", by="kim", ts=NOW, source="fred"),
    RefreshReport(
        request="refresh.1", state=RefreshState.FAILED, ts=NOW, series=3, tried=1, why="the bus is away"
    ),
    DatabaseReport(ts=NOW, lag_sec=1.5, connections=3, table_ages={"bars": 60.0}),
    TimelineEntry(incident="feed.17000", ts=NOW, svc="feed", what=EntryKind.ACTED, remedy="restart", sec=1.5),
    HealingApproval(id="3f9a1c04", by="ann", ts=NOW),
    DiagnosisRecord(**OUTAGE, reason="emergency", text="It hangs.", remedies=("restart",)),
    OutageEvidence(**OUTAGE, step="intended restart", facts={"health": "down"}, readings={"cpu": 1.5}),
]
EACH = pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def test_each_kind_of_record_has_a_sample_here():
    for module in iter_modules(operator.__path__):
        import_module(f"marketswarm.operator.{module.name}")
    kinds, known = [JsonRecord], set()
    while kinds:
        kinds += (kind := kinds.pop()).__subclasses__()
        if kind.__module__.startswith("marketswarm.operator."):
            known.add(kind.__name__)
    bases = {base.__name__ for record in RECORDS for base in type(record).__mro__[1:]}
    assert known - bases == {type(record).__name__ for record in RECORDS}


@EACH
def test_a_record_is_read_as_it_was_written_and_what_a_newer_writer_added_is_passed_over(record):
    raw = record.encode()
    assert type(record).parse(raw) == record
    assert type(record).parse(orjson.dumps(orjson.loads(raw) | {"colour": "grey"})) == record


@EACH
def test_what_lacks_a_field_is_no_record(record):
    for each in fields(record):
        if each.default is each.default_factory is MISSING:
            found = orjson.loads(record.encode())
            del found[each.name]
            assert type(record).parse(orjson.dumps(found)) is None, each.name


@EACH
def test_a_record_over_16_kib_is_not_read(record):
    raw = record.encode()
    assert type(record).parse(raw + b" " * (MAX_BYTES - len(raw))) == record
    assert type(record).parse(raw + b" " * (MAX_BYTES - len(raw) + 1)) is None


@EACH
@given(st.binary(max_size=200))
@example(b"[" * 5000)
@example(b'{"id":' * 2000)
@example(b'"\\ud800"')
def test_no_bytes_crash_the_reading(record, raw):
    assert type(record).parse(raw) is None


@EACH
@given(st.data())
def test_any_value_of_any_field_is_no_record_or_a_whole_one(record, data):
    names = st.sampled_from([each.name for each in fields(record)])
    changed = data.draw(st.dictionaries(names, anything, min_size=1, max_size=4))
    found = type(record).parse(orjson.dumps(orjson.loads(record.encode()) | changed))
    assert found is None or type(record).parse(found.encode()) == found
