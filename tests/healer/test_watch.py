"""The healer as a whole: what it does around its monitor."""

import asyncio
from typing import Any

import orjson
import pytest

from healer.watch import run_healer
from marketswarm.monitor.state import StateKeeper
from marketswarm.monitor.store import StateStore
from marketswarm.settings import HealerSettings
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from support.scenes.monitor import MonitorOwner
from support.waiting import auntil

TRUTH = {"services": {"a": {"heartbeat": {"interval_sec": 10}}}}


class Owner(MonitorOwner):
    """Stand in for the agent, as far as `run_healer` needs it."""

    settings = HealerSettings()

    def __init__(self, bus: MemoryBus) -> None:
        super().__init__(bus)
        self.truth = parse_truth(orjson.dumps(TRUTH)).truth

    def bus(self, name: str, _truth: Any = None) -> MemoryBus:
        return super().bus(name)

    def set_detail(self, _detail: str | None) -> None: ...

    def set_degraded(self, _detail: str | None, part: str = "") -> None: ...

    def open_tracer(self) -> None: ...

    def expose(self, _collect: Any) -> None: ...

    def on_reseed(self, *_: Any, **__: Any) -> None: ...


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
    healer = asyncio.create_task(run_healer(Owner(bus), lambda: calls.append(keepers[0].restored.is_set())))
    try:
        await auntil(lambda: keepers or healer.done())
        assert calls == []
        may_restore.set()
        await auntil(lambda: calls or healer.done())
        assert calls == [True]
    finally:
        healer.cancel()
        await asyncio.gather(healer, return_exceptions=True)
        await bus.aclose()
