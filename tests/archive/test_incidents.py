"""What the medic recorded, in PostgreSQL: an incident is what its entries say, however they come."""

import asyncio
import random
import shutil
import subprocess
import time
from datetime import timedelta

import orjson
import pytest

from marketswarm.operator.healing import (
    DiagnosisRecord,
    EntryKind,
    OutageEvidence,
    TimelineEntry,
    fold_incidents,
)
from marketswarm.packed_log import pack_log
from marketswarm.truth.parse import parse_truth
from services.archive.backup import make_backup
from services.archive.database import Database
from services.archive.maintenance import delete_expired
from services.archive.restore import verify_backup
from services.archive.writer import TypedEntry, Writer
from services.board.market.archive_reader import ArchiveReader
from services.board.operations.archived_diagnoses import ArchivedDiagnoses
from services.market.fields import EntryError
from services.medic.rule import SHIPPED, list_pairs
from services.tables.tables import ALERT_TABLE, STREAMS
from support.postgres import query
from support.scenes.agent import Scene, seed
from support.waiting import until

NOW = time.time()
LAST_DAY = "SELECT * FROM monitor_incidents WHERE timestamp > now() - interval '24 hours'"
COLUMNS = [
    *("id", "timestamp", "container_name", "issue_type", "severity", "healing_attempts"),
    *("healing_strategies_tried", "escalated", "resolution_status", "resolution_details", "resolved_at"),
    *("resolution_time_seconds", "created_at"),
]
K = EntryKind


FEED = {"incident": f"feed.{round(1000 * NOW)}", "svc": "feed"}


def entry_at(after_sec, what, **more):
    return TimelineEntry(ts=NOW + after_sec, what=what, **{**FEED, **more})


HEALED = [
    entry_at(30, K.OPENED, reason="silent", severity="critical", text="critical; up restarts it"),
    entry_at(30, K.WAITING, remedy="wait"),
    entry_at(35, K.INTENDED, remedy="restart", text="process 12.1"),
    entry_at(35.1, K.ACTED, remedy="restart", text="done"),
    entry_at(65, K.FAILED, remedy="restart", sec=29.9),
    entry_at(95, K.ACTED, remedy="restart", text="done"),
    entry_at(99, K.VERIFIED, remedy="restart", sec=4.0),
    entry_at(399, K.RESOLVED, reason="healed", sec=99.0),
]
OTHER = {"incident": "shop.x:y", "svc": "shop"}
ESCALATED = [
    entry_at(1, K.OPENED, reason="degraded", severity="info", **OTHER),
    entry_at(2, K.ESCALATED, reason="exhausted", **OTHER),
]


EVIDENCE = OutageEvidence(
    svc="feed",
    incident=HEALED[0].incident,
    ts=HEALED[0].ts,
    step="intended restart",
    facts={"health": "down", "down_sec": 1.5},
    readings={"process_cpu": 99.0},
    packed_log=pack_log("one\ntwo"),
)


def typed(entries, first=1, stream="medic:incidents"):
    """Return entries as archive has them from the stream, with the ids that Redis would give them."""
    kind, make = STREAMS[stream]
    found = []
    for number, each in enumerate(entries, first):
        ident = b"1793000000000-%d" % number
        row, _ = make(ident, {b"entry": each.encode()})
        found.append(TypedEntry(stream, ident, kind, row))
    return found


def typed_alerts(*events):
    _, make = STREAMS["healer:alerts:log"]
    rows = [make(b"1-%d" % at, {b"event": orjson.dumps(each)})[0] for at, each in enumerate(events)]
    return [TypedEntry("healer:alerts:log", b"1-1", ALERT_TABLE, row) for row in rows]


async def write(url, *batches):
    database = Database(url)
    for batch in batches:
        assert await Writer(database).write(batch) == []
    await database.aclose()


async def read_diagnoses(url, incident):
    """Return the diagnoses of an outage that the board finds in an archive."""
    archive = ArchiveReader(url)
    try:
        return await ArchivedDiagnoses(archive).read(incident)
    finally:
        await archive.close()


def rows_of(url, sql=LAST_DAY, names=COLUMNS):
    return {row[0]: dict(zip(names, row, strict=True)) for row in query(url, sql)}


