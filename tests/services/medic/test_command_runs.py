"""Orders that run apart from the rounds: stored before they begin, and ended with the medic."""

import asyncio
import contextlib
import shlex
import sys
from types import SimpleNamespace

import orjson
import pytest

from marketswarm.agent import LeaseLost
from marketswarm.agent.lease import Lease, clock
from marketswarm.bus import BusError
from marketswarm.keys import MEDIC_STATE
from marketswarm.operator.healing import read_timeline
from marketswarm.testing import MemoryBus
from marketswarm.truth import parse_truth
from services.medic.facts import FleetFacts, Health, TargetFacts
from services.medic.loop import end_commands_after
from services.medic.medic import Medic
from services.medic.repair import RepairState
from services.medic.settings import HealingSettings
from services.medic.store import read_state
from support.recording_log import RecordingLog
from support.rig.process import alive
from support.waiting import auntil

pytestmark = pytest.mark.live

TRUTH = parse_truth(orjson.dumps({"services": {"feed": {}}})).truth
SETTINGS = HealingSettings.model_validate({
    "mode": "act",
    "every_sec": 0.1,
    "wait_sec": 0.1,
    "fuse": {"down_share": 1},
    "targets": {"feed": {"ladder": ["command"], "timeout_sec": 600}},
})  # fmt: skip
SCRIPT = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with (folder / "begun").open("a") as begun:
    print(os.getpid(), file=begun)
print("\\x1b[31mstep 3 of 9, password=hunter2hunter2", flush=True)
print("a part of a line, password=", end="", flush=True)
while not (folder / "go").exists():
    time.sleep(0.02)
