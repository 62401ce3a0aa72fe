"""When silences are saved, when a vigil distrusts itself, and when it says that it can't work."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from marketswarm.beat import make
from marketswarm.bus.listener import moment
from marketswarm.bus.stored_values import unusable_total
from marketswarm.detector import Publication, State, Subject, UnheardBeat, Verdict
from marketswarm.monitor import Monitor, VerdictEncoder, state
from marketswarm.monitor.store import StateStore, field_of
from marketswarm.monitor.witness import Answer
from marketswarm.testing import MemoryBus
from marketswarm.truth import Watch
from support.scenes.monitor import Keeper
from support.waiting import auntil

WATCH = Watch("bare", "system-redis", "bare:heartbeat", 10.0, 30.0)


@pytest.fixture
async def bus():
    bus = MemoryBus("system-redis")
    yield bus
    await bus.aclose()


def a_vigil(bus: MemoryBus) -> Monitor:
    notices = VerdictEncoder(of="heartbeat", by="healer", channel="healer:alerts")
    vigil = Monitor(Keeper(bus), notices, home="system-redis")
    vigil.watch([WATCH], listen={"system-redis": 10.0}, tell=["system-redis"])
    return vigil


async def saved(bus: MemoryBus, *, there: bool) -> None:
    async with asyncio.timeout(20):
        while bool(await bus.client.hexists("healer:silence", "bare")) is not there:  # noqa: ASYNC110 - a bus tells nobody
            await asyncio.sleep(0.01)


async def test_the_end_of_a_silence_is_saved_at_once(bus, monkeypatch):
    vigil = a_vigil(bus)
    task = asyncio.create_task(vigil._memory.run("system-redis"))
    await saved(bus, there=True)  # at its start a service counts as silent
    monkeypatch.setattr(state, "SAVE_EVERY_SEC", 3600)
    await asyncio.sleep(1.2)  # what it waited for when that was a second is over
    vigil.ear.heard("system-redis", [[b"message", b"bare:heartbeat", make("bare", 1, time.time())]], moment())
    await saved(bus, there=False)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("age_sec", "again", "distrusts"),
    [(0.1, False, False), (0.1, True, True), (0.3, False, True), (20.0, False, True)],
)
async def test_a_beat_that_may_still_be_on_its_way_is_no_reason_for_a_new_session(
    bus, age_sec, again, distrusts
):
    vigil = a_vigil(bus)
    vigil._judging.rebuild_deaf_session(UnheardBeat("bare", "system-redis", age_sec, is_repeated=again))
    assert vigil._posts["system-redis"].listener._given_up.is_set() is distrusts


async def test_a_vigil_that_cannot_read_its_memory_judges_nothing_and_says_so(bus, monkeypatch):
    monkeypatch.setattr(state, "RETRY_SEC", 0.01)
    bus.connected = False
    vigil = a_vigil(bus)
    vigil.ear.deafness = lambda _now: None  # no one listens in this test
    task = asyncio.create_task(vigil._memory.run("system-redis"))
    await auntil(lambda: "nothing is judged: memory on system-redis" in (vigil._trouble() or ""))
    assert vigil.detector.is_restoring
    bus.connected = True
    await auntil(lambda: vigil._trouble() is None)
    assert not vigil.detector.is_restoring
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_vigil_whose_verdicts_are_not_taken_says_how_many_wait(bus):
    vigil = a_vigil(bus)
    vigil.ear.deafness = lambda _now: None
    bus.connected = False
    task = asyncio.create_task(vigil._posts["system-redis"].outbox.run())
    vigil.publish(Verdict("bare", State.DOWN, Publication.ALERT, 1.0, timeout_sec=30.0, reason="silent"))
    await auntil(lambda: vigil._trouble() == "1 untold on system-redis (refused)")
    bus.connected = True
    await auntil(lambda: vigil._trouble() is None)
    assert await bus.client.xlen("healer:alerts:log") == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("of", Subject)
async def test_what_is_told_of_anything_is_known_to_the_next_run(bus, of):
    vigil = a_vigil(bus)
    name, state = ("healer", State.UP) if of is Subject.REACH else ("bare", State.DOWN)
    gap_sec, mark = (31.0, "reach_gap.healer.69000") if of is Subject.REACH else (None, None)
    verdict = Verdict(
        name, state, Publication.ALERT, 100.0, subject=of, since=69.0, gap_sec=gap_sec, event_id=mark
    )
    task = asyncio.create_task(vigil._posts["system-redis"].outbox.run())
    vigil.publish(verdict)
    await auntil(lambda: not vigil._posts["system-redis"].outbox)
    before = unusable_total()
    roster = await StateStore(bus, "healer").load_roster()
    assert unusable_total() == before
    entry = roster[field_of(verdict)]
    assert (entry.verdict, entry.ts, entry.since) == (state, 100.0, 69.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_bus_that_is_dropped_while_the_memory_is_read_is_no_trouble(bus, monkeypatch):
    vigil = a_vigil(bus)
    vigil.watch([WATCH], listen={"system-redis": 10.0, "other": 10.0, "third": 10.0}, tell=["system-redis"])
    asked: list[int] = []

    async def reseeded(_bus: MemoryBus, timeouts: dict[str, float]) -> AsyncIterator[Answer]:
        asked.append(len(timeouts))
        vigil.watch([WATCH], listen={"system-redis": 10.0}, tell=["system-redis"])
        yield Answer([])

    monkeypatch.setattr(state, "read_last_beats", reseeded)
    task = asyncio.create_task(vigil._memory.run("system-redis"))
    await auntil(lambda: not vigil.detector.is_restoring or task.done())
    assert not task.done()
    assert len(asked) == 3
    assert set(vigil.detector.buses) == {"system-redis"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("key", ["roster", "silence", "heard"])
async def test_a_key_of_the_memory_that_holds_something_else_is_replaced_and_counted(bus, key):
    before = unusable_total()
    await bus.client.set(f"healer:{key}", "what somebody put there")
    vigil = a_vigil(bus)
    task = asyncio.create_task(vigil._memory.run("system-redis"))
    await auntil(lambda: not vigil.detector.is_restoring)
    await saved(bus, there=True)
    assert await bus.client.type(f"healer:{key}") in (b"hash", b"none")
    assert unusable_total() > before
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
