"""Every target on a schedule of its own: who is due is probed, beside all the others.

Not here: how a kind is probed (`probes/`), what follows from a result (`outlook.py`), where it goes.
"""

import asyncio
import importlib
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast

from marketswarm import log as logs
from services.massive.lanes import Lanes
from services.massive.probes.means import Means
from services.massive.probes.result import CONFIG, Finding, Result
from services.massive.rhythm import first_wait_sec, next_due
from services.massive.targets import Target

LATE_ROUNDS: Final = 3
LATE_SEC: Final = 5.0
OVER_SEC: Final = 1.0
"""What a probe may take beyond its limit, to hang up."""

BROKEN: Final = "broken"

log = logs.get("massive")


@dataclass(frozen=True, slots=True)
class Plan:
    """A target and how it is probed; two that are equal are the same plan. Seconds."""

    target: Target
    every_sec: float
    within_sec: float


@dataclass(slots=True)
class Standing:
    """One target under watch: its task, its last result, and when that came, by the loop's clock."""

    plan: Plan
    task: asyncio.Task[Any]
    since: float
    last: Finding | None = None
    at: float = field(default=float("-inf"))


class Start(Protocol):
    """Runs a side task of the agent."""

    def __call__(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """See `Agent.task`."""
        ...


class Rounds:
    """All targets under watch.

    Args:
        start: runs a side task.
        means: makes the means of one probe, from its plan and its last result.
        placed: gives the target as it can be probed, a bus as host and port; a Result says why it can't.
        deliver: takes each result.
    """

    def __init__(
        self,
        start: Start,
        lanes: Lanes,
        *,
        means: Callable[[Plan, Finding | None], Means],
        placed: Callable[[Target], Target | Result],
        deliver: Callable[[Plan, Finding], None],
    ) -> None:
        self._start, self._lanes = start, lanes
        self._means, self._placed, self._deliver = means, placed, deliver
        self.standing: dict[str, Standing] = {}
        self._modules: dict[str, Any] = {}
        self._loading = asyncio.Lock()

    def follow(self, plans: Sequence[Plan]) -> None:
        """Goes by these from now on; one that stays as it was keeps its schedule."""
        wanted = {plan.target.name: plan for plan in plans}
        for name, standing in list(self.standing.items()):
            if wanted.get(name) != standing.plan:
                standing.task.cancel()
                del self.standing[name]
        now = asyncio.get_running_loop().time()
        for name, plan in wanted.items():
            if name not in self.standing:
                wait_sec = first_wait_sec(plan.every_sec, len(wanted), random.random())
                task = self._start(self._watch(plan, now + wait_sec), name=f"probe of {name}")
                self.standing[name] = Standing(plan, task, now)

    def late(self) -> int:
        """Of how many targets there should have been a result by now, and is none."""
        now = asyncio.get_running_loop().time()
        waits = ((now - max(each.since, each.at), each.plan) for each in self.standing.values())
        return sum(waited_sec > _patience_sec(plan) for waited_sec, plan in waits)

    def latest(self) -> Mapping[str, Finding]:
        """The last result of each target; another thread may ask."""
        return {name: each.last for name, each in self.standing.copy().items() if each.last is not None}

    async def _watch(self, plan: Plan, due: float) -> None:
        clock = asyncio.get_running_loop().time
        await self._load(plan.target.kind)
        while True:
            await asyncio.sleep(max(0.0, due - clock()))
            standing = self.standing[plan.target.name]
            async with self._lanes.gate(standing.last):
                finding = await self._probed(plan, standing.last)
            standing.last, standing.at = finding, clock()
            self._deliver(plan, finding)
            due = next_due(due, clock(), plan.every_sec, random.random())

    async def _probed(self, plan: Plan, last: Finding | None) -> Finding:
        ts, name = time.time(), plan.target.name
        try:
            async with asyncio.timeout(plan.within_sec + OVER_SEC):
                return Finding(name, ts, await self._look(plan, last))
        except Exception:
            # a probe raises nothing: this one is broken, and that is no reason to stop all others
            log.exception("probe.broken", target=name, kind=plan.target.kind)
            return Finding(name, ts, Result(plan.target.kind, "", CONFIG, BROKEN))

    async def _look(self, plan: Plan, last: Finding | None) -> Result:
        placed = self._placed(plan.target)
        if isinstance(placed, Result):
            return placed
        return cast("Result", await self._modules[placed.kind].probe(placed, self._means(plan, last)))

    async def _load(self, kind: str) -> None:
        """Some take a second to load, in which nobody else is to stand still."""
        async with self._loading:
            if kind not in self._modules:
                name = f"services.massive.probes.{kind}"
                self._modules[kind] = await asyncio.to_thread(importlib.import_module, name)


def _patience_sec(plan: Plan) -> float:
    return LATE_ROUNDS * plan.every_sec + plan.within_sec + LATE_SEC
