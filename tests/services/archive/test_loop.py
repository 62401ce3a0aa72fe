"""What the beats say while PostgreSQL is away, or the work is behind."""

from types import SimpleNamespace

import orjson
import pytest

from marketswarm.agent import Exit
from marketswarm.beat import MAX_DETAIL_CHARS
from marketswarm.bus.backlog import Backlog
from marketswarm.postgres.errors import PostgresAwayError
from marketswarm.postgres.migrations import SchemaError, require_known
from marketswarm.postgres.pool import DatabaseAway
from marketswarm.truth import AccessPoint
from services.archive.database import SCHEMA
from services.archive.loop import (
    LAG_KNOWN_SEC,
    describe_backlog,
    describe_migration,
    describe_outage,
    find_lag,
    require_url,
)
from services.archive.maintenance import MAX_SOURCES, parse_source_states
from services.archive.settings import ArchiveEnvironment, ArchiveSettings, find_streams


def test_an_outage_names_the_stream_that_holds_for_the_shortest_time():
    backlogs = {"a": Backlog(hold_sec=9000.0), "b": Backlog(hold_sec=600.0), "c": Backlog()}
    outage = DatabaseAway(PostgresAwayError("refused"), 100.0)
    assert describe_outage(None, backlogs, 142.0) is None
    said = "PostgreSQL can't be used for 42 s (refused); b holds 10 min more"
    assert describe_outage(outage, backlogs, 142.0) == said
    assert describe_outage(outage, {"a": Backlog()}, 142.0).endswith("no stream is full yet")
    assert describe_outage(outage, {"a": Backlog(hold_sec=0.0)}, 142.0).endswith("a loses entries")


def test_the_reason_of_an_outage_is_as_long_as_a_beat_has_room_for():
    backlogs = {"market:observations": Backlog(hold_sec=9000.0)}
    said = describe_outage(DatabaseAway(PostgresAwayError("password " * 40), 0.0), backlogs, 7000.0)
    assert len(said) == MAX_DETAIL_CHARS
    assert said.startswith("PostgreSQL can't be used for 117 min (password password ")
    assert said.endswith("); market:observations holds 2.5 h more")


def test_a_schema_that_is_wrong_is_no_outage_and_its_remedy_is_not_cut_off():
    applied = {each.version: each.sha256 for each in SCHEMA.load_migrations()}
    assert sorted(applied) == list(range(1, len(SCHEMA.load_migrations()) + 1)), "two files have one number"
    with pytest.raises(SchemaError) as caught:
        require_known({**applied, 99: "of a later release"}, SCHEMA.load_migrations())
    said = describe_outage(DatabaseAway(caught.value, 0.0), {}, 720.0)
    assert said.startswith(str(caught.value))
    assert len(said) <= MAX_DETAIL_CHARS


def test_a_migration_is_spoken_of_once_it_takes_long():
    assert describe_migration(None, 50.0) is None
    assert describe_migration(49.5, 50.0) is None
    assert describe_migration(10.0, 310.0).endswith("for 5 min")
    assert "migrating" in describe_migration(10.0, 310.0)


def test_work_is_behind_when_an_entry_waits_too_long():
    backlogs = {"a": Backlog(unread=1200, oldest_sec=130.0), "b": Backlog()}
    assert describe_backlog(backlogs, 120.0) == "behind: 1,200 unread in a, the oldest for 2 min"
    assert describe_backlog(backlogs, 131.0) is None
    assert describe_backlog({}, 120.0) is None


def test_how_far_archive_is_behind_is_known_while_each_worker_looks_at_its_streams():
    def worker(at, **oldest):
        backlogs = {stream: Backlog(oldest_sec=sec) for stream, sec in oldest.items()}
        return SimpleNamespace(backlogs_at=at, backlogs=backlogs)

    now = 1000.0
    fresh, stale = now - LAG_KNOWN_SEC, now - LAG_KNOWN_SEC - 1
    assert find_lag([worker(fresh, a=3.0, b=70.0), worker(now, c=5.0)], now) == 70
    assert find_lag([worker(now)], now) is None, "no stream was read yet"
    assert find_lag([worker(stale, a=3.0), worker(now, c=5.0)], now) is None
    assert find_lag([worker(float("-inf")), worker(now, c=5.0)], now) is None
    assert find_lag([], now) is None


def test_the_truth_may_name_other_keys_by_their_last_word():
    points = [AccessPoint(bus="market-redis", key="team:quotes")]
    streams = {each.kind: each for each in find_streams(points)}
    assert streams["market:quotes"].key == "team:quotes"
    assert streams["bars:bars"].key == "bars:bars"
    assert {each.bus for each in streams.values()} == {"market-redis"}
    assert len(streams) == 8
    # by a position: the consumer group of the log is the notifier's alone
    log, timelines, evidence = find_streams(points, followed=True)
    assert (log.bus, log.key) == ("system-redis", "healer:alerts:log")
    assert (timelines.bus, timelines.key) == ("system-redis", "medic:incidents")
    assert (evidence.bus, evidence.key) == ("system-redis", "medic:evidence")


@pytest.mark.parametrize(
    "url",
    [
        "postgres",
        "mysql://u:secret@h/d",
        "postgresql://u:secret@h",
        "postgresql://u:secret@h:0/d",
        "postgresql://u:S3@secret/et@h/d",
        "postgresql://u:S3@secret/d?et@h/d",
        "postgresql://u:S3@secret/d#et@h/d",
        "postgresql://u:secret@h/d/e",
        # it would be an argument of pg_dump, which every user of the machine can read
        "postgresql://u@h/d?password=secret",
        "postgresql://u:x@h/d?sslmode=require&sslpassword=secret",
        "postgresql://u@h/d?application_name=a&pass%77ord=secret",
    ],
)
def test_a_url_of_no_database_is_refused_without_showing_it(monkeypatch, url):
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ValueError, match=r"(?i)database_url") as caught:
        ArchiveEnvironment()
    assert "must be postgresql://" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_without_a_database_the_service_says_which_variable_is_missing(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(Exit, match="DATABASE_URL is not set"):
        require_url(ArchiveEnvironment())


def test_a_schedule_or_a_table_that_is_none_is_a_mistake_in_the_truth():
    for wrong in (
        {"backup": {"schedule": "often"}},
        {"keep_days": {"symbols": 3}},
        {"keep_days": {"bars": 0}},
    ):
        with pytest.raises(ValueError, match="settings"):
            ArchiveSettings.model_validate({"settings": wrong})


def test_states_of_sources_that_are_none_are_left_out():
    fields = {
        b"yahoo": b'{"state": "up", "reason": "", "fails": 0}',
        b"odd": b'{"state": 7}',
        b"broken": b"{",
        b"list": b"[]",
        b"zero": b'{"reason": "\\u0000"}',
        b"long": b'{"reason": "' + b"x" * 70_000 + b'"}',
        b"deep": b'{"state": "up", "x": ' + b"[" * 300 + b"]" * 300 + b"}",
        b"\x00\xff": b'{"state": "up", "x": 99999999999999999999999999}',
    }
    found, invalid = parse_source_states(fields)
    assert invalid == 5
    assert [(each.source, each.state) for each in found if each.source != "\ufffd"] == [
        ("odd", "unknown"),
        ("yahoo", "up"),
    ]
    assert orjson.loads(found[0].document)["x"] == 1e26


def test_states_beyond_the_most_that_are_kept_are_left_out():
    fields = {b"%04d" % number: b"{}" for number in range(MAX_SOURCES + 5)}
    found, invalid = parse_source_states(fields)
    assert (len(found), invalid) == (MAX_SOURCES, 5)
