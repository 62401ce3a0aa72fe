import re
import subprocess
import time
from pathlib import Path

import pytest
import redis

from marketswarm.fleet.limits import LIMITS, MAXMEMORY, bounded, memory_size, sized
from marketswarm.fleet.server import command, find_binary
from marketswarm.truth.parse import MAX_BYTES
from support.rig import HOST, Server, free_port
from support.rig.flood import limits_of_containers
from support.waiting import until


@pytest.mark.parametrize(("text", "size"), [("64mb", 64 << 20), ("1GB", 1 << 30), ("100m", 100_000_000)])
def test_a_size_is_written_as_redis_writes_it(text, size):
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "1mb", "-1gb", "1 gb", "1tb", "lots", "1gb;", "٣gb"])
def test_what_is_no_size_or_too_small_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="at least 64mb, such as 512mb"):
        memory_size(text)


def test_servers_in_containers_have_every_limit_that_embedded_ones_have():
    containers = limits_of_containers()
    embedded = {name.replace("-", "_"): value for name, value in LIMITS.items()}
    assert containers.keys() == embedded.keys()
    for limits in (containers, embedded, {**embedded, **sized("4gb")}):
        assert memory_size(limits["maxmemory_clients"]) * 2 == memory_size(limits["maxmemory"])
        assert int(re.sub(r"\D", "", limits["proto_max_bulk_len"])) << 20 > MAX_BYTES
        # the healer and mesh, behind by a burst, each at its own limit
        pubsub = re.search(r"pubsub (\w+)", limits["client_output_buffer_limit"])[1]
        assert 2 * memory_size(pubsub) <= memory_size(limits["maxmemory_clients"])
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
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the kernel's limit on data is Linux'")
def test_a_script_that_takes_more_memory_than_its_server_may_have_gets_none(tmp_path):
    port = free_port()
    line = bounded(command(find_binary(), port, tmp_path, **sized("64mb")), "64mb")
    with subprocess.Popen(line) as server, redis.Redis(HOST, port, socket_timeout=20) as client:
        try:
            until(lambda: answers(client), 10, "the server")
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
        time.sleep(0.05)
        return False
