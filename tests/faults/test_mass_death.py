"""FAILURES row 49: a great many services die at once, and beat again, under a real healer's monitor.

It runs in this process, so that the longest stretch of work between two turns of its event loop can be
measured, in seconds of this thread's CPU: what others do on the machine is none of its fault.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count

import orjson
import redis

from marketswarm.beat import Beat, encode_beat
from marketswarm.bus import Bus
from marketswarm.detector import State
from marketswarm.monitor import Monitor, VerdictEncoder
from marketswarm.monitor.publisher import LEAST_BATCH
from marketswarm.tasks import end_tasks
from marketswarm.truth import Watch
from support.rig import HOST, Server
from support.scenes.monitor import MonitorOwner
from support.waiting import auntil

COUNT = 4_000
TIMEOUT_SEC = 3.0
LONGEST_WORK_SEC = 0.6
NAMES = [f"svc{n:05}" for n in range(COUNT)]


@contextlib.asynccontextmanager
async def watching(server, encoder=None):
    bus = Bus("system-redis", server.url)
    monitor = Monitor(
        MonitorOwner(bus),
        encoder or VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts"),
        home=bus.name,
    )
    watches = [Watch(svc, bus.name, f"{svc}:heartbeat", TIMEOUT_SEC / 3, TIMEOUT_SEC) for svc in NAMES]
    monitor.set_roster(watches, {bus.name: 10.0}, [bus.name])
    task = asyncio.create_task(monitor.run())
    try:
        await auntil(
            lambda: monitor.detector.buses[bus.name].clock.proven > 0 and not monitor.detector.is_restoring,
        )
        yield monitor
    finally:
        await end_tasks(task)
        await bus.aclose()


async def longest_work(found: list[float]) -> None:
    last = time.thread_time()
    while True:
        await asyncio.sleep(0.001)
        now = time.thread_time()
        found[0], last = max(found[0], now - last), now


def beat(server: Server, i: int) -> None:
    with contextlib.closing(redis.Redis(HOST, server.port)) as client:
        pipe = client.pipeline(transaction=False)
        for svc in NAMES:
            pipe.publish(f"{svc}:heartbeat", encode_beat(Beat(svc, i, time.time(), boot="x")))
        pipe.execute()


@contextlib.asynccontextmanager
async def beating(server: Server, first: int) -> AsyncIterator[None]:
    """Has all of them beat, from this `i` on, until it is left: however long telling it takes."""

    async def go_on() -> None:
        for i in count(first):
            await asyncio.to_thread(beat, server, i)
            await asyncio.sleep(TIMEOUT_SEC / 6)

    task = asyncio.create_task(go_on())
    try:
        yield
    finally:
        await end_tasks(task)


async def test_row_49_thousands_die_and_beat_again_each_is_told_once_and_the_loop_never_stalls(
    tmp_path,
):
    with Server(tmp_path / "bus") as server:
        async with watching(server) as monitor:
            work = [0.0]
            meter = asyncio.create_task(longest_work(work))
            publisher = monitor.links["system-redis"].publisher

            async def all_told(state: State) -> None:
                def is_so() -> bool:
                    return all(one.state is state for one in monitor.detector.services.values())

                await auntil(
                    lambda: is_so() and not len(publisher), 60, lambda: f"{len(publisher)} to be told"
                )

            async with beating(server, 1):
                await all_told(State.UP)
            await all_told(State.DOWN)
            async with beating(server, 1_000_000):
                await all_told(State.UP)
                meter.cancel()
            assert work[0] < LONGEST_WORK_SEC
        events = [
            orjson.loads(fields["event"] if isinstance(fields, dict) else fields[1])
            for _, fields in server.cmd("XRANGE", "healer:alerts:log", "-", "+")
        ]
        counts = Counter((event["type"], event["svc"], "down_sec" in event) for event in events)
        for svc in NAMES:
            assert counts.pop(("heartbeat_miss", svc, False)) == 1
            assert counts.pop(("heartbeat_ok", svc, True)) == 1
        # the one that beats for all may itself get no turn for longer than their timeout, which is a gap
        assert {kind for kind, _, _ in counts} <= {"heartbeat_ok", "heartbeat_gap"}
        first = [count for (kind, _, _), count in counts.items() if kind == "heartbeat_ok"]
        assert set(first) <= {1}, "a first coming-up is told once"


class SlowEncoder(VerdictEncoder):
    """An encoder on a machine that needs 0.4 ms more for each verdict; `turns` counts those of the loop."""

    def __init__(self) -> None:
        super().__init__(family="heartbeat", by="healer", channel="healer:alerts")
        self.turn, self.encoded = 0, Counter[int]()

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)

    def encode(self, verdict):
        if verdict.state is State.DOWN:
            self.encoded[self.turn] += 1
            until = time.thread_time() + 0.0004
            while time.thread_time() < until:
                pass
        return super().encode(verdict)


async def test_row_76_a_healer_that_is_too_slow_for_all_deaths_publishes_them_in_small_steps(tmp_path):
    encoder = SlowEncoder()
    with Server(tmp_path / "bus") as server:
        async with watching(server, encoder) as monitor:
            async with beating(server, 1):
                await auntil(
                    lambda: all(one.state is State.UP for one in monitor.detector.services.values()), 60
                )
            turns = asyncio.create_task(encoder.count_turns())
            await auntil(lambda: sum(encoder.encoded.values()) >= COUNT, 60)
            await end_tasks(turns)
            await auntil(lambda: not len(monitor.links["system-redis"].publisher), 60)
        log = server.cmd("XRANGE", "healer:alerts:log", "-", "+")
    events = [orjson.loads(fields["event"] if isinstance(fields, dict) else fields[1]) for _, fields in log]
    missed = Counter(event["svc"] for event in events if event["type"] == "heartbeat_miss")
    assert missed == dict.fromkeys(NAMES, 1)
    # the first steps are as large as the machine was fast until then
    assert sorted(encoder.encoded.values())[-4] <= 2 * LEAST_BATCH
