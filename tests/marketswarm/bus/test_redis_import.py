"""redis-py is imported in part, and is whole for whoever uses more of it in the same process."""

import subprocess
import sys

import pytest

BEFORE = "import sys, marketswarm.bus\nassert not {'redis.cluster', 'redis.sentinel'} & {*sys.modules}\n"


@pytest.mark.parametrize(
    "use",
    [
        "import redis; assert redis.Redis.__module__ == 'redis.client' and redis.__version__",
        "import redis.asyncio; assert redis.asyncio.RedisCluster and redis.asyncio.client.Redis",
        "from redis import *; assert Redis and RedisCluster and StrictRedis",
        "from redis.asyncio import Redis; import redis.asyncio.client as its; assert Redis is its.Redis",
        "from redis import asyncio, exceptions, Redis; assert exceptions.RedisError and asyncio.RedisCluster",
        "import redis; assert redis.exceptions.RedisError and redis.sentinel.Sentinel",
        "import redis; assert not hasattr(redis, 'no_such_name') and redis.RedisCluster",
    ],
)
def test_what_is_not_imported_is_there_when_it_is_used(use):
    subprocess.run([sys.executable, "-c", BEFORE + use], check=True)


def test_a_redis_that_was_imported_before_stays():
    code = "import redis\nclient = redis.Redis\nimport marketswarm.bus\nassert redis.Redis is client"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
