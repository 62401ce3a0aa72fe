"""A whole agent over buses in memory, as a user's own test would have it."""

import asyncio
import os
import signal

import orjson
import pytest

from marketswarm.agent import agent
from marketswarm.exit import Exit
from marketswarm.settings import CommonSettings
from marketswarm.truth import Heartbeat
from support.memory_truth import put_truth
from support.waiting import auntil

SETTINGS = CommonSettings(truth_wait_sec=5, log_format="json")


def document(**services):
    return orjson.dumps({"services": {name: {"heartbeat": beats} for name, beats in services.items()}})


BEATS = {"interval_sec": 0.1, "timeout_sec": 3}


async def beat(bus, svc="mine"):
    return orjson.loads(await bus.ask(bus.client.get(f"beat:{svc}")) or b"{}")


async def test_it_joins_beats_and_says_goodbye(buses, system):
    await put_truth(system, document(mine=BEATS), 3)
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        assert (me.name, me.revision, me.section.heartbeat.interval_sec) == ("mine", 3, 0.1)
        await me.rest(0.3)
        said = await beat(system)
        assert (said["boot"], said["rev"]) == (me.boot, 3)
        assert me.bus("market-redis") is me.bus("market-redis")
    assert (await beat(system))["status"] == "stopping"
    assert me.exit_code == 0


async def test_a_reseed_wakes_the_body_once_also_when_it_came_while_it_worked(buses, system):
    await put_truth(system, document(mine=BEATS), 1)
    heard = []
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        me.on_reseed(heard.append)
        await put_truth(system, document(mine={**BEATS, "interval_sec": 0.2}), 2)
        await auntil(lambda: me.revision == 2)
        assert await me.rest(5)
        assert not await me.rest(0.01)
        assert heard == [me.truth]


async def test_a_callback_that_fails_is_a_trouble_in_the_beats_not_an_end(buses, system):
    await put_truth(system, document(mine=BEATS), 1)
    async with agent("mine", SETTINGS, open_bus=buses) as me:

        def refuse(_truth):
            raise ZeroDivisionError

        me.on_reseed(refuse)
        await put_truth(system, document(mine={**BEATS, "interval_sec": 0.2}), 2)
        await me.rest(5)
        await me.rest(0.3)
        assert (await beat(system))["detail"] == "can't go by revision 2: ZeroDivisionError"


async def test_what_the_body_raises_comes_out_as_it_is(buses, system):
    await put_truth(system, document(mine=BEATS), 1)
    with pytest.raises(KeyError, match="of the body"):
        async with agent("mine", SETTINGS, open_bus=buses):
            raise KeyError("of the body")
    assert (await beat(system)).get("status") != "stopping"


async def test_a_body_that_loses_the_cancellation_by_a_stop_gets_another(buses, system):
    await put_truth(system, document(mine=BEATS), 1)
    lost = []
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)
        while True:
            try:
                await me.rest(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(me.exit_code)
    assert (lost, me.exit_code) == ([0], 0)


async def test_a_side_task_is_over_when_the_body_is(buses, system):
    await put_truth(system, document(mine=BEATS), 1)
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        task = me.task(me.rest(60), name="side")
        await me.rest(0.05)
    assert task.cancelled()
    late = me.rest(1)
    with pytest.raises(RuntimeError, match="inside"):
        me.task(late, name="too late")


async def test_an_agent_may_do_without_a_section_when_it_brings_its_heartbeat(buses, system):
    await put_truth(system, document(other=BEATS), 1)
    with pytest.raises(Exit):
        async with agent("mine", SETTINGS, open_bus=buses):
            pass
    own = Heartbeat(channel="mine:heartbeat", interval_sec=0.1)
    async with agent("mine", SETTINGS, open_bus=buses, heartbeat=lambda _settings, _section: own) as me:
        await me.rest(0.2)
        assert (await beat(system))["every"] == 0.1


async def test_a_wait_on_others_is_bounded(buses, system):
    await put_truth(system, document(mine=BEATS), 1)
    async with agent("mine", SETTINGS, open_bus=buses) as me:
        with pytest.raises(TimeoutError):
            async with me.waiting(0.05):
                await me.rest(60)
        assert not me.work_progress.is_resting


async def test_the_timeout_that_the_environment_sets_is_in_the_truth_that_an_agent_asks(buses, system):
    await put_truth(system, document(mine=BEATS, other={}), 1)
    settings = SETTINGS.model_copy(update={"default_timeout_sec": 45.0})
    async with agent("mine", settings, open_bus=buses) as me:
        assert me.truth.timeout_of("other") == 45.0
        await put_truth(system, document(mine=BEATS, other={}, more={}), 2)
        await auntil(lambda: me.revision == 2)
        assert {watch.svc: watch.timeout_sec for watch in me.truth.watched()}["more"] == 45.0