def test_archive_stores_what_the_medic_recorded_and_skips_what_it_did_not(tmp_path, archive_url):
    with Scene(tmp_path) as scene:
        bad = [b"[]", b'{"incident": "a b"}', HEALED[0].encode().replace(b"feed", b"fe\\u0000d")]
        ahead = entry_at(9e8, K.OPENED, incident="far.1").encode()
        for raw in [*bad, ahead, b"x" * 20_000, *(each.encode() for each in HEALED + ESCALATED)]:
            scene.system.cmd("XADD", "medic:incidents", "*", "entry", raw)
        scene.system.cmd("XADD", "medic:incidents", "*", "other", "field")
        for raw in (b"{}", EVIDENCE.encode(), b"x" * 20_000):
            scene.system.cmd("XADD", "medic:evidence", "*", "entry", raw)
        section = {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 10.0}, "settings": {"claim_sec": 0.1}}
        seed(scene.buses, {"services": {"archive": section}}, 1)
        agent = scene.module("services.archive", DATABASE_URL=archive_url)
        until(lambda: len(query(archive_url, "SELECT 1 FROM incident_events")) == 10, 60, what=agent.text)
        until(lambda: scene.system.cmd("XLEN", "archive:dead") == 8, what=agent.text)
        assert scene.system.cmd("XINFO", "GROUPS", "medic:incidents") == []
        assert agent.stop() == 0
        # another instance, or one whose position is lost, reads all of it again
        scene.system.cmd("DEL", "archive:positions")
        agent = scene.module("services.archive", DATABASE_URL=archive_url)
        until(lambda: scene.system.cmd("HLEN", "archive:positions"), 60, what=agent.text)
        assert agent.stop() == 0
    known = "SELECT m.container_name, e.step, e.facts ->> 'health', e.log FROM monitor_incidents m "
    known += "JOIN incident_evidence e ON e.incident = m.id"
    assert query(archive_url, known) == [("feed", "intended restart", "down", "one\ntwo")]
    found = rows_of(archive_url)
    assert found.keys() == {HEALED[0].incident, "shop.x:y"}
    healed = found[HEALED[0].incident]
    times = (healed["timestamp"].timestamp(), healed["resolved_at"].timestamp())
    assert times == pytest.approx((NOW + 30, NOW + 399), abs=0.01)
    assert [healed[name] for name in COLUMNS[2:10]] == [
        *("feed", "silent", "critical", 2, ["restart"], False, "healed", "verified restart"),
    ]
    assert healed["resolution_time_seconds"] == 99.0
    assert [found["shop.x:y"][name] for name in COLUMNS[5:10]] == [
        *(0, [], True, "escalated", "escalated: exhausted"),
    ]


