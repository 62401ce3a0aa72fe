"""Carry out orders beside the rounds of the medic, one for each service at most, and say how far they are."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from marketswarm.agent import LeaseLost
from marketswarm.tasks import end_tasks
from marketswarm.text import format_duration
from services.medic.command_process import identify_group
from services.medic.remedies import REMEDIES, OrderResult, RemedyContext, RemedyOrder
from services.medic.remedies.command_output import CommandOutput
from services.medic.remedies.remedy import TOO_LATE

FIRST_NOTE_SEC: Final = 60.0
"""How long after its begin the timeline first says how far an order is; each time it doubles."""
NOT_BEGUN: Final = "it was not begun: the bus did not say that its begin is stored"


@dataclass(slots=True)
class RunningCommand:
    """An order that begins, is carried out, or has ended and was not dropped. Times are by time.monotonic.

    `epoch` is that of the lease under which it begins, `note_after_sec` how long after `began` the
    timeline next says how far it is, `ended` when it ended; None as long as it has not. `started` is set
    once it was started, or has ended without that. `process` is the identity of its process group; empty
    before its start, and where there is none.
    """

    order: RemedyOrder
    epoch: int
    task: asyncio.Future[tuple[OrderResult, str]]
    output: CommandOutput = field(default_factory=CommandOutput)
    began: float = field(default_factory=time.monotonic)
    note_after_sec: float = FIRST_NOTE_SEC
    ended: float | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    process: str = ""

    def note_start(self, pid: int) -> None:
        self.process = identify_group(pid)
        self.started.set()

    def refuse(self) -> None:
        """End an order that was registered, and is not begun."""
        self.task.set_result((OrderResult.REFUSED, NOT_BEGUN))

    def describe(self) -> str:
        """Return for how long it runs or ran, and the last line of its output: `2m: step 3 of 9`."""
        said = self.output.find_progress()
        took = format_duration((time.monotonic() if self.ended is None else self.ended) - self.began)
        return f"{took}: {said}" if said else took

    def find_outcome(self) -> tuple[OrderResult, str]:
        """Return what became of an order whose task has ended, and a sentence for people.

        Raises what the task has raised, but for the end of a lease before anything was begun.
        """
        if self.task.cancelled():
            return OrderResult.BROKEN_OFF, f"ended after {self.describe()}"
        try:
            return self.task.result()
        except LeaseLost:
            return OrderResult.REFUSED, TOO_LATE


class CommandRuns:
    """Hold the orders that run; `on_end` is called once with each that has ended.

    They outlast a term that ends because a bus is away: each is held until `drop`, once its outcome is
    stored.
    """

    def __init__(self, on_end: Callable[[RunningCommand], None]) -> None:
        self._runs, self._on_end = dict[str, RunningCommand](), on_end

    @property
    def runs(self) -> Mapping[str, RunningCommand]:
        """What runs for each service, or has ended and was not dropped."""
        return self._runs

    def register(self, order: RemedyOrder, epoch: int) -> RunningCommand:
        """Hold an order that is about to begin under the lease `epoch`, until `begin`, or its `refuse`."""
        run = RunningCommand(order, epoch, asyncio.get_running_loop().create_future())
        self._runs[order.svc] = run
        return run

    def begin(self, run: RunningCommand, context: RemedyContext) -> None:
        """Begin to carry out an order that was registered: it starts a program."""
        context = replace(context, output=run.output, on_start=run.note_start)
        work = REMEDIES[run.order.remedy].carry_out(run.order, context)
        run.task, run.began = asyncio.ensure_future(work), time.monotonic()
        run.task.add_done_callback(lambda _: self._note_end(run))

    def _note_end(self, run: RunningCommand) -> None:
        run.ended = time.monotonic()
        run.started.set()
        self._on_end(run)

    def list_ended(self) -> list[RunningCommand]:
        """Return the orders that have ended, by themselves or by `end`."""
        return [each for each in self._runs.values() if each.task.done()]

    def drop(self, run: RunningCommand) -> None:
        """Forget an order that has ended."""
        del self._runs[run.order.svc]

    def take_notes(self) -> Iterator[tuple[RemedyOrder, str]]:
        """Yield each order about which the timeline is to say how far it is, and a sentence for people."""
        for run in self._runs.values():
            if time.monotonic() - run.began >= run.note_after_sec:
                run.note_after_sec *= 2
                yield run.order, run.describe()

    def describe(self) -> Iterator[str]:
        """Yield for each service what runs for it, and for how long: `command of feed, 2m: step 3 of 9`."""
        for svc, run in sorted(self._runs.items()):
            if not run.task.done():
                yield f"{run.order.remedy} of {svc}, {run.describe()}"

    def cancel(self) -> None:
        """Begin to kill the commands that run; each is held until `drop`, as after `end`."""
        for each in self._runs.values():
            each.task.cancel()

    async def end(self, is_kept: Callable[[RunningCommand], bool] = lambda _: False) -> list[RunningCommand]:
        """Kill the commands of orders that are not kept; return these orders, and those that had ended.

        They are held until `drop`: that they were broken off may have to be stored by a later term.
        """
        ended = [each for each in self._runs.values() if not is_kept(each)]
        await end_tasks(*(each.task for each in ended))
        return ended
