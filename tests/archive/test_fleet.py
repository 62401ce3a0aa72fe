"""`marketswarm up` with an archive and a board: a PostgreSQL of its own, and who is given which role."""

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from support.postgres import query
from support.rig import Proc, free_port
from support.rig.process import descendants
from support.rig.shell import Shell
from support.waiting import until

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for children in /proc")


def environ_of(pid):
    """Return the environment that a process was started with."""
    pairs = (pair.partition("=") for pair in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return {name: value for name, _, value in pairs}


def pids_of(fleet, name):
    return [pid for pid, line in descendants(fleet.pid) if f"-m services.{name} " in f"{line} "]


def test_archive_stores_as_the_owner_and_the_board_reads_as_a_role_that_can_not_write(tmp_path):
    beats = {"heartbeat": {"interval_sec": 0.5}}
    shell = Shell(tmp_path)
    shell.write({"services": {"archive": beats, "board": beats}})
    ports = "--port", str(free_port())
    fleet = Proc("marketswarm", {"BOARD_PORT": str(free_port())}, tmp_path, "up", *ports)
    try:
        fleet.wait_log("fleet.up", 60)
        urls = {}
        for name in ("archive", "board"):
            shell.said("stop", name)
            shell.said("start", name)  # not by fork any more: /proc shows the environment of this process
            # one look: a process that becomes another program has no line for a moment
            pid = until(lambda name=name: len(pids := pids_of(fleet, name)) == 1 and pids[0], what=name)
            urls[name] = Path(environ_of(pid)["DATABASE_URL_FILE"]).read_text().strip()
        assert {name: urlsplit(url).username for name, url in urls.items()} == {
            "archive": "marketswarm",
            "board": "marketswarm_reader",
        }
        is_there = "SELECT to_regclass('bars') IS NOT NULL"
        until(lambda: query(urls["archive"], is_there) == [(True,)], what=fleet.text)
        assert query(urls["board"], "SELECT count(*) FROM bars") == [(0,)]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            query(urls["board"], "DELETE FROM bars")
    finally:
        assert fleet.stop(15) == 0, fleet
