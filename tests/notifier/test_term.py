"""A term that waits for a bus for too long ends; one whose wall clock is set goes on by it."""

import asyncio
import time

import orjson
import pytest

from marketswarm.agent import agent
from marketswarm.settings.programs import NotifierSettings
from marketswarm.testing import MemoryBuses
from notifier import app
from notifier.dispatcher import Dispatcher
from notifier.source import BusPoller, LogReader
from notifier.store import Store
from support.memory_truth import put_truth

RAW = orjson.dumps({"services": {"notifier": {"heartbeat": {"interval_sec": 0.5, "timeout_sec": 40}}}})


class FirstHangs:
    """Replaces a method: its first call never returns, later ones do what the method does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.calls = 0
        method = getattr(owner, name)

        async def call(*args):
            self.calls += 1
            if self.calls == 1:
                await wait_for_ever()
            return await method(*args)

        monkeypatch.setattr(owner, name, call)


async def wait_for_ever(*_args):
    await asyncio.Event().wait()


@pytest.fixture
async def buses(monkeypatch, moved_time):
    for name in ("SYSTEM_REDIS_URL", "MARKET_REDIS_URL", "WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(LogReader, "run", wait_for_ever)  # a bus in memory has no blocking XREADGROUP
    monkeypatch.setattr(BusPoller, "run", wait_for_ever)
    buses = MemoryBuses()
    bus = buses("system-redis")
    await put_truth(bus, RAW)
    yield buses
    await bus.aclose()


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "name"), [(Store, "load"), (Dispatcher, "dispatch")])
async def test_a_wait_that_takes_too_long_ends_the_term_and_not_the_notifier(
    owner, name, buses, monkeypatch, capsys
):
    FirstHangs(monkeypatch, owner, name)
    terms = []
    begin = app.LeadershipTerm.run

    def run(term):
        terms.append(term)
        return begin(term)

    monkeypatch.setattr(app.LeadershipTerm, "run", run)
    settings = NotifierSettings(truth_wait_sec=5, watchdog_sec=1000, log_format="json")
    async with agent("notifier", settings, heartbeat=app.notifier_heartbeat, open_bus=buses) as me:
        running = me.task(app.run_notifier(me), name="notifier")
        await asyncio.sleep(app.BUS_ANSWER_WITHIN_SEC - 1)
        assert len(terms) == 1
        await asyncio.sleep(2)
        assert len(terms) == 2
        assert not running.done()
    assert '"event":"leadership.timed_out"' in capsys.readouterr().err


@pytest.mark.parametrize("step_sec", [-3600.0, 3600.0])
async def test_a_term_moves_what_waits_by_a_step_of_the_wall_clock(step_sec, buses, monkeypatch, capsys):
    ahead, moved = [0.0], []
    clock = app.SteadyClock(lambda: time.monotonic(), lambda: time.time() + ahead[0])
    monkeypatch.setattr(app, "SteadyClock", lambda: clock)
    shift = Dispatcher.shift_times

    def shift_times(dispatcher, by_sec):
        moved.append(by_sec)
        shift(dispatcher, by_sec)

    monkeypatch.setattr(Dispatcher, "shift_times", shift_times)
    settings = NotifierSettings(truth_wait_sec=5, watchdog_sec=1000, log_format="json")
    async with agent("notifier", settings, heartbeat=app.notifier_heartbeat, open_bus=buses) as me:
        me.task(app.run_notifier(me), name="notifier")
        await asyncio.sleep(10)
        assert moved == []
        ahead[0] = step_sec
        await asyncio.sleep(2 * app.DISPATCH_EVERY_SEC)
    assert moved == [pytest.approx(step_sec, abs=0.5)]
    assert '"event":"clock.set"' in capsys.readouterr().err


async def test_a_defect_that_was_mended_is_in_the_beats(buses, monkeypatch):
    monkeypatch.setattr(Dispatcher, "find_trouble", lambda _: "a defect", raising=False)
    settings = NotifierSettings(truth_wait_sec=5, watchdog_sec=1000, log_format="json")
    async with agent("notifier", settings, heartbeat=app.notifier_heartbeat, open_bus=buses) as me:
        me.task(app.run_notifier(me), name="notifier")
        await asyncio.sleep(2 * app.DISPATCH_EVERY_SEC)
        assert me.trouble() == "a defect"
