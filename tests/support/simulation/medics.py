"""Two medics that are killed, frozen and cut off at named points, over one bus in memory, in simulated time.

Medic, planner, store, lease, leadership and the fleet's end of the control socket are the product's own. Each
medic is a process with a loop of its own, so a freeze is one of all its tasks. The fleet has one service,
which hangs until it is restarted once. `MedicWorld(7).run()` repeats a story, and raises AssertionError if an
action is done twice, is lost, or comes from a medic whose lease is gone.
"""

import asyncio
import contextlib
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import fakeredis
import orjson
import pytest

from marketswarm.agent.heartbeat import Progress
from marketswarm.agent.lease import Lease, hold_lease
from marketswarm.agent.loops import lead
from marketswarm.agent.tasks import SideTasks
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage
from marketswarm.bus.transaction import TRANSACTION
from marketswarm.fleet.control import ControlledAgents, answer_request
from marketswarm.fleet_control import RestartAnswer
from marketswarm.keys import MEDIC_INCIDENTS, MEDIC_LEASE, MEDIC_STATE, own_lease_key
from marketswarm.operator.healing import UNDONE, EntryKind, TimelineEntry
from marketswarm.testing import MemoryBus
from services.medic.facts import FleetFacts, Health, ProcessFacts, RestartOwner, TargetFacts
from services.medic.medic import Medic
from services.medic.owners.embedded_fleet import EmbeddedFleet
from services.medic.refusal import Refusal
from services.medic.repair import RepairState
from services.medic.settings import HealingSettings
from services.medic.store import make_repair_field, parse_repair
from support.simulation.event_loop import Loop, World
from support.simulation.leaders import Quiet

SVC, MEDIC = "feed", "medic"
WALL: Final = 1_790_000_000.0
TIMEOUT_SEC: Final = 4.0
HANGS_AT: Final = 15.0
LIFE_SEC: Final = 10.0
START_SEC: Final = 2.0
END_SEC: Final = 600.0
SETTINGS: Final = HealingSettings.model_validate(
    {
        "mode": "act",
        "learning": True,
        "every_sec": 2.0,
        "wait_sec": 3.0,
        "settle_sec": 20,
        "stable_sec": 10,
        "start_grace_sec": 5,
    }
)
LEASE_KEY: Final = own_lease_key(MEDIC, MEDIC_LEASE)
ENTRIES: Final = ("opened", "intended", "acted", "verified", "resolved")
EPOCH_AT: Final = 4
"""Which argument of the record's transaction is the epoch; the entries are the one behind it."""
WRITES: Final = (*ENTRIES, "take", "renew", "look", "act")
POINTS: Final = tuple(f"{when} {what}" for what in WRITES for when in ("before", "after"))
TROUBLES: Final = ("kill", "freeze", "cut")
PATCHED: Final = ("fakeredis", "marketswarm.agent.lease", "marketswarm.bus.outage", "services.medic.medic")


class SimBus(MemoryBus):
    """A medic's client of the one bus: it names each write, and reaches nothing while it is cut off."""

    def __init__(self, process: "MedicProcess", server: Any) -> None:
        super().__init__(server=server)
        self.process = process

    async def ask(self, request: Any, within_sec: float | None = None, **more: Any) -> Any:
        if self.process.is_dead or self.process.is_cut:
            request.close()
            raise BusError(self.name, "timeout")
        return await super().ask(request, within_sec, **more)

    async def script(self, script: Any, keys: Any, args: Any, within_sec: float | None = None) -> Any:
        is_record = script is TRANSACTION and MEDIC_STATE in keys
        names = [str(args[0])] if LEASE_KEY in keys else find_entries(args) if is_record else []
        for name in names:
            await self.process.reach(f"before {name}")
        reply = await super().script(script, keys, args, within_sec)
        if is_record and reply == [1]:
            self.process.world.note_write(self.process, int(args[EPOCH_AT]))
        for name in names:
            await self.process.reach(f"after {name}")
        if self.process.is_cut:
            raise BusError(self.name, "timeout")  # it was done, and its answer is lost
        return reply


def find_entries(args: Any) -> list[str]:
    """Return what the timeline is told by a write."""
    entries = orjson.loads(args[EPOCH_AT + 1] or b"[]")
    parsed = (TimelineEntry.parse(each[-1].encode()) for each in entries)
    return [str(each.what) for each in parsed if each is not None]