"""


class Rules:
    """Stands in for the rules: there are none."""

    def begin_term(self, _observed):
        pass

    def list_resources(self, _svc):
        return {}

    def take_observed(self, _now):
        return None

    async def measure(self, *_args):
        pass

    def report_work(self, *_args):
        pass

    def list_alerts(self, _services):
        return {}

    def add_facts(self, facts, *_args):
        return facts


class Scene:
    """A medic over a bus in memory, and a service that is down."""

    def __init__(self, folder, tasks):
        (folder / "script.py").write_text(SCRIPT)
        self.folder, self.bus, self.log = folder, MemoryBus(), RecordingLog()
        command = shlex.join([sys.executable, str(folder / "script.py"), str(folder)])
        settings = SimpleNamespace(
            medic_command=command, medic_command_sec=30.0, medic_dry_run=False, truth_redis_key="truth:doc"
        )
        me = SimpleNamespace(log=self.log, settings=settings, truth=TRUTH, bus=lambda _: self.bus)
        self.medic = Medic(me, lambda: SETTINGS, Rules())
        self.medic.observer.observe = self._observe
        self.lease = Lease("medic", 3600, self.bus, "medic", "m1")
        self.lease.epoch, self.lease.expires_at = 7, clock() + 3600
        self.services, self.looks, self._tasks = ["feed"], 0, tasks

    async def _observe(self, *_args):
        self.looks += 1
        return FleetFacts({svc: TargetFacts(svc=svc, health=Health.DOWN, boot="b1") for svc in self.services})

    def lead(self):
        term = asyncio.ensure_future(self.medic.lead(self.lease))
        self._tasks.append(term)
        return term

    def list_begun(self):
        path = self.folder / "begun"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def begin(self):
        """Begin a term; return it, and the pid of the command, once that has written something."""
        term = self.lead()
        await auntil(lambda: "step 3" in (self.medic.summarize() or ""), what="the command's output")
        (pid,) = self.list_begun()
        return term, pid

    async def read_repair(self):
        (repair,), _, _ = await read_state(self.bus, ["feed"])
        return repair

    async def list_steps(self):
        entries, _ = await read_timeline(self.bus)
        return [f"{each.what} {each.reason}".strip() for each in entries]

    async def wait_for_step(self, step):
        async def is_last():
            return (await self.list_steps())[-1] == step

        await auntil(is_last, what=f"the step {step!r}")

    def list_ended(self):
        return [fields["svc"] for event, fields in self.log.lines if event == "medic.command_ended"]


@pytest.fixture
async def scene(tmp_path):
    tasks = []
    found = Scene(tmp_path, tasks)
    yield found
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await found.medic.end_commands()


async def test_the_begin_is_stored_before_the_command_and_its_outcome_by_a_later_round(scene):
    _, pid = await scene.begin()
    repair, looks = await scene.read_repair(), scene.looks
    assert repair.state is RepairState.INTENDED
    assert repair.runs_until - repair.since > 600
    assert (await scene.list_steps())[-2:] == ["intended", "running"]
    await auntil(lambda: scene.looks > looks + 3, what="rounds beside it")
    (scene.folder / "go").touch()
    await auntil(lambda: not alive(pid), what="its end")
    await scene.wait_for_step("acted")
    assert (await scene.list_steps())[-2] == "running"
    assert (await scene.read_repair()).runs_until is None
    assert scene.list_begun() == [pid]
    assert scene.list_ended() == []


async def test_one_whose_begin_is_not_stored_is_not_begun(scene, monkeypatch):
    real = scene.medic._write  # noqa: SLF001 - only this one write is to fail

    async def write(store, plan, lease):
        if any(each.what == "running" for each in plan.entries):
            await scene.bus.client.hset(MEDIC_STATE, "epoch", "8")
        await real(store, plan, lease)

    monkeypatch.setattr(scene.medic, "_write", write)
    with pytest.raises(LeaseLost):
        await scene.lead()
    assert (await scene.list_steps())[-1] == "intended"
    assert scene.list_begun() == []
    assert scene.medic.summarize() == "waits for its lease"


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("error", [BusError("system-redis", "timeout"), asyncio.CancelledError()], ids=str)
async def test_of_one_whose_begin_may_be_stored_it_is_known_that_it_was_not_begun(
    scene, monkeypatch, error, is_stored
):
    real, failed = scene.medic._write, []  # noqa: SLF001 - only this one write is to fail

    async def write(store, plan, lease):
        is_begin = not failed and any(each.what == "running" for each in plan.entries)
        if is_begin:
            failed.append(plan)
        if is_stored or not is_begin:
            await real(store, plan, lease)
        if is_begin:
            raise error

    monkeypatch.setattr(scene.medic, "_write", write)
    with pytest.raises(type(error)):
        await scene.lead()
    if isinstance(error, BusError):
        scene.lead()
    await scene.wait_for_step("abandoned refused")
    assert ("running" in await scene.list_steps()) is is_stored
    assert (await scene.read_repair()).runs_until is None
    assert scene.list_begun() == scene.list_ended() == []


async def test_its_progress_is_a_whole_line_that_can_be_shown_and_has_no_secret(scene):
    await scene.begin()
    said = scene.medic.summarize()
    assert "runs: command of feed, " in said
    assert "step 3 of 9" in said
    assert "hunter2" not in said
    assert "a part of a line" not in said
    assert said.isprintable()


async def test_what_ended_while_the_bus_was_away_is_stored_by_the_next_term(scene):
    term, pid = await scene.begin()
    scene.bus.connected = False
    with pytest.raises(BusError):
        await term
    assert alive(pid)
    (scene.folder / "go").touch()
    await auntil(lambda: not alive(pid), what="its end")
    scene.bus.connected = True
    scene.lead()
    await scene.wait_for_step("acted")
    assert scene.list_begun() == [pid]


async def end_term(term):
    term.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await term


async def test_one_whose_lease_ends_since_the_bus_hangs_goes_on(scene):
    term, pid = await scene.begin()
    scene.lease.expires_at = clock()  # no answer came: the lease ends before the bus fails
    await end_term(term)
    assert alive(pid)
    scene.lease.expires_at = clock() + 3600
    (scene.folder / "go").touch()
    scene.lead()
    await scene.wait_for_step("acted")
    assert scene.list_begun() == [pid]


async def test_one_whose_lease_ended_unnoticed_is_killed_once_another_medic_leads(scene):
    term, pid = await scene.begin()
    scene.lease.expires_at = clock()  # this medic stood still, and did not renew it
    await end_term(term)
    waiting = Lease("medic", 3600, scene.bus, "medic", "m1", on_other_holder=lambda _: scene.medic.give_way())
    earlier, other = (Lease("medic", 3600, scene.bus, "medic", boot) for boot in ("m1", "m2"))
    await earlier.acquire()
    assert not await waiting.acquire()
    await earlier.release()
    await asyncio.sleep(0)
    assert alive(pid), "it was a request of this medic itself that held it"
    await other.acquire()
    for _ in range(3):  # it asks again and again
        assert not await waiting.acquire()
    await auntil(lambda: not alive(pid), what="its end")
    await auntil(scene.list_ended, what="a line of the log")
    assert (await scene.list_steps())[-1] == "running", "it is not this medic's to store"
    scene.lease.expires_at = clock() + 3600
    scene.lead()
    await scene.wait_for_step("abandoned broken_off")
    assert scene.list_begun() == [pid]
    assert scene.list_ended() == ["feed"]


async def test_that_one_was_broken_off_is_stored_by_the_next_term_if_the_bus_is_away(scene):
    term, pid = await scene.begin()
    scene.bus.connected = False
    scene.lease.expires_at = float("-inf")  # an answer said that it is lost
    await end_term(term)
    await auntil(lambda: not alive(pid), what="its end")
    assert scene.medic.summarize() == "waits for its lease"
    scene.bus.connected, scene.lease.expires_at = True, clock() + 3600
    scene.lead()
    await scene.wait_for_step("abandoned broken_off")
    assert scene.list_begun() == [pid]
    assert scene.list_ended() == ["feed"]


async def test_an_outcome_that_the_bus_did_not_take_is_not_lost(scene, monkeypatch):
    term, pid = await scene.begin()
    real, failed = scene.medic._write, []  # noqa: SLF001 - only this one write is to fail

    async def write(store, plan, lease):
        if not failed and any(each.what == "acted" for each in plan.entries):
            failed.append(plan)
            raise BusError("system-redis", "timeout")
        await real(store, plan, lease)

    monkeypatch.setattr(scene.medic, "_write", write)
    (scene.folder / "go").touch()
    with pytest.raises(BusError):
        await term
    scene.lead()
    await scene.wait_for_step("acted")
    assert scene.list_begun() == [pid]


async def test_a_medic_that_stops_kills_it_and_stores_that_it_was_broken_off(scene):
    term, pid = await scene.begin()
    await end_term(term)
    await auntil(lambda: not alive(pid), what="its end")
    assert (await scene.list_steps())[-1] == "abandoned broken_off"
    assert (await scene.read_repair()).runs_until is None
    assert scene.list_ended() == ["feed"]


async def test_a_medic_that_is_superseded_kills_it_and_stores_nothing(scene):
    term, pid = await scene.begin()
    await scene.bus.client.hset(MEDIC_STATE, "epoch", "8")
    with pytest.raises(LeaseLost):
        await term
    await auntil(lambda: not alive(pid), what="its end")
    assert (await scene.list_steps())[-1] == "running"
    assert (await scene.read_repair()).runs_until is not None, "the other medic waits until the deadline"


async def test_one_whose_service_left_the_truth_is_killed(scene):
    term, pid = await scene.begin()
    scene.services = []
    await auntil(scene.list_ended, within=30, what="a line of the log")
    await auntil(lambda: not alive(pid), what="its end")
    assert not term.done()
    assert (await scene.list_steps())[-1] == "resolved retired"


async def test_one_that_was_left_by_a_term_without_a_bus_is_killed_when_the_medic_stops(scene):
    term, pid = await scene.begin()
    scene.bus.connected = False

    async def lead_once():
        with contextlib.suppress(BusError):
            await term
        await asyncio.Event().wait()

    leading = asyncio.ensure_future(end_commands_after(lead_once(), scene.medic))
    await auntil(term.done, what="the end of the term")
    assert alive(pid)
    leading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await leading
    await auntil(lambda: not alive(pid), what="its end")
    assert scene.list_ended() == ["feed"]


async def test_one_that_an_earlier_term_began_is_killed_if_the_repair_is_another_one(scene):
    term, pid = await scene.begin()
    scene.bus.connected = False
    with pytest.raises(BusError):
        await term
    scene.bus.connected = True
    scene.lease.epoch = 8  # another medic intended the same remedy meanwhile
    raw = orjson.loads(await scene.bus.client.hget(MEDIC_STATE, "repair:feed"))
    await scene.bus.client.hset(MEDIC_STATE, "repair:feed", orjson.dumps(raw | {"epoch": 8}))
    scene.lead()
    await auntil(lambda: not alive(pid), what="its end")
    assert (await scene.list_steps())[-1] == "running"
