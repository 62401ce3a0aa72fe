"""Real processes and one lease on a real bus: never two at a time, and never nobody for long.

Killed at random: 6 times, or as often as KILLS says.
"""

import os
import random
import time

import pytest

from support.scenes.agent import Scene, seed, truth
from support.scenes.faults import stamp
from support.waiting import until

LIFE_SEC = 1.5
LATE_SEC = 3 * LIFE_SEC  # of two busy cores; the time itself is measured in bench/takeover.py
HOLDING = f"""
        from marketswarm.agent import LeaseLost
        while True:
            try:
                async with me.lease("nightly", life_sec={LIFE_SEC}) as lease:
                    me.log.info("probe.holds", epoch=lease.epoch)
                    await me.rest(3600)
            except LeaseLost as error:
                me.log.info("probe.lost", why=str(error))
"""

KILLS = int(os.environ.get("KILLS", "6"))
# each holder writes its epoch down again and again; one that comes after a later one is refused
WRITING = """
        from marketswarm.agent import LeaseLost
        from marketswarm.bus.scripts import Script
        fenced = Script('''
            local last = tonumber(redis.call('LINDEX', KEYS[1], -1) or 0)
            if last < tonumber(ARGV[1]) then redis.call('RPUSH', KEYS[1], ARGV[1]) end
            if last > tonumber(ARGV[1]) then redis.call('INCR', 'refused') end
        ''')
        while True:
            try:
                async with me.lease("nightly", life_sec=0.6) as lease:
                    while True:
                        await me.bus("market-redis").script(fenced, ["said"], [lease.epoch])
                        await me.rest(0.001)
            except LeaseLost:
                me.log.info("probe.lost")
"""


@pytest.fixture
def scene(tmp_path):
    with Scene(tmp_path) as scene:
        seed(scene.buses, truth(interval_sec=0.5, timeout_sec=3), 1)
        yield scene


def holds(agent):
    return agent.logs("probe.holds")


def first_and_waiting(scene, body=HOLDING):
    """One that has it, and one that waits for it."""
    first = scene.agent(body)
    first.wait_log("probe.holds")
    second = scene.module("probe")
    second.wait_log("agent.joined")
    until(lambda: scene.system.cmd("PUBSUB", "NUMSUB", "lease:nightly")[1] == 1, what="it waits")
    return first, second


def test_one_has_it_and_when_it_is_killed_the_other_one_has_it_within_its_life(scene):
    first, second = first_and_waiting(scene)
    killed_at = time.time()
    first.kill()
    taken = second.wait_log("probe.holds")
    assert stamp(taken) - killed_at < LATE_SEC
    assert taken["epoch"] > holds(first)[-1]["epoch"]


def test_one_that_is_stopped_gives_it_back_at_once(scene):
    life_sec = 10.0
    first, second = first_and_waiting(scene, HOLDING.replace(f"life_sec={LIFE_SEC}", f"life_sec={life_sec}"))
    assert first.stop() == 0
    taken = second.wait_log("probe.holds")
    asked = first.logs("agent.stopping")[0]
    # by the log: until a busy machine has ended a process it may take longer than that
    assert stamp(taken) - stamp(asked) < life_sec / 2


def test_while_the_bus_is_frozen_it_is_lost_at_the_end_of_its_life_and_had_again_later(scene):
    first = scene.agent(HOLDING)
    first.wait_log("probe.holds")
    scene.system.freeze()
    assert "system-redis timeout" in first.wait_log("probe.lost")["why"]
    scene.system.thaw()
    until(lambda: len(holds(first)) == 2, what="it again")
    assert holds(first)[1]["epoch"] > holds(first)[0]["epoch"]


def writers(scene, count):
    agents = [scene.agent(WRITING)]
    agents += [scene.module("probe") for _ in range(count - 1)]
    until(lambda: scene.market.cmd("LLEN", "said") > 0, what="a first word")
    return agents


def test_whoever_is_killed_or_stopped_when_nobody_ever_writes_after_a_later_one(scene):
    chance, agents = random.Random(7), writers(scene, 3)
    for _ in range(KILLS):
        time.sleep(chance.random() * 0.4)  # the moment of a kill is what is tried
        before = scene.market.cmd("LLEN", "said")
        gone = agents.pop(chance.randrange(3))
        if chance.random() < 0.3:
            gone.wait_log("agent.joined")
            assert gone.stop() == 0
        else:
            gone.kill()
        agents.append(scene.module("probe"))
        if scene.system.cmd("EXISTS", "lease:nightly") == 0 or chance.random() < 0.5:
            continue  # the next one at any moment, also while nobody has it
        until(lambda: holder_lives(scene, agents), what="somebody who lives and has it")
        assert scene.market.cmd("LLEN", "said") >= before
    for agent in agents:
        agent.close()
    # a holder that the machine stopped for the whole life of its lease may write once before it knows
    lost = sum(len(each.logs("probe.lost")) for each in scene.programs)
    assert int(scene.market.cmd("GET", "refused") or 0) <= lost
    said = [int(epoch) for epoch in scene.market.cmd("LRANGE", "said", 0, -1)]
    assert said == sorted(set(said))
    assert len(said) > 1


def holder_lives(scene, agents):
    boot = scene.system.cmd("HGET", "lease:nightly", "boot")
    return any(joined["boot"] == boot for agent in agents for joined in agent.logs("agent.joined"))


def test_one_that_was_frozen_is_refused_at_most_once_for_what_it_was_about_to_write(scene):
    one, two = writers(scene, 2)
    for _ in range(2):
        until(lambda: holder_lives(scene, [one]) or holder_lives(scene, [two]), what="a holder")
        holder, other = (one, two) if holder_lives(scene, [one]) else (two, one)
        lost, before = len(holder.logs("probe.lost")), scene.market.cmd("LLEN", "said")
        refused = int(scene.market.cmd("GET", "refused") or 0)
        holder.freeze()
        until(lambda: scene.market.cmd("LLEN", "said") > before, what="a word of the other one")  # noqa: B023
        holder.thaw()
        until(lambda: len(holder.logs("probe.lost")) > lost, what="it hears that it lost it")  # noqa: B023
        assert int(scene.market.cmd("GET", "refused") or 0) <= refused + 1
        assert other.running
