"""A truth is rolled back on a real fleet with users: every agent follows it, and nothing is restarted."""

import contextlib

import orjson
import pytest

from support.rig import Proc, free_port
from support.rig.shell import Shell
from support.waiting import until

pytestmark = pytest.mark.live

BEATS = {"interval_sec": 0.4, "timeout_sec": 10}
SERVICES = {
    "rss_agg": {"heartbeat": BEATS, "endpoints": [], "settings": {"poll_sec": 1}},
    "mesh": {"heartbeat": BEATS},
    "healer": {"heartbeat": BEATS, "threshold": {"heartbeat_cadence": 10}},
    "sentinel": {"heartbeat": BEATS},
}
FIRST = {"services": SERVICES}
SECOND = {
    "services": {**SERVICES, "mesh": {"heartbeat": BEATS, "tags": ["new"]}, "later": {"heartbeat": BEATS}}
}


@pytest.fixture
def shell(tmp_path):
    shell = Shell(tmp_path)
    shell.write(FIRST)
    ports = ("--port", str(free_port()), "--board-port", str(free_port()))
    with Proc("marketswarm", {}, tmp_path, "up", "--acl", *ports) as up, contextlib.ExitStack() as ends:
        up.wait_log("fleet.up", 40)
        yield shell
        ends.callback(up.stop, 20)


def rows(shell):
    return {row["svc"]: row for row in orjson.loads(shell.said("status", "--json"))["services"]}


def followed(shell, revision: int) -> bool:
    shown = shell("status", "--json")
    if shown.returncode != 0:
        return False
    services = orjson.loads(shown.stdout)["services"]
    return {row["rev"] for row in services if row["svc"] in SERVICES} == {revision}


def user_names(shell) -> set[str]:
    lines = (shell.folder / ".marketswarm" / "system-redis" / "users.acl").read_text().splitlines()
    return {line.split()[1] for line in lines}


def test_every_agent_follows_a_rollback_and_users_do_too(shell):
    until(lambda: followed(shell, 1), what="the first revision")
    boots = {svc: rows(shell)[svc]["boot"] for svc in SERVICES}
    shell.write(SECOND)
    assert "is revision 2 on" in shell.said("seed")
    until(lambda: followed(shell, 2), what="the second revision")
    assert "later" in user_names(shell)

    said = shell.said("truth", "rollback", "1", "--yes")
    assert "\n  - later\n" in said
    assert "revision 1, seeded again, is revision 3 on system-redis and market-redis" in said
    assert "users and passwords follow it" in said
    until(lambda: followed(shell, 3), what="every agent to follow")
    assert {svc: rows(shell)[svc]["boot"] for svc in SERVICES} == boots
    assert "later" not in rows(shell)
    assert "later" not in user_names(shell)
    shown = orjson.loads(shell.said("truth", "history", "--json"))["revisions"]
    assert [(one["revision"], one["in_force"]) for one in shown] == [(3, True), (2, False), (1, False)]
    assert shown[0]["sha256"] == shown[2]["sha256"]
    assert shown[2]["seeded_by"]
