"""The medic has a real archive repeat a backup that failed, and verifies it by the new one."""

import time

import orjson

from marketswarm.operator.healing import TimelineEntry
from services.archive.backup import list_backups
from support.rig import Fleet
from support.waiting import until

BEATS = {"heartbeat": {"interval_sec": 0.3, "timeout_sec": 3}}
MEDIC = {"mode": "propose", "every_sec": 0.2, "wait_sec": 0.2, "stable_sec": 1, "start_grace_sec": 0.1}


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

        def entries():
            found = fleet.system.cmd("XRANGE", "medic:incidents", "-", "+")
            return [TimelineEntry.parse(fields["entry"].encode()) for _, fields in found]

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
        assert len(list_backups(folder)) == 1
        assert len(fleet["archive"].logs("backup.requested")) == 1
