"""A Redis Cluster is no bus, and everyone says so at once, whichever of its servers they were led to."""

import contextlib
import os
import subprocess
import sys

import orjson
import pytest
import redis

from support.rig import HOST, Proc, Server, free_port
from support.scenes.faults import service, truth_of
from support.waiting import until

SAID = "part of a Redis Cluster; a bus is one server"


THREE_SHARDS = pytest.param("three shards", marks=pytest.mark.nightly("one shard, which is refused as well"))


@pytest.fixture(params=[THREE_SHARDS, "one shard with two replicas"])
def cluster(tmp_path, request):
    with contextlib.ExitStack() as ends:
        nodes = [
            ends.enter_context(
                Server(tmp_path / f"node-{n}", cluster_enabled="yes", cluster_port=str(free_port()))
            )
            for n in range(3)
        ]
        first, *others = nodes
        for node in others:
            node.cmd("CLUSTER", "MEET", HOST, first.port, first.config["cluster_port"])
        share = 16384 if request.param != "three shards" else 5462
        for n, node in enumerate(nodes if share < 16384 else nodes[:1]):
            node.cmd("CLUSTER", "ADDSLOTSRANGE", n * share, min((n + 1) * share, 16384) - 1)
        if share == 16384:
            for node in others:
                until(lambda one=node: follows(one, first), what=f"{node} to be a replica")
        for node in nodes:
            until(lambda one=node: "cluster_state:ok" in state(one), what=f"{node} to be in order")
            until(lambda one=node: "cluster_known_nodes:3" in state(one), what=f"{node} to know the others")
        yield nodes


def state(node: Server) -> str:
    said = node.cmd("CLUSTER", "INFO")
    return " ".join(f"{name}:{value}" for name, value in said.items()) if isinstance(said, dict) else said


def follows(node: Server, primary: Server) -> bool:
    with contextlib.suppress(redis.ResponseError):  # it does not know it yet
        return bool(node.cmd("CLUSTER", "REPLICATE", primary.cmd("CLUSTER", "MYID")))
    return False


def test_nobody_takes_a_cluster_for_a_bus_and_nobody_tries_for_long(tmp_path, cluster):
    path = tmp_path / "truth.json"
    path.write_bytes(orjson.dumps(truth_of({"mesh": service()})))
    first, _, last = cluster
    env = {"SYSTEM_REDIS_URL": first.url, "MARKET_REDIS_URL": last.url, "TRUTH_PATH": str(path)}
    programs = [Proc(name, env, tmp_path) for name in ("bootstrap", "healer")]
    with contextlib.ExitStack() as ends:
        for program in programs:
            ends.enter_context(program)
        for program in programs:
            assert program.wait(20) == 2, "which no restart policy can mend"
            [end] = program.logs("program.exit")
            assert SAID in end["message"]
            assert len(program.logs()) == 1, "no storm"
    for command in (("status",), ("seed", str(path))):
        ended = subprocess.run(
            [sys.executable, "-m", "marketswarm", *command],
            env={**env, "PATH": os.environ["PATH"]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (ended.returncode, ended.stdout) == (2, "")
        assert SAID in ended.stderr
    assert all(node.cmd("DBSIZE") == 0 for node in cluster), "nothing was written"
    # why one shard is none either: its server has all keys, and takes no two of them together
    with pytest.raises(redis.RedisError, match="same slot"):
        first.cmd("EVAL", "return 1", 2, "truth:doc", "truth:meta")