class ProcessLoop(Loop):
    """A loop whose threads end at once; the world may do something before and after each of them."""

    process: "MedicProcess"

    def run_in_executor(self, _executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        self.process.world.note_request(self.process)
        done = self.create_future()

        def act() -> None:
            if self.process.is_dead:
                return
            result = func(*args)
            self.process.meet("after act", lambda: None if done.done() else done.set_result(result))

        self.process.meet("before act", act)
        return done


class MedicProcess:
    """One medic from its start to its death."""

    def __init__(self, world: "MedicWorld", place: str, run: int) -> None:
        self.world, self.place, self.name, self.boot = world, place, MEDIC, f"{place}{run}"
        self.log, self.is_dead, self.cut_until = Quiet(), False, 0.0
        self.loop = ProcessLoop(world, WALL)
        self.loop.process = self
        self.side_tasks = SideTasks(self.log)
        self.work_progress: Progress
        self.lease_held: Lease | None = None
        self.truth = SimpleNamespace(services=(SVC,))
        self.settings = SimpleNamespace(
            medic_command=None,
            medic_command_sec=30.0,
            medic_dry_run=False,
            truth_redis_key="truth:doc",
        )
        self.main = self.loop.create_task(self._main())

    @property
    def is_cut(self) -> bool:
        return self.world.t < self.cut_until

    async def _main(self) -> None:
        self.work_progress, self._bus = Progress(0.0), SimBus(self, self.world.server)
        owners = [EmbeddedFleet(Path("/s"))]
        medic = Medic(self, lambda: SETTINGS, Rules(), owners=owners)  # type: ignore[arg-type] # stubs
        medic.observer.observe = self._observe  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            self.side_tasks.begin_in(group)
            leading = lead(self, MEDIC_LEASE, medic.lead, Outage(self.log, "", ""))  # type: ignore[arg-type]
            self.side_tasks.start(leading, name=MEDIC)
            await asyncio.get_running_loop().create_future()

    async def _observe(self, *_args: Any) -> FleetFacts:
        await self.reach("before look")
        facts = self.world.show(is_cut=self.is_cut)
        await self.reach("after look")
        return facts

    # -- what the medic's agent is

    def bus(self, _name: str) -> SimBus:
        return self._bus

    def set_degraded(self, _detail: str | None, *, part: str) -> None:
        pass

    def lease(self, name: str, *, life_sec: float, bus: str, **more: Any) -> Any:
        self.lease_held = Lease(name, life_sec, self.bus(bus), self.name, self.boot, **more)
        return hold_lease(self, self.lease_held, None)  # type: ignore[arg-type]

    # -- what befalls it

    async def reach(self, point: str) -> None:
        """Meet what the world has for this point; return when the process goes on."""
        went_on = asyncio.Event()
        self.meet(point, went_on.set)
        await went_on.wait()

    def meet(self, point: str, go_on: Callable[[], None]) -> None:
        """Die, freeze or lose the bus at this point if that is planned, and go on."""
        trouble = self.world.take_trouble(self, point)
        if trouble == "kill":
            self.is_dead = True
            self.world.at(self.world.t, self.bury)
            return
        sec = self.world.random.choice((2.0, 8.0, 12.0, 25.0, 90.0)) if trouble else 0.0
        self.world.calm_at = max(self.world.calm_at, self.world.t + sec)
        if trouble == "cut":
            self.cut_until = self.world.t + sec
        if trouble == "freeze":
            self.loop.asleep_until = self.world.t + sec
            self.loop.post(self.world.t + sec, go_on)  # it goes on where it stood, before its timers
        else:
            go_on()

    def bury(self) -> None:
        """End its tasks: whatever they do in their end reaches nobody."""
        self.is_dead, self.loop.asleep_until = True, 0.0
        self.main.cancel()
        while not self.main.done():
            self.loop.step()
            self.world.t += 1e-3
        with contextlib.suppress(BaseExceptionGroup, asyncio.CancelledError):
            self.main.result()
        self.loop.close()


class Rules:
    """No rules."""

    def begin_term(self, _observed: Any) -> None:
        pass

    def take_observed(self, _now: float) -> None:
        return None

    def list_resources(self, _svc: str) -> dict[str, float]:
        return {}

    def list_alerts(self, services: Iterable[str]) -> dict[str, list[str]]:
        return {svc: [] for svc in services}

    def add_facts(self, facts: FleetFacts, *_: Any) -> FleetFacts:
        return facts

    async def measure(self, *_args: Any) -> None:
        pass

    def report_work(self, *_args: Any) -> None:
        pass


class SimChild:
    """The process of the service, as the fleet's end of the control socket has it."""

    def __init__(self, world: "MedicWorld") -> None:
        self.world, self.starts, self.started_at, self.is_hung = world, 1, -1000.0, False
        self.hung_at = 0.0

    @property
    def identity(self) -> str:
        return f"start {self.starts}"

    async def restart(self, identity: str) -> tuple[RestartAnswer, str]:
        if identity != self.identity:
            return RestartAnswer.CHANGED, "restarted meanwhile"
        self.world.note_action(identity)
        self.starts += 1
        self.started_at, self.is_hung = self.world.t, False
        return RestartAnswer.DONE, "restarted"


class MedicWorld(World):
    """The bus, the fleet, two medics, and what befalls them."""

    def __init__(self, seed: int, troubles: list[tuple[str, str]] | None = None) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.server = fakeredis.FakeServer()
        self.client: Any = fakeredis.FakeStrictRedis(server=self.server)
        self.child = SimChild(self)
        self.processes: list[MedicProcess] = []
        self.runs: Counter[str] = Counter()
        self.epoch, self.story = 0, [f"again: MedicWorld({seed})"]
        self.actions: list[tuple[str, int]] = []
        self.acted = set[float]()
        """When each intent was begun that was carried out."""
        self.faults = list[str]()
        self.fired = list[str]()
        drawn = [(self.random.choice(TROUBLES), self.random.choice(POINTS)) for _ in range(3)]
        self.troubles = drawn[: self.random.randint(1, 3)] if troubles is None else list(troubles)
        self.calm_at = 0.0
        for place in "ab":
            self.start(place)
        self.at(HANGS_AT, self.hang)

    def hang(self) -> None:
        self.child.is_hung, self.child.hung_at = True, self.t

    def start(self, place: str) -> None:
        self.runs[place] += 1
        self.processes.append(MedicProcess(self, place, self.runs[place]))

    # -- trouble

    def take_trouble(self, process: MedicProcess, point: str) -> str | None:
        """Return what befalls the process at this point. One trouble comes after the other."""
        is_due = self.t >= HANGS_AT or point.endswith("take")
        if process.is_dead or not is_due or not self.troubles or self.troubles[0][1] != point:
            return None
        trouble, _ = self.troubles.pop(0)
        self.fired.append(f"{trouble} {point}")
        self.tell(f"{trouble} of {process.boot} {point}")
        if trouble == "kill":
            self.at(self.t + self.random.choice((1.0, 5.0, 20.0)), partial(self.start, process.place))
        return trouble

    def tell(self, what: str) -> None:
        self.story.append(f"{self.t:7.2f} {what}")

    # -- what is seen, and done

    def show(self, *, is_cut: bool) -> FleetFacts:
        if is_cut:
            return FleetFacts({SVC: TargetFacts(svc=SVC)}, Refusal.CUT_OFF)
        child = self.child
        is_starting = self.t < child.started_at + START_SEC
        beat_at = child.hung_at if child.is_hung else self.t
        is_up = not is_starting and self.t - beat_at <= TIMEOUT_SEC
        boot = f"boot {child.starts - is_starting}"
        return FleetFacts(
            {
                SVC: TargetFacts(
                    svc=SVC,
                    health=Health.UP if is_up else Health.DOWN,
                    down_since=None if is_up else WALL + child.hung_at,
                    down_sec=None if is_up else self.t - child.hung_at,
                    boot=boot,
                    status="ok",
                    silence_sec=self.t - beat_at if is_up else None,
                    owner=RestartOwner.UP,
                    processes=(
                        ProcessFacts(child.identity, age_sec=self.t - child.started_at, is_restarting=False),
                    ),
                )
            }
        )

    def answer(self, _address: str, request: dict[str, Any]) -> Any:
        """Answer at the fleet's end of the control socket."""
        children: Any = {SVC: self.child}
        return finish(answer_request(orjson.dumps(request), ControlledAgents(children, self._add_service)))

    async def _add_service(self, _svc: str) -> None:
        raise AssertionError("a restart adds nothing")

    # -- the oracle

    def note_write(self, process: MedicProcess, epoch: int) -> None:
        if epoch < self.epoch:
            self.faults.append(f"{process.boot} wrote under the old lease {epoch}")
        self.epoch = max(self.epoch, epoch)

    def note_request(self, process: MedicProcess) -> None:
        """Hold a request that is about to be sent against the lease as its sender knows it.

        The fleet would refuse it; a command, which nothing else refuses, is begun by the same look.
        """
        if process.lease_held is None or not process.lease_held.held:
            self.faults.append(f"{process.boot} sends a request at {self.t:.1f} after its lease")

    def note_action(self, identity: str) -> None:
        """Hold an action against the intent and the lease on the bus."""
        loop: Any = asyncio.get_running_loop()
        process: MedicProcess = loop.process
        holder = self.client.hget(LEASE_KEY, "boot")
        if holder != process.boot.encode():
            self.faults.append(f"{process.boot} acts at {self.t:.1f}, and {holder!r} has the lease")
        raw = self.client.hget(MEDIC_STATE, make_repair_field(SVC))
        repair = None if raw is None else parse_repair(raw, SVC)
        lease = process.lease_held
        if repair is None or not repair.attempts or lease is None or repair.epoch != lease.epoch:
            self.faults.append(f"{process.boot} acts without an intent of its own: {repair}")
        elif repair.attempts[-1].identity != identity or repair.state is not RepairState.INTENDED:
            self.faults.append(f"{process.boot} acts on {identity}, not on what is intended: {repair}")
        if repair is not None and repair.attempts:
            self.acted.add(repair.attempts[-1].at)
        self.actions.append((identity, self.epoch))
        self.tell(f"{process.boot} restarts {identity}")

    def check(self) -> None:
        """Judge what is left after a long calm."""
        parsed = [TimelineEntry.parse(fields[b"entry"]) for _, fields in self.client.xrange(MEDIC_INCIDENTS)]
        entries = [each for each in parsed if each is not None]
        told = [str(each.what) for each in entries]
        assert not self.faults, self.faults
        assert len(self.actions) == 1, f"once, not {self.actions}"
        assert not self.child.is_hung
        assert self.client.hget(MEDIC_STATE, make_repair_field(SVC)) is None, "nothing is open"
        assert told.count("intended") == told.count("acted") + told.count("abandoned"), told
        assert told.count("opened") == told.count("resolved") == 1, told
        intended = [each.ts for each in entries if each.what is EntryKind.INTENDED]
        ends = [each for each in entries if each.what in (EntryKind.ACTED, EntryKind.ABANDONED)]
        for at, end in zip(intended, ends, strict=True):
            assert at not in self.acted or end.reason != UNDONE, f"{end} was done"

    # -- time

    def run(self) -> list[str]:
        """Let the story happen; return what befell the medics, and where. Raises AssertionError."""
        try:
            with simulated(self):
                self._run_until(HANGS_AT + 20)
                while not self._is_over() and self.t < END_SEC:
                    self._run_until(self.t + 10)
                self._run_until(self.t + 2 * LIFE_SEC)
                for each in self.processes:
                    if not each.is_dead:
                        each.bury()
            self.check()
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.story])) from error
        finally:
            self.client.close()
        return self.fired

    def _is_over(self) -> bool:
        """Return True once no trouble is left that could still happen, and no outage is open."""
        is_open = self.client.hexists(MEDIC_STATE, make_repair_field(SVC))
        return not (self.child.is_hung or is_open or self.t < self.calm_at)

    def _run_until(self, end: float) -> None:
        while True:
            at, do = self.next_at(), self.do_next
            for each in self.processes:
                if not each.is_dead and (its := each.loop.next_at()) < at:
                    at, do = its, each.loop.step
            if at > end:
                break
            self.t = max(self.t, at)
            do()
        self.t = end


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


@contextlib.contextmanager
def simulated(world: MedicWorld) -> Iterator[None]:
    """Let the server and the modules under test have the time of this world."""
    clock = SimpleNamespace(time=lambda: WALL + world.t, monotonic=lambda: world.t, process_time=lambda: 0.0)
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(PATCHED) and getattr(module, "time", None) is time:
                patch.setattr(module, "time", clock)
        patch.setattr("marketswarm.agent.lease.log", Quiet())
        patch.setattr("marketswarm.fleet_control._ask", world.answer)
        yield
