"""The side tasks of an agent: they live beside its body, end with it, and their death is the agent's."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from marketswarm.exit import exit_in


class SideTasks:
    """Started while the body runs. `died` names the first of them that died."""

    def __init__(self, log: Any) -> None:
        self.died: str | None = None
        self._log = log
        self._group: asyncio.TaskGroup | None = None
        self._body: asyncio.Task[Any] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def live_in(self, group: asyncio.TaskGroup) -> None:
        """From now on they may run, and the body does, in this task."""
        self._group, self._body = group, asyncio.current_task()

    def in_body(self) -> bool:
        """Whether it is the body that asks, not a task beside it."""
        return asyncio.current_task() is self._body

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run one. Raises RuntimeError while there is no body."""
        if self._group is None:
            work.close()
            raise RuntimeError("side tasks live inside `async with agent(…)`")
        task = self._group.create_task(self._guarded(work, name), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began
        return task

    def end(self) -> None:
        """The body is over, and so are they all."""
        self._group = None
        for task in list(self._tasks):
            task.cancel()

    async def _guarded(self, work: Coroutine[Any, Any, Any], name: str) -> Any:
        try:
            return await work
        except Exception as error:
            self.died = self.died or name
            if exit_in(error) is None:
                self._log.critical("task.died", task=name, exc_info=error)
            raise
