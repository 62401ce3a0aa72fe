import asyncio
import gc
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.rig import AlertTail, Proc, Server, TcpProxy
from support.rig.process import HOST, alive
from support.waiting import auntil, until

pytestmark = pytest.mark.live


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "bus") as server:
        yield server


def patient(url: str, sec: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=sec,
        socket_connect_timeout=sec,
        decode_responses=True,
        retry=Retry(NoBackoff(), 0),
    )


def test_a_server_keeps_its_data_and_port_over_kill_and_restart(server):
    port = server.port
    server.cmd("SET", "k", "v")
    server.kill()
    assert server.exit_code == -9
    server.restart()
    assert (server.port, server.cmd("GET", "k")) == (port, "v")


def test_a_server_starts_within_a_second(tmp_path):
    took_sec = []
    for name in "abcde":  # the best of some, on a machine with other things to do
        begun = time.monotonic()
        with Server(tmp_path / name):
            took_sec.append(time.monotonic() - begun)
    assert min(took_sec) < 1


def test_a_frozen_server_says_nothing_until_thawed(server):
    server.freeze()
    with pytest.raises(redis.TimeoutError):
        server.cmd("PING", within=0.2)
    server.thaw()
    assert server.cmd("PING") in ("PONG", True)


def test_directives_reach_the_server(tmp_path):
    with Server(tmp_path / "bus", maxmemory="3mb", client_output_buffer_limit="pubsub 1mb 1mb 1") as server:
        assert server.cmd("CONFIG", "GET", "maxmemory") in (
            {"maxmemory": "3145728"},
            ["maxmemory", "3145728"],
        )


def test_a_server_dies_with_the_process_that_started_it(tmp_path):
    script = (
        "import sys; from pathlib import Path; from support.rig import Server\n"
        f"s = Server(Path({str(tmp_path / 'bus')!r})); print(s.pid, flush=True); sys.stdin.read()"
    )
    here = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n{script}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid), 2, "the server to follow its parent")


def test_a_cut_wire_resets_what_is_open_and_passes_what_comes(server):
    with TcpProxy(server.port) as wire, patient(wire.url) as client:
        client.set("k", "v")
        assert wire.cut() == 1
        assert client.get("k") == "v"


def test_a_swallowing_wire_takes_bytes_and_gives_none(server):
    with TcpProxy(server.port) as wire, patient(wire.url) as client, patient(wire.url) as listener:
        pubsub = listener.pubsub()
        pubsub.subscribe("c")
        until(pubsub.get_message, 1, "subscribed")
        wire.swallow(only=b"subscribe")
        client.publish("c", "lost")
        assert pubsub.get_message(timeout=0.2) is None
        wire.swallow()
        with pytest.raises(redis.TimeoutError), patient(wire.url, 0.3) as hasty:
            hasty.ping()
        wire.heal()
        assert client.ping()
        pubsub.close()


def test_a_wire_can_lose_one_direction_only(server):
    with TcpProxy(server.port) as wire, patient(wire.url, 1.0) as client:
        client.ping()
        wire.swallow(direction="down")
        with pytest.raises(redis.TimeoutError):
            client.set("k", "arrived")
        until(lambda: server.cmd("GET", "k") == "arrived")


def test_a_wire_that_is_closed_while_clients_come_leaves_no_socket_open(server):
    clients = []
    for _ in range(10):
        with TcpProxy(server.port) as wire:
            clients += [socket.create_connection((HOST, wire.port)) for _ in range(3)]
    for client in clients:
        client.close()
    del wire
    gc.collect()  # a socket that was left open is a warning now, and so a failure here


def test_a_wire_delays_and_refuses_and_heals(server):
    with TcpProxy(server.port) as wire, patient(wire.url) as client:
        client.ping()
        wire.delay(0.1)
        begun = time.monotonic()
        client.ping()
        assert time.monotonic() - begun >= 0.2
        wire.refuse()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        wire.heal()
        assert client.ping()


def test_a_tail_tells_type_service_and_time_and_outlives_a_restart(server):
    with AlertTail(server.url) as tail:
        server.cmd("PUBLISH", "healer:alerts", '{"type":"heartbeat_miss","svc":"a"}')
        assert tail.wait("heartbeat_miss", "a", 1) == {"type": "heartbeat_miss", "svc": "a"}
        assert tail.at("heartbeat_miss", "a") <= time.monotonic()
        server.kill()
        server.start()
        until(lambda: tail.subscriptions == 2, 3, "second subscription")
        server.cmd("PUBLISH", "healer:alerts", '{"type":"heartbeat_ok","svc":"a"}')
        tail.wait("heartbeat_ok", "a", 1)
        assert (len(tail.of()), len(tail.of("heartbeat_ok")), tail.of(svc="b")) == (2, 1, [])


def test_a_program_has_its_log_lines_read_and_its_exit_code_seen(tmp_path):
    (tmp_path / "talker.py").write_text(
        "import json, os, sys, time\ne = sys.stderr\n"
        "print('no json', json.dumps({'event': 'hello', 'who': os.environ['WHO']}), sep='\\n', file=e)\n"
        "sys.exit(4) if 'now' in sys.argv else time.sleep(60)\n"
    )
    with Proc("talker", {"WHO": "me"}, tmp_path) as talker:
        assert talker.wait_log("hello") == {"event": "hello", "who": "me"}
        assert talker.exit_code is None
        assert talker.stop() == -15
    with Proc("talker", {"WHO": "me"}, tmp_path, "now") as talker:
        assert talker.wait() == 4
        with pytest.raises(AssertionError, match="exit code 4"):
            talker.wait_log("never")


async def test_waiting_for_a_condition_ends_by_its_bound_and_says_for_what():
    done = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, done.set)
    assert await auntil(done.is_set, 1)
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: pigs to fly"):
        await auntil(lambda: False, 0.05, "pigs to fly")
    with pytest.raises(AssertionError, match="pigs to fly"):
        until(lambda: False, 0.05, "pigs to fly")
