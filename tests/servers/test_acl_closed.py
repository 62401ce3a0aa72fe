"""`default` switched off: nobody looks without a password, and all else goes on."""

import contextlib

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from marketswarm.access.passwords import close_default_user, format_acl_files, load_passwords
from marketswarm.access.users import user_names
from marketswarm.settings.programs import MonitorSettings
from marketswarm.truth import parse_truth
from support.rig import HOST, Proc, Server, free_port
from support.rig.shell import Shell
from support.scenes.faults import service

pytestmark = pytest.mark.live

TRUTH = parse_truth(b'{"services":{"rss_agg":{},"healer":{}}}').truth
BUS = "system-redis"
ASKED = (("PING",), ("GET", "truth:doc"), ("PUBSUB", "CHANNELS"), ("SUBSCRIBE", "rss_agg:heartbeat"))


def refused(port: int) -> list[tuple[str, ...]]:
    """What a stranger is not answered."""
    found, once = [], Retry(NoBackoff(), 0)
    for words in ASKED:
        with contextlib.closing(redis.Redis(HOST, port, retry=once)) as stranger:
            try:
                stranger.execute_command(*words)
            except redis.AuthenticationError:
                found.append(words)
    return found


def test_where_default_is_switched_off_nobody_looks_without_a_password(tmp_path):
    close_default_user(tmp_path / "secrets")
    known, _ = load_passwords(tmp_path / "secrets", user_names(TRUTH), make_missing=True)
    (tmp_path / "users.acl").write_text(
        format_acl_files(TRUTH, known, MonitorSettings(), ())[BUS], encoding="utf-8"
    )
    with Server(tmp_path, aclfile="users.acl") as server:
        server.password = known["default"]
        assert refused(server.port) == list(ASKED)
        operator = redis.Redis(HOST, server.port, username="operator", password=known["operator"])
        with contextlib.closing(operator):
            assert operator.ping()
        assert server.cmd("PUBSUB", "CHANNELS") == []  # with its password it looks, as before
        with pytest.raises(redis.exceptions.NoPermissionError):
            server.cmd("FLUSHALL")


def test_a_fleet_goes_on_without_a_default_and_stays_so(tmp_path):
    shell, port = Shell(tmp_path), free_port()
    shell.write({"services": {"mesh": service(), "healer": service()}})
    with Proc("marketswarm", {}, tmp_path, "up", "--acl", "--port", str(port), "--no-default") as up:
        up.wait_log("bus.ready", 60)
        assert up.stop(15) == 0
    with Proc("marketswarm", {}, tmp_path, "up", "--acl", "--port", str(port)) as up:  # it is kept
        up.wait_log("fleet.up", 60)
        assert refused(port) == refused(port + 1) == list(ASKED)
        assert "mesh" in shell.said("status")
        assert up.stop(15) == 0


def test_it_takes_users_to_have_none(tmp_path):
    said = Shell(tmp_path)("up", "--no-default")
    assert said.returncode == 2
    assert "--acl" in said.stderr
