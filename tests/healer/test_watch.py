"""The healer as a whole: what it does around its monitor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from healer.watch import run_healer
from marketswarm.monitor import Monitor
from marketswarm.monitor.state import StateKeeper
from marketswarm.monitor.store import StateStore
from marketswarm.settings.programs import HealerSettings
from marketswarm.tasks import end_tasks
from marketswarm.testing import MemoryBus
from marketswarm.truth import Truth, parse_truth
from support.scenes.monitor import MonitorOwner
from support.waiting import auntil

TRUTH = {"services": {"a": {"heartbeat": {"interval_sec": 10}}}}


class Owner(MonitorOwner):
    """Stand in for the agent, as far as `run_healer` needs it."""

    settings = HealerSettings()

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.log, self.logged, self.revision = self, list[str](), 7
        self.problems: dict[str, str | None] = {}
        self.truth = parse_truth(orjson.dumps(TRUTH)).truth
        self.reseed: Callable[[Truth], None] | None = None
        self.check: Callable[[Truth], object] | None = None

    def bus(self, name: str, _truth: Any = None) -> MemoryBus:
        return super().bus(name)

    def set_detail(self, _detail: str | None) -> None: ...

    def set_degraded(self, detail: str | None, part: str = "") -> None:
        self.problems[part] = detail

    def exception(self, event: str, **_facts: Any) -> None:
        self.logged.append(event)

    def open_tracer(self) -> None: ...

    def expose(self, _collect: Any) -> None: ...

    def on_reseed(self, callback: Callable[[Truth], None], *, check: Callable[[Truth], object]) -> None:
        self.reseed, self.check = callback, check


@pytest.fixture
def monitors(monkeypatch: pytest.MonkeyPatch) -> list[Monitor]:
    """The monitors that are made, in order."""
    found: list[Monitor] = []
    make = Monitor.__init__

    def note(self: Monitor, *args: Any, **more: Any) -> None:
        found.append(self)
        make(self, *args, **more)

    monkeypatch.setattr(Monitor, "__init__", note)
    return found


@contextlib.asynccontextmanager
async def run(owner: Owner, bus: MemoryBus, *args: Any) -> AsyncIterator[asyncio.Task[None]]:
    """Run a healer, and close its bus at the end."""
    healer = asyncio.create_task(run_healer(owner, *args))
    try:
        yield healer
    finally:
        await end_tasks(healer)
        await bus.aclose()


async def test_what_is_to_be_done_after_the_restore_is_not_done_before(monkeypatch: pytest.MonkeyPatch):
    """Else the garbage collector walks through all that is restored."""
    keepers: list[StateKeeper] = []
    may_restore, calls = asyncio.Event(), []
    restore = StateKeeper.restore

    async def restore_later(self: StateKeeper, store: StateStore) -> None:
        keepers.append(self)
        await may_restore.wait()
        await restore(self, store)

    monkeypatch.setattr(StateKeeper, "restore", restore_later)
    bus = MemoryBus("system-redis")
    async with run(Owner(bus), bus, lambda: calls.append(keepers[0].restored.is_set())) as healer:
        await auntil(lambda: keepers or healer.done())
        assert calls == []
        may_restore.set()
        await auntil(lambda: calls or healer.done())
        assert calls == [True]


async def test_a_reseed_is_put_in_force_in_slices_and_the_last_of_several_counts(monitors: list[Monitor]):
    bus = MemoryBus("system-redis")
    owner = Owner(bus)
    async with run(owner, bus) as healer:
        await auntil(lambda: owner.reseed is not None or healer.done())
        for count in (3, 500, 200):
            owner.truth = parse_truth(orjson.dumps({"services": {f"s{n}": {} for n in range(count)}})).truth
            owner.reseed(owner.truth)
            await asyncio.sleep(0)
        watched = monitors[0].detector
        await auntil(lambda: len(watched.services) == 200 or healer.done())
        assert list(watched.services) == [f"s{n}" for n in range(200)]
        assert len(watched.buses["system-redis"].channels) == 200
        # one that moves the alerts is refused before anything has changed
        points = {"publish_to": [{"bus": "market-redis", "key": "elsewhere"}]}
        moved = parse_truth(orjson.dumps({"services": {"healer": {"access_points": points}}})).truth
        with pytest.raises(ValueError, match="only when the healer is restarted"):
            owner.check(moved)


async def test_a_truth_that_can_not_be_put_in_force_leaves_what_is_monitored_and_the_next_one_counts(
    monitors: list[Monitor], monkeypatch: pytest.MonkeyPatch
):
    change, fails = Monitor.change_roster, [True]

    def fail_once(self: Monitor, *args: Any, **more: Any) -> Any:
        if "b" in owner.truth.services and fails.pop():
            raise KeyError("b")
        return change(self, *args, **more)

    monkeypatch.setattr(Monitor, "change_roster", fail_once)
    bus = MemoryBus("system-redis")
    owner = Owner(bus)
    async with run(owner, bus) as healer:
        await auntil(lambda: owner.reseed is not None or healer.done())
        owner.truth = parse_truth(orjson.dumps({"services": {"b": {}}})).truth
        owner.reseed(owner.truth)
        await auntil(lambda: owner.logged or healer.done())
        assert owner.logged == ["truth.rejected"]
        assert owner.problems["roster"] == "can't go by revision 7: KeyError"
        assert list(monitors[0].detector.services) == ["a"]
        fails.append(False)
        owner.reseed(owner.truth)
        await auntil(lambda: owner.problems["roster"] is None or healer.done())
        assert list(monitors[0].detector.services) == ["b"]
