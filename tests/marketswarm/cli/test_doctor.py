"""`marketswarm doctor` on real servers: it names what is broken there, and ends with 1."""

import json
import re

import pytest

pytestmark = pytest.mark.live


def examine(shell):
    ended = shell("doctor", "--json")
    return ended.returncode, {(one["about"], one["level"]): one["text"] for one in json.loads(ended.stdout)}


def test_a_fleet_without_agents_is_told_what_it_lacks(shell, seeded):
    code, found = examine(shell)
    assert code == 1
    assert found["healer", "wrong"] == "none leads: no alert is published"
    assert found["truth", "right"] == "revision 1 on system-redis, market-redis"
    assert found["system-redis", "wrong"]


def test_a_bus_with_another_truth_is_named(shell, seeded):
    _, market = seeded
    market.cmd("SET", "truth:doc", '{"services":{"other":{}}}')
    _, found = examine(shell)
    assert found["truth", "wrong"].startswith("the buses differ: system-redis has 1, market-redis has ")
    market.cmd("DEL", "truth:doc")
    _, found = examine(shell)
    assert "has no valid truth" in found["market-redis", "wrong"]


def test_a_bus_that_is_away_is_named_and_the_other_is_examined(shell, seeded):
    _, market = seeded
    market.stop()
    _, found = examine(shell)
    assert found["market-redis", "wrong"] == "does not answer: refused"
    assert "answers at" in found["system-redis", "right"] or found["system-redis", "right"]


def test_each_finding_has_its_remedy_below_it(shell, seeded):
    seeded[0].cmd("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    ended = shell("doctor")
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if "forgets keys when it is full" in line)
    assert "CONFIG SET maxmemory-policy noeviction" in lines[at + 1]
    assert re.fullmatch(r"(\d+|nothing) wrong, (1 note|(\d+|no) notes)", lines[-1])


def test_without_any_server_it_ends_with_3(shell):
    shell.env |= {"SYSTEM_REDIS_URL": "redis://127.0.0.1:1", "MARKET_REDIS_URL": "redis://127.0.0.1:1"}
    assert shell("doctor").returncode == 3
