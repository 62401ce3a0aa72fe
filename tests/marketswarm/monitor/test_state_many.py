"""What many services do to the event loop, at a start, a takeover or a reseed: nothing that lasts."""

import asyncio
import contextlib
import functools
import gc
import itertools
import time
from collections.abc import AsyncIterator
from typing import ClassVar

import orjson
import pytest

from marketswarm.bus.listener import Listener, read_clocks
from marketswarm.detector import Publication, SavedBeat, SavedJob, State, Verdict, plan_change
from marketswarm.monitor import Monitor, VerdictEncoder, state
from marketswarm.monitor.leadership import Fence
from marketswarm.monitor.roster_entry import RosterEntry
from marketswarm.monitor.store import SavedState, StateStore, encode_saved_beat
from marketswarm.monitor.verdict_queue import PendingVerdict, VerdictQueue
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from marketswarm.time_slice import TimeSlice
from marketswarm.truth import Watch
from support.scenes.monitor import LoopWork, MonitorOwner

COUNT = 20_000
NAMES = [f"svc{n:05}" for n in range(COUNT)]
LONGEST_SHARE = 0.5
"""Of all the work, in one go: seconds would measure the machine. It was nearly all of it."""


TS = time.time() - 100.0


@functools.cache
def make_roster(state: State) -> dict[str, RosterEntry]:
    return {svc: RosterEntry(state, TS, TS - 10.0, "x", 5) for svc in NAMES}


@functools.cache
def make_noted() -> dict[str, SavedBeat]:
    return {svc: SavedBeat("x", 5, TS, TS, False, {}, 10.0, 30.0) for svc in NAMES}


@functools.cache
def make_raw() -> dict[str, bytes]:
    entry = orjson.dumps({"verdict": "down", "ts": TS, "since": TS - 10.0, "boot": "x", "i": 5})
    return dict.fromkeys(NAMES, entry)


@functools.cache
def make_heard() -> dict[str, bytes]:
    return {svc: encode_saved_beat(beat) for svc, beat in make_noted().items()}


class Stored:
    """The memory that an earlier run left, as it is once read."""

    state: ClassVar = State.DOWN

    def __init__(self, _bus: object = None, _listener: str = "healer") -> None:
        self.store = StateStore(MemoryBus("system-redis"), "healer")

    async def load_state(self, _watched: object, *, has_jobs: bool) -> SavedState:
        assert not has_jobs
        return SavedState(self.store, make_raw().copy(), {}, {}, make_heard().copy(), {})

    async def load_roster(self, _match: str | None = None) -> dict[str, RosterEntry]:
        return make_roster(self.state)

    async def load_silences(self):
        return {}, {}

    async def load_jobs(self) -> dict[str, SavedJob]:
        return {}

    async def load_saved_beats(self) -> dict[str, SavedBeat]:
        return make_noted()


@pytest.fixture
async def monitor(monkeypatch) -> AsyncIterator[Monitor]:
    monkeypatch.setattr(state, "StateStore", Stored)
    make_raw(), make_heard(), make_roster(State.DOWN), make_roster(State.UP)  # none of it is to be measured
    bus = MemoryBus("system-redis")
    found = Monitor(
        MonitorOwner(bus),
        VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts"),
        home="system-redis",
    )
    watches = [Watch(svc, "system-redis", f"{svc}:heartbeat", 10.0, 30.0) for svc in NAMES]
    found.set_roster(watches, listen_to={"system-redis": 10.0}, publish_to=["system-redis"])

    async def nobody(_bus: MemoryBus, _timeouts: dict[str, float]):
        for answer in ():
            yield answer

    monkeypatch.setattr(state, "read_last_beats", nobody)
    yield found
    await bus.aclose()


@contextlib.asynccontextmanager
async def measured() -> AsyncIterator[LoopWork]:
    """Measure what is done inside; what is there before is none of it."""
    gc.collect()
    gc.freeze()
    work = LoopWork()
    task = asyncio.create_task(work.measure())
    await asyncio.sleep(0)
    yield work
    await end_tasks(task)
    gc.unfreeze()


