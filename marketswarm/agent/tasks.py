"""Tasks of an agent: side tasks that run beside its body, and blocks that another task can cancel.

Side tasks are cancelled when the body ends; if one fails, the agent ends.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, Protocol

from marketswarm.agent.heartbeat import Progress
from marketswarm.bus import Bus
from marketswarm.bus.subscriber import subscribe
from marketswarm.exit import Exit, find_error
from marketswarm.truth import Truth

_CANCEL_EVERY_SEC: Final = 0.1
CANCEL_AGAIN_SEC: Final = 3.25
"""Seconds until a block that continues after a cancellation is cancelled again. Its clean-up has this long;
the rest of the 5 s that an agent has to end is for its goodbye and for closing."""


class CancelScope:
    """A block of the current task that another task can cancel. It begins when the scope is created.

    Call `end` in the same task, however the block ended.
    """

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a block lives in a task")
        self._task = task
        self._cancels_before = task.cancelling()
        self._cancels = 0
        self._cancel_timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def cancel(self) -> None:
        """Cancel the block, and again every 3.25 s until it ends. Do nothing if it has ended."""
        if self._is_over:
            return
        self._cancels += 1
        self._task.cancel()
        if self._cancel_timer is not None:
            self._cancel_timer.cancel()
        self._cancel_timer = asyncio.get_running_loop().call_later(CANCEL_AGAIN_SEC, self.cancel)

    def end(self) -> bool:
        """End the block; return True if `cancel` cancelled it, and nothing else cancelled the task."""
        self._is_over = True
        if self._cancel_timer is not None:
            self._cancel_timer.cancel()
        was_cancelled = self._cancels > 0
        while self._cancels:
            self._cancels -= 1
            self._task.uncancel()
        return was_cancelled and self._task.cancelling() <= self._cancels_before


class SideTasks:
    """The side tasks of one agent. `first_failed` is the name of the first of them that failed."""

    def __init__(self, log: Any) -> None:
        self.first_failed: str | None = None
        self._log = log
        self._group: asyncio.TaskGroup | None = None
        self._body: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin_in(self, group: asyncio.TaskGroup) -> None:
        """Run side tasks in `group` from now on; the current task is the one that runs the body."""
        self._group, self._body = group, asyncio.current_task()

    def is_in_body(self) -> bool:
        return asyncio.current_task() is self._body

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Raise RuntimeError while no body runs."""
        if self._group is None:
            work.close()
            raise RuntimeError("side tasks live inside `async with agent(…)`")
        task = self._group.create_task(self._run_guarded(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began
        return task

    def end(self) -> None:
        self._group = None
        for task in list(self._tasks):
            task.cancel()

    async def _run_guarded(self, work: Coroutine[Any, Any, Any], name: str) -> Any:
        try:
            return await work
        except Exception as error:
            self.first_failed = self.first_failed or name
            if find_error(error, Exit) is None:
                self._log.critical("task.died", task=name, exc_info=error)
            raise


class Host(Protocol):
    """The agent as its leases and shares see it; `Agent` documents each of these."""

    name: str
    boot: str
    log: Any
    side_tasks: SideTasks
    work_progress: Progress

    @property
    def beat_bus(self) -> str: ...

    @property
    def timeout_sec(self) -> float: ...

    def bus(self, name: str) -> Bus: ...

    def set_degraded(self, detail: str | None, *, part: str) -> None: ...

    def waiting(self, within_sec: float) -> contextlib.AbstractAsyncContextManager[None]: ...

    def wake(self) -> None: ...

    def on_reseed(self, callback: Callable[[Truth], None]) -> None: ...


@contextlib.asynccontextmanager
async def subscribe_inside(
    side_tasks: SideTasks, bus: Bus, channel: str, on_message: Callable[[bytes | None], None]
) -> AsyncIterator[None]:
    """Subscribe to `channel` inside this block, in a side task.

    Call `on_message(payload)` for each message, and `on_message(None)` at each (re)subscription, when
    messages may be missing.
    """
    task = side_tasks.start(
        subscribe(
            bus,
            channels=(channel,),
            on_message=lambda _channel, payload: on_message(payload),
            on_subscribed=lambda: on_message(None),
        ),
        name=f"{channel} on {bus.name}",
    )
    try:
        yield
    finally:
        while not task.done():  # on Python 3.11 the client library can lose a cancellation
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_EVERY_SEC)
