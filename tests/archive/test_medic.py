"""The medic has a real archive repeat a backup that failed, and verifies it by the new one."""

import asyncio
import contextlib
import time
from functools import partial

import asyncpg
import orjson

from marketswarm.operator.healing import TimelineEntry
from services.archive.backup import list_backups
from support.postgres import query
from support.rig import Fleet
from support.waiting import until

BEATS = {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 3}}
MEDIC = {"mode": "propose", "every_sec": 0.2, "wait_sec": 0.2, "stable_sec": 1, "start_grace_sec": 0.1}
IDLE = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND state = 'idle in transaction' AND clock_timestamp() - state_change > interval '1 s'"
)


def read_timeline(fleet):
    found = fleet.system.cmd("XRANGE", "medic:incidents", "-", "+")
    return [TimelineEntry.parse(fields["entry"].encode()) for _, fields in found]


def test_a_backup_that_failed_is_made_again_before_its_time_and_verified(postgres, archive_url, tmp_path):
    settings = {**MEDIC, "degraded_sec": 0.5, "targets": {"archive": {"ladder": ["repeat_backup"]}}}
    document = {"services": {"healer": BEATS, "archive": BEATS, "medic": {**BEATS, "settings": settings}}}
    folder = tmp_path / "backups"
    folder.write_text("a file where the folder should be")
    env = {
        "DATABASE_URL": archive_url,
        "POSTGRES_BIN": str(postgres.programs),
        "ARCHIVE_BACKUP_FOLDER": str(folder),
    }
    with Fleet(tmp_path, document, ["healer", "medic", "archive"], env, tail=False) as fleet:
        entries = partial(read_timeline, fleet)

        def proposal():
            return next((each.proposal for each in entries() if each.what == "proposed"), None)

        ident = until(proposal, what=lambda: (entries(), fleet["archive"].text()))
        folder.unlink()
        approval = orjson.dumps({"id": ident, "by": "ann", "ts": time.time()})
        fleet.system.cmd("HSET", "medic:approvals", ident, approval)
        until(lambda: entries()[-1].what == "resolved", what=entries)
        told = [f"{each.what} {each.remedy} {each.reason}".rstrip() for each in entries()]
        assert told[-5:] == [
            "approved repeat_backup",
            "intended repeat_backup",
            "acted repeat_backup",
            "verified repeat_backup",
            "resolved  healed",
        ]
        assert len(list_backups(folder, time.time())) == 1
        assert len(fleet["archive"].logs("backup.requested")) == 1


def test_the_rules_hear_of_the_database_from_archive_and_while_it_hangs_of_the_lag_alone(
    breakable_postgres, archive_url, tmp_path
):
    rules = {
        "used": {"metric": "database_connections", "above": 0},
        "old": {"metric": "table_age", "table": "alert_log", "below": 3600},
        "lag": {"metric": "database_lag", "above": 1, "services": ["archive"]},
    }
    settings = {"shipped_rules": False, "rules_every_sec": 1, "rules": rules}
    archive = {**BEATS, "settings": {"database_timeout_sec": 2}}
    document = {"services": {"healer": BEATS, "archive": archive, "medic": {**BEATS, "settings": settings}}}
    env = {"DATABASE_URL": archive_url, "POSTGRES_BIN": str(breakable_postgres.programs)}
    with Fleet(tmp_path, document, ["healer", "medic", "archive"], env, tail=False) as fleet:

        def reasons(kind="monitor_miss"):
            entries = fleet.system.cmd("XRANGE", "medic:alerts", "-", "+")
            events = [orjson.loads(fields["event"]) for _, fields in entries]
            return {each["svc"]: each.get("reason") for each in events if each["type"] == kind}

        def explain():
            return reasons(), fleet.system.cmd("GET", "archive:database"), fleet["archive"].text()

        until(lambda: len(reasons()) == 2, 60, what=explain)
        assert sorted(reasons()) == ["medic/old/database", "medic/used/database"]
        breakable_postgres.freeze()
        until(lambda: fleet["archive"].logs("database.away"), 60, what=fleet["archive"].text)

        def is_behind():
            fleet.market.cmd("XADD", "market:downloads", "*", "source", "x")  # the first may be in hand
            return "medic/lag/archive" in reasons()

        until(is_behind, 90, what=explain)
        assert reasons()["medic/lag/archive"].startswith("database_lag ")
        report = orjson.loads(fleet.system.cmd("GET", "archive:database"))
        assert (report["connections"], report["table_ages"]) == (None, {})
        assert reasons("monitor_ok") == {}, "what is not known ends nothing"


def test_sessions_that_use_up_all_connections_are_ended_by_a_reconnect_that_is_verified_and_done_once(
    postgres, archive_url, tmp_path
):
    rules = {
        "full": {"metric": "database_connections", "above": 80, "severity": "critical", "clear_sec": 0},
    }
    ladder = {"archive": {"ladder": ["reconnect"]}}
    settings = {"shipped_rules": False, "rules_every_sec": 1, "rules": rules, "targets": ladder}
    settings |= {**MEDIC, "mode": "act"}
    archive = {**BEATS, "settings": {"end_idle_sec": 1}}
    document = {"services": {"healer": BEATS, "archive": archive, "medic": {**BEATS, "settings": settings}}}
    env = {"DATABASE_URL": archive_url, "POSTGRES_BIN": str(postgres.programs)}
    with Fleet(tmp_path, document, ["healer", "medic", "archive"], env, tail=False) as fleet:
        entries = partial(read_timeline, fleet)

        def explain():
            return [str(each) for each in entries()], fleet["archive"].text()[-2000:]

        until(lambda: fleet.system.cmd("EXISTS", "archive:database"), what=explain)
        with use_up_connections(archive_url) as count:
            request = until(lambda: fleet.system.cmd("GET", "archive:reconnect:request"), what=explain)
            until(lambda: entries() and entries()[-1].what == "resolved", what=explain)
            # what has been told to end may take a moment on a busy machine
            until(lambda: query(archive_url, IDLE) == [(0,)], what=lambda: query(archive_url, IDLE))
        told = [f"{each.what} {each.remedy} {each.reason}".rstrip() for each in entries()]
        assert told == [
            "opened  alert",
            "waiting wait",
            *("intended reconnect", "acted reconnect", "verified reconnect", "resolved  healed"),
        ]
        (done,) = fleet["archive"].logs("remedy.followed")
        assert (done["result"], done["ended"]) == ("done", count)
        report = orjson.loads(fleet.system.cmd("GET", "archive:reconnect"))
        assert (report["request"], report["result"]) == (orjson.loads(request)["id"], "done")
        assert fleet.system.cmd("GET", "archive:reconnect:request") == request
        assert len(fleet["archive"].logs("remedy.requested")) == 1, "while it was still there"


@contextlib.contextmanager
def use_up_connections(url):
    """Have sessions like archive's idle in a transaction until the server takes no more; yield how many."""
    with asyncio.Runner() as runner:
        opened = []

        async def open_one():
            opened.append(await asyncpg.connect(url, server_settings={"application_name": "archive"}))
            await opened[-1].execute("BEGIN")

        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            for _ in range(200):
                runner.run(open_one())
        try:
            yield len(opened)
        finally:
            for each in opened:
                each.terminate()
