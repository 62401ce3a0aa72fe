"""When silences are saved, and when a vigil distrusts itself."""

import asyncio
import time

import pytest

from marketswarm.beat import make
from marketswarm.listen import moment
from marketswarm.liveness import Acquitted
from marketswarm.testing import MemoryBus
from marketswarm.truth import Watch
from marketswarm.vigil import Notices, Vigil, recollecting

WATCH = Watch("bare", "system-redis", "bare:heartbeat", 10.0, 30.0)


@pytest.fixture
async def bus():
    bus = MemoryBus("system-redis")
    yield bus
    await bus.aclose()


def a_vigil(bus: MemoryBus) -> Vigil:
    vigil = Vigil(
        Notices(of="heartbeat", by="healer", channel="healer:alerts"),
        listener="healer",
        boot="b",
        home="system-redis",
        stream="healer:alerts:log",
        open_bus=lambda _name: bus,
        progress=lambda: None,
    )
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
    monkeypatch.setattr(recollecting, "SAVE_EVERY_SEC", 3600)
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
    vigil._mistrust_self(Acquitted("bare", "system-redis", age_sec, again=again))
    assert vigil._posts["system-redis"].listener._given_up.is_set() is distrusts
