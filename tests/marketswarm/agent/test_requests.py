"""A process follows a request of the medic once, if it is the one that is meant, and answers it."""

import time
from types import SimpleNamespace

import pytest

from marketswarm.agent import requests as module
from marketswarm.agent.requests import REMEDY_LIMITS, RequestDesk, RequestOutcome
from marketswarm.bus import BusError
from marketswarm.bus.stored_values import count_unusable
from marketswarm.operator.service_reports import (
    REQUEST_VALID_SEC,
    RequestReport,
    RequestResult,
    ServiceRequest,
)
from marketswarm.testing import MemoryBuses
from support.recording_log import RecordingLog

TAKE_EVERY_SEC, KNOWN_SEC = REMEDY_LIMITS.take_every_sec, REMEDY_LIMITS.known_sec
REQUEST = "archive:reconnect:request"


@pytest.fixture
def scene(monkeypatch):
    """A desk of the process `b1`; `scene.outcome` is what becomes of an attempt, `scene.clock` moves on."""
    scene = SimpleNamespace(
        bus=MemoryBuses()("system-redis"), calls=0, outcome=RequestOutcome(ended=3), clock=1000.0, seen=[]
    )
    scene.is_away = False

    def find_bus():
        if scene.is_away:
            raise BusError("system-redis", "away")
        return scene.bus

    async def reconnect():
        scene.calls += 1
        scene.seen.append(await report(scene))
        return scene.outcome

    times = SimpleNamespace(monotonic=lambda: scene.clock, time=time.time)
    monkeypatch.setattr(module, "time", times)
    me = SimpleNamespace(name="archive", boot="b1", bus=lambda _name: find_bus(), log=RecordingLog())
    scene.desk = RequestDesk("reconnect", me, reconnect)
    return scene


async def ask(scene, ident="r1", boot="b1", ts=None):
    request = ServiceRequest(id=ident, boot=boot, by="medic", ts=time.time() if ts is None else ts)
    await scene.bus.client.set(REQUEST, request.encode())


async def look(scene, after_sec=TAKE_EVERY_SEC):
    scene.clock += after_sec
    await scene.desk.look()


async def report(scene):
    raw = await scene.bus.client.get("archive:reconnect")
    return None if raw is None else RequestReport.parse(raw)


async def test_a_request_is_followed_once_and_answered(scene):
    await look(scene)
    assert (scene.calls, await report(scene)) == (0, None)
    await ask(scene)
    for _ in range(3):
        await look(scene)
    assert scene.calls == 1
    assert (scene.seen[0].request, scene.seen[0].result) == ("r1", None), "it said so before it began"
    found = await report(scene)
    assert (found.request, found.boot, found.result, found.ended) == ("r1", "b1", RequestResult.DONE, 3)
    assert await scene.bus.client.ttl("archive:reconnect") > 0
    scene.outcome = RequestOutcome(why="too many connections" * 50)
    await ask(scene, "r2")
    await look(scene)
    found = await report(scene)
    assert (found.request, found.result, len(found.why)) == ("r2", RequestResult.FAILED, 200)


async def test_a_request_whose_id_comes_again_since_the_report_is_gone_is_followed(scene):
    await ask(scene)
    await look(scene)
    await scene.bus.client.delete("archive:reconnect")
    await look(scene, KNOWN_SEC - 1)
    assert scene.calls == 1, "it may be the same request, sent again"
    await ask(scene, ts=time.time() - KNOWN_SEC)
    await look(scene)
    assert scene.calls == 1, "the first one stays too old, though it did not expire"
    await ask(scene)
    await look(scene)
    assert (scene.calls, (await report(scene)).result) == (2, RequestResult.DONE)


async def test_a_request_for_another_process_or_of_another_time_is_not_followed(scene):
    await ask(scene, boot="b0")
    await look(scene)
    before = count_unusable()
    for off_sec in (-REQUEST_VALID_SEC - 5, REQUEST_VALID_SEC + 5):
        await ask(scene, ts=time.time() + off_sec)
        await look(scene)
    assert (scene.calls, count_unusable() - before) == (0, 2)
    await ask(scene, ts=time.time() - REQUEST_VALID_SEC + 5)
    await look(scene)
    assert scene.calls == 1


@pytest.mark.parametrize(
    "junk",
    [b"[]", b"\xff", b'{"id":"a b","boot":"b1","by":"x","ts":1}', b'{"id":"r"}', b"x" * 5000],
)
async def test_a_value_that_is_no_request_is_counted_and_skipped(scene, junk):
    before = count_unusable()
    await scene.bus.client.set(REQUEST, junk)
    await look(scene)
    await scene.bus.client.delete(REQUEST)
    await scene.bus.client.hset(REQUEST, "a", "b")
    await look(scene)
    assert (scene.calls, count_unusable() - before) == (0, 2)


async def test_who_asks_again_and_again_interrupts_only_now_and_then(scene):
    for number in range(50):
        await ask(scene, f"r{number}")
        await look(scene, TAKE_EVERY_SEC / 10)
    assert scene.calls == 5


async def test_an_answer_that_the_bus_did_not_take_is_written_when_it_is_back(scene):
    await ask(scene)

    async def lose_bus():
        scene.is_away = True
        return RequestOutcome()

    scene.desk._carry_out = lose_bus  # noqa: SLF001 - the bus goes away meanwhile
    await look(scene)
    assert (await report(scene)).result is None
    await look(scene)
    scene.is_away = False
    await look(scene)
    assert (await report(scene)).result is RequestResult.DONE
