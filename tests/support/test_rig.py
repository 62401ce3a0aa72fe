"""Servers, wires, tails and programs of the rig do what a test asks, and say when it did not happen."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.rig import AlertTail, Proc, Server, TcpProxy
from support.rig.process import alive, descendants
from support.waiting import auntil, until

pytestmark = pytest.mark.live


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "bus", maxmemory="3mb") as server:
        yield server


def patient(url: str, sec: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=sec,
        socket_connect_timeout=sec,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


def test_a_server_is_killed_restarted_with_its_data_frozen_and_thawed(server):
    port, pid = server.port, server.pid
    server.cmd("SET", "k", "v")
    server.kill()
    assert (server.exit_code, alive(pid)) == (-9, False)
    server.restart()
    assert (server.port, server.cmd("GET", "k")) == (port, "v")
    assert server.cmd("CONFIG", "GET", "maxmemory") in ({"maxmemory": "3145728"}, ["maxmemory", "3145728"])
    server.freeze()
    with pytest.raises(redis.TimeoutError):
        server.cmd("PING", within=0.2)
    server.thaw()
    assert server.cmd("PING") in ("PONG", True)


SLOW_DISK = "#include <unistd.h>\nint fdatasync(int file) { (void)file; return usleep(1500 * 1000); }\n"


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a compiler, for a disk that is slow")
@pytest.mark.parametrize(("policy", "is_kept"), [({}, True), ({"appendfsync": "everysec"}, False)])
def test_a_killed_server_keeps_what_it_has_answered_though_its_disk_is_slow(
    tmp_path, monkeypatch, policy, is_kept
):
    """With `everysec`, as we ship it, it answers before it writes while an earlier write is under way."""
    (tmp_path / "slow.c").write_text(SLOW_DISK)
    slow = tmp_path / "slow.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", slow, tmp_path / "slow.c"], check=True)
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(slow))
        server = Server(tmp_path / "bus", **policy)
    with server:
        begun = time.monotonic()

        def is_syncing():
            server.cmd("SET", "before", "v")
            is_pending = server.cmd("INFO", "persistence")["aof_pending_bio_fsync"]
            return is_pending or (is_kept and time.monotonic() > begun + 2)  # it would have begun by then

        until(is_syncing, what="a write that is on its way to the disk")
        server.cmd("SET", "k", "v")
        server.kill()
        server.start()
        assert server.cmd("GET", "k") == ("v" if is_kept else None)


def test_a_muted_connection_that_said_nothing_meanwhile_is_heard_again_after_that(server):
    with TcpProxy(server.port) as wire, patient(wire.url, 2.0) as client:
        client.set("k", "v")
        assert wire.mute(direction="up") == 1
        wire.heal()
        assert client.get("k") == "v"


def test_a_wire_cuts_swallows_delays_refuses_and_heals(server):
    with TcpProxy(server.port) as wire, patient(wire.url, 0.5) as client:
        client.set("k", "v")
        assert wire.cut() == 1
        assert client.get("k") == "v"
        wire.swallow(direction="down")
        with pytest.raises(redis.TimeoutError):
            client.set("k", "arrived")
        until(lambda: server.cmd("GET", "k") == "arrived")
        wire.swallow(only=b"arrived")
        with pytest.raises(redis.TimeoutError):
            client.set("other", "arrived")
        assert server.cmd("GET", "other") is None
        wire.heal()
        assert client.ping()
        wire.delay(0.1)
        begun = time.monotonic()
        client.ping()
        assert time.monotonic() - begun >= 0.2
        wire.refuse()
        with pytest.raises(redis.ConnectionError):
            client.ping()


def test_a_tail_tells_what_was_published_and_outlives_a_restart(server):
    with AlertTail(server.url) as tail:
        server.cmd("PUBLISH", "healer:alerts", '{"type":"heartbeat_miss","svc":"a"}')
        assert tail.wait("heartbeat_miss", "a") == {"type": "heartbeat_miss", "svc": "a"}
        assert tail.at("heartbeat_miss", "a") <= time.monotonic()
        server.kill()
        server.start()
        until(lambda: tail.subscriptions == 2, what="second subscription")
        server.cmd("PUBLISH", "healer:alerts", '{"type":"heartbeat_ok","svc":"a"}')
        tail.wait("heartbeat_ok", "a")
        assert (len(tail.of()), len(tail.of("heartbeat_ok")), tail.of(svc="b")) == (2, 1, [])
        with pytest.raises(AssertionError):
            tail.wait("heartbeat_gap", "a", 0.05)


def test_a_process_that_ends_while_it_is_looked_at_hides_none_of_its_siblings(monkeypatch):
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    read_bytes, gone = Path.read_bytes, f"/proc/{children[0].pid}/cmdline"

    def read(path):
        if str(path) == gone:
            raise ProcessLookupError
        return read_bytes(path)

    try:
        monkeypatch.setattr(Path, "read_bytes", read)
        found = {pid for pid, _ in descendants(os.getpid())}
        assert {each.pid for each in children} & found == {each.pid for each in children[1:]}
    finally:
        for each in children:
            each.kill()
            each.wait()


async def test_a_program_is_read_and_waiting_for_what_never_comes_fails(tmp_path):
    (tmp_path / "talker.py").write_text(
        "import json, os, sys, time\ne = sys.stderr\n"
        "print('no json', json.dumps({'event': 'hello', 'who': os.environ['WHO']}), sep='\\n', file=e)\n"
        "sys.exit(4) if 'now' in sys.argv else time.sleep(60)\n"
    )
    with Proc("talker", {"WHO": "me"}, tmp_path) as talker:
        assert talker.wait_log("hello") == {"event": "hello", "who": "me"}
        assert await auntil(lambda: talker.running)
        assert talker.stop() == -15
    with Proc("talker", {"WHO": "me"}, tmp_path, "now") as talker:
        assert talker.wait() == 4
        with pytest.raises(AssertionError, match="exit code 4"):
            talker.wait_log("never", 0.2)
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: pigs to fly"):
        await auntil(lambda: False, 0.05, "pigs to fly")
    with pytest.raises(AssertionError, match="pigs to fly"):
        until(lambda: False, 0.05, "pigs to fly")