def test_each_diagnosis_is_kept_with_its_incident_and_one_that_cannot_be_is_set_aside(archive_url):
    kind, make = STREAMS["medic:incidents"]
    entry, other = (entry_at(5, K.DIAGNOSED, text="said", **of) for of in ({}, OTHER))

    def make_diagnosis(of, **more):
        told = {"ts": NOW, "reason": "exhausted", "text": "Full.\0", **of, **more}
        return DiagnosisRecord(**told)

    found = []
    pairs = [(entry, make_diagnosis(FEED, patch="-a\n+b")), (other, make_diagnosis(OTHER, patch="é" * 8000))]
    for number, (said, record) in enumerate(pairs, 1):
        ident = b"1793000000001-%d" % number
        row, _ = make(ident, {b"entry": said.encode(), b"diagnosis": record.encode()})
        found.append(TypedEntry("medic:incidents", ident, kind, row))
    asyncio.run(write(archive_url, typed(HEALED + ESCALATED), found))
    known = "SELECT incident, diagnosis ->> 'text', diagnosis ->> 'patch' FROM incident_events "
    rows = query(archive_url, known + "WHERE diagnosis IS NOT NULL ORDER BY incident")
    assert rows == [(FEED["incident"], "Full.�", "-a\n+b"), ("shop.x:y", "Full.�", "é" * 8000)]
    shown = asyncio.run(read_diagnoses(archive_url, FEED["incident"]))
    assert [(each.text, each.patch, each.ts) for each in shown] == [("Full.�", "-a\n+b", round(NOW, 3))]
    assert asyncio.run(read_diagnoses(None, FEED["incident"])) == []
    for raw in (b"[]", make_diagnosis(OTHER).encode(), b'{"text": "%s"}' % (b"x" * 66_000)):
        with pytest.raises(EntryError):
            make(b"1-1", {b"entry": entry.encode(), b"diagnosis": raw})


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_the_operators_query_works_as_it_is_typed(archive_url):
    asyncio.run(write(archive_url, typed(HEALED)))
    done = subprocess.run(
        ["psql", archive_url, "--csv", "-c", LAST_DAY],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split(",") == COLUMNS
    assert ",feed,silent,critical,2,{restart},f,healed," in row


def make_story(chance):
    """Return entries of a few incidents as they may come, in the order of the stream."""
    whats = [kind for kind in K if kind is not K.OPENED]
    found = []
    for number in range(4):
        of = {"incident": f"svc{number}.{round(1000 * NOW) + number}", "svc": f"svc{number}"}
        story = [entry_at(number, K.OPENED, reason="silent", severity="warning", **of)]
        for step in range(chance.randrange(8)):
            what = chance.choice(whats)
            remedy = chance.choice(("restart", "cache")) if what is K.ACTED else ""
            reason = "healed" if what is K.RESOLVED else ""
            story.append(entry_at(number + step + 1, what, remedy=remedy, reason=reason, sec=step, **of))
        found += story
    chance.shuffle(found)
    return found


@pytest.mark.parametrize("number", range(6))
def test_rows_say_what_the_command_says_of_the_same_entries(archive_url, number):
    chance = random.Random(number)
    story = make_story(chance)
    batches = typed(story)
    again = chance.sample(batches, len(batches))
    cut = chance.randrange(1, len(batches))
    asyncio.run(write(archive_url, again[:cut], again[cut:], again[: cut + 3], batches))
    found = rows_of(archive_url)
    for each in fold_incidents(story):
        row = found.pop(each.id)
        assert row["resolution_status"] == each.resolution
        assert row["resolution_details"] == each.details
        assert row["issue_type"] == next(one.reason for one in each.timeline if one.what is K.OPENED)
        assert row["healing_attempts"] == len(each.remedies())
        assert row["healing_strategies_tried"] == list(dict.fromkeys(each.remedies()))
        assert row["escalated"] == any(one.what is K.ESCALATED for one in each.timeline)
        assert row["resolution_time_seconds"] == (None if each.end is None else each.end.sec)
    assert not found


ALERTS = "SELECT id, type, severity, count, action_taken, escalated, resolved, resolved_at FROM alerts"
ALERT_COLUMNS = ["id", "type", "severity", "count", "action_taken", "escalated", "resolved", "resolved_at"]


def alert(kind, svc, sec):
    return {"type": kind, "svc": svc, "ts": NOW + sec, "id": f"{kind}.{svc}.{sec}"}


def test_each_alert_says_how_often_it_came_and_what_was_done(archive_url, postgres, tmp_path):
    alerts = typed_alerts(
        alert("heartbeat_miss", "feed", 30) | {"reason": "stopped", "detail": "out of memory"},
        alert("heartbeat_ok", "feed", 99),
        alert("heartbeat_miss", "shop", 30),
        alert("heartbeat_miss", "shop", 40),
        alert("bus_miss", "market-redis", 5) | {"reason": ["x"], "detail": {}},
        alert("bus_unwatched", "market-redis", 4),
        alert("reach_gap", "healer", 5),
        alert("monitor_miss", "medic", 7) | {"severity": "critical"},
        alert("monitor_miss", "shop/disk", 8) | {"severity": ["critical"]},
    )
    asyncio.run(write(archive_url, alerts[:3], alerts, typed(HEALED + ESCALATED), alerts, alerts[1:]))
    found = rows_of(archive_url, ALERTS, ALERT_COLUMNS)
    named = 'SELECT "timestamp", alert_type, container_name, message FROM alerts WHERE id = $1'
    [[at, *words]] = query(archive_url, named, "heartbeat_miss.feed.30")
    assert at.timestamp() == pytest.approx(NOW + 30, abs=0.01)
    assert words == ["heartbeat_miss", "feed", "feed: heartbeat_miss (stopped); out of memory"]
    [[hostile]] = query(archive_url, "SELECT message FROM alerts WHERE id = $1", "bus_miss.market-redis.5")
    assert hostile == "market-redis: bus_miss"
    healed = found["heartbeat_miss.feed.30"]
    assert [healed[name] for name in ALERT_COLUMNS[1:7]] == [
        *("heartbeat_miss", "critical", 1, "restart", False, True),
    ]
    assert healed["resolved_at"].timestamp() == pytest.approx(NOW + 99, abs=0.01)
    open_one = found["heartbeat_miss.shop.40"]
    assert [open_one[name] for name in ALERT_COLUMNS[2:]] == ["info", 2, None, True, False, None]
    assert [found["bus_miss.market-redis.5"][name] for name in ("severity", "resolved")] == [
        "critical",
        False,
    ]
    assert [found["reach_gap.healer.5"][name] for name in ("severity", "resolved")] == ["info", None]
    severities = [found[f"monitor_miss.{name}"]["severity"] for name in ("medic.7", "shop/disk.8")]
    assert severities == ["critical", "warning"]  # the rule's own, and that of a miss
    assert sum(row[0] for row in query(archive_url, "SELECT count FROM alert_counts")) == len(alerts)
    # what was counted is restored as it was, and not counted again
    made = asyncio.run(make_backup(archive_url, tmp_path / "backups", NOW, postgres.programs))
    assert made.tables["alert_counts"].rows == 8
    asyncio.run(verify_backup(archive_url, tmp_path / "backups" / made.file, postgres.programs))


RULED = {
    "services": {
        "feed": {},
        "archive": {},
        "massive": {"settings": {"targets": [{"name": "page", "depends_on": ["feed"]}]}},
    }
}
LOST = {"incident": f"archive.{round(1000 * NOW)}", "svc": "archive"}
FOUND = {
    "feed": "medic/degraded/feed medic/restarts/feed medic/escalated/feed medic/new_errors/feed",
    "archive": "medic/database_memory/database medic/database_lag/archive medic/backup/archive",
    "": "medic/disk/host medic/slow/page medic/sources/all medic/fuse/fleet medic/bus_memory/market-redis",
}


def test_an_alert_of_a_rule_says_what_was_done_about_the_service_it_is_about(archive_url):
    truth = parse_truth(orjson.dumps(RULED)).truth
    published = [f"medic/{name}" for name in list_pairs(SHIPPED, truth)]
    lost = [
        entry_at(20, K.OPENED, reason="alert", severity="info", **LOST),
        entry_at(25, K.ACTED, remedy="reconnect", text="done", **LOST),
        entry_at(26, K.ESCALATED, reason="exhausted", **LOST),
    ]
    alerts = [alert("monitor_miss", name, 50) | {"severity": "warning"} for name in published]
    asyncio.run(write(archive_url, typed_alerts(*alerts), typed([*HEALED, *lost])))
    found = rows_of(archive_url, ALERTS, ALERT_COLUMNS)
    done = {
        name: tuple(found[f"monitor_miss.{name}.50"][one] for one in ("action_taken", "escalated"))
        for name in published
    }
    for svc, expected in (
        ("feed", ("restart", False)),
        ("archive", ("reconnect", True)),
        ("", (None, False)),
    ):
        assert {name: done[name] for name in FOUND[svc].split()} == dict.fromkeys(
            FOUND[svc].split(), expected
        )
    assert {each["severity"] for each in found.values()} == {"warning"}  # that of each rule


def test_an_outage_may_begin_a_minute_after_the_alert_of_a_rule_and_no_later(archive_url):
    alerts = typed_alerts(
        *(alert("monitor_miss", "medic/memory_high/feed", sec) for sec in (-61, -59, 398, 400)),
        alert("monitor_miss", "feed", -59),
        alert("heartbeat_miss", "feed", -1),
        alert("heartbeat_miss", "medic/memory_high/feed", 30),
        alert("monitor_miss", "medic/feed", 30),
    )
    asyncio.run(write(archive_url, alerts, typed(HEALED)))
    found = rows_of(archive_url, ALERTS, ALERT_COLUMNS)
    assert {name for name, row in found.items() if row["action_taken"]} == {
        *("monitor_miss.medic/memory_high/feed.-59", "monitor_miss.medic/memory_high/feed.398"),
        "monitor_miss.feed.-59",
    }
    # such an alert has no severity of its own, so it has that of the outage
    assert found["monitor_miss.medic/memory_high/feed.398"]["severity"] == "critical"


async def test_what_is_too_old_goes_with_its_entries_and_its_alerts_stay_counted(archive_url, connection):
    alerts = typed_alerts(alert("heartbeat_miss", "feed", 30))
    await write(archive_url, typed(HEALED), typed([EVIDENCE], stream="medic:evidence"), alerts)
    changed = await connection.fetchval("SELECT changed_at FROM incidents")
    for table in ("incidents", "alerts", "alert_counts"):
        await delete_expired(connection, table, changed - timedelta(days=2))
    assert await connection.fetchval("SELECT count(*) FROM incident_events") == len(HEALED)
    for table in ("incidents", "incident_evidence", "alerts"):
        await delete_expired(connection, table, changed + timedelta(seconds=1))
    left = [await connection.fetchval(f"SELECT count(*) FROM {name}") for name in LEFT]  # noqa: S608 - our own names
    assert left == [0, 0, 0, 0, 1]


LEFT = ("incidents", "incident_events", "incident_evidence", "alert_log", "alert_counts")


def test_rows_that_postgres_would_refuse_are_the_only_ones_that_are_not_written(archive_url):
    good = typed(HEALED)
    wrong = good[3]._replace(id=b"7-7", row=good[3].row._replace(id="7-7", incident="a b"))

    async def write_all():
        database = Database(archive_url)
        refused = await Writer(database).write([*good, wrong])
        await database.aclose()
        return [entry for entry, _ in refused]

    assert asyncio.run(write_all()) == [wrong]
    assert len(query(archive_url, LAST_DAY)) == 1