async def test_the_recall_of_tens_of_thousands_leaves_the_loop_to_others_and_misses_nobody_meanwhile(monitor):
    ticks = itertools.count()

    async def tick() -> None:
        while monitor.detector.is_restoring:
            next(ticks)
            assert not monitor.detector.tick(read_clocks()).suspects
            await asyncio.sleep(0)

    async with measured() as work:
        await asyncio.gather(monitor.state.restore(Stored()), tick())
    assert not monitor.detector.is_restoring
    assert {record.state for record in monitor.detector.services.values()} == {State.DOWN}
    assert next(ticks) > 1 / LONGEST_SHARE
    assert work.longest < LONGEST_SHARE * work.whole


async def test_a_takeover_of_tens_of_thousands_leaves_the_loop_to_others_and_what_they_conclude_stands(
    monitor, monkeypatch
):
    await monitor.state.restore(Stored())
    monkeypatch.setattr(Stored, "state", State.UP)
    untold = VerdictQueue()

    def left() -> set[str]:
        return {svc for svc in NAMES if monitor.detector.services[svc].state is State.DOWN}

    async def publish() -> None:
        """Meanwhile this listener finds something of its own that it has still to tell."""
        while len(left()) == COUNT:  # noqa: ASYNC110 - a takeover tells nobody how far it is
            await asyncio.sleep(0)
        for svc in left():
            untold.add(PendingVerdict(Verdict(svc, State.DOWN, Publication.ALERT, TS), time.monotonic()))

    async with measured() as work:
        fence = Fence("q", 3)
        await asyncio.gather(monitor.state.take_over("system-redis", fence, untold), publish())
    assert 0 < len(untold) < COUNT
    assert left() == set(untold.fields)
    assert work.longest < LONGEST_SHARE * work.whole


async def test_a_reseed_of_tens_of_thousands_leaves_the_loop_to_others(monitor):
    await monitor.state.restore(Stored())
    watches = [Watch(svc, "system-redis", f"{svc}:heartbeat", 5.0, 20.0) for svc in NAMES[1:]]
    change = plan_change(monitor.detector.services, watches, {"system-redis": 10.0})
    async with measured() as work:
        time_slice = TimeSlice()
        for _ in monitor.change_roster(change, ["system-redis"]):
            await time_slice.pause()
    assert {each.rule.timeout_sec for each in monitor.detector.services.values()} == {20.0}
    assert len(monitor.detector.services) == COUNT - 1
    assert work.longest < LONGEST_SHARE * work.whole


async def test_a_service_is_heard_from_the_step_on_that_brings_it_and_on_its_old_channel_until_then(
    monkeypatch,
):
    set_channels, heard = Listener.set_channels, []

    def note(self, channels):
        set_channels(self, channels)
        heard.append({channel for channel in channels if channel.endswith(":heartbeat")})

    monkeypatch.setattr(Listener, "set_channels", note)
    bus = MemoryBus("system-redis")
    encoder = VerdictEncoder(family="heartbeat", by="healer", channel="healer:alerts")
    monitor = Monitor(MonitorOwner(bus), encoder, home="system-redis")
    old = [Watch(svc, "system-redis", f"{svc}:heartbeat", 10.0, 30.0) for svc in NAMES[:500]]
    new = [Watch(svc, "system-redis", f"new.{svc}:heartbeat", 10.0, 30.0) for svc in NAMES[:500]]
    monitor.set_roster(old, {"system-redis": 10.0}, ["system-redis"])
    before, after = ({each.channel for each in watches} for watches in (old, new))
    change = plan_change(monitor.detector.services, new, {"system-redis": 10.0})
    steps = monitor.change_roster(change, ["system-redis"])
    next(steps)
    assert heard[-1] == before | after
    assert len(list(steps)) > 5
    assert heard[-1] == after
    await bus.aclose()
