"""A thread that ends a process that hangs: it logs the stacks and exits with code 5, for a restart.

It detects an event loop that no longer runs, work without progress, and a stop that takes longer than 4.5 s.
Time in which the process itself was stopped (SIGSTOP, a suspended machine) does not count.
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Self

from marketswarm import log
from marketswarm.agent.heartbeat import Progress
from marketswarm.exit import Code

MIN_LIMIT_SEC: Final = 3.0
STOP_WITHIN_SEC: Final = 4.5  # 5 s are allowed
MAX_STEP_SEC: Final = 1.0
PAUSED_ABOVE_SEC: Final = 0.5  # if the thread wakes this much too late, the process was stopped meanwhile
LOG_WITHIN_SEC: Final = 2.0  # a log pipe without a reader must not keep a hung process alive
TASKS_SHOWN: Final = 50


class Watchdog:
    """Monitors one event loop and one work loop. `limit_sec` is the longest silence of either, in seconds.

    `end_process` ends the process with an exit code; tests pass another function.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        progress: Progress,
        end_process: Callable[[int], Any] = os._exit,
    ) -> None:
        self.limit_sec = float("inf")
        self.stop_by = float("inf")  # the `time.monotonic()` by which a requested stop must have ended
        self._loop, self._progress, self._end_process = loop, progress, end_process
        self._ticked_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(MAX_STEP_SEC)

    @property
    def step_sec(self) -> float:
        """Return the seconds between two ticks of the loop, and between two checks of the thread."""
        return min(MAX_STEP_SEC, self.limit_sec / 8)

    def start(self, limit_sec: float) -> None:
        """Begin to monitor with this limit; silence of the event loop before now does not count."""
        self.record_tick(time.monotonic())
        self.limit_sec = limit_sec

    async def run_ticks(self) -> None:
        """Record that the event loop runs, once a step, until cancelled."""
        while True:
            self.record_tick(time.monotonic())
            await asyncio.sleep(self.step_sec)

    def record_tick(self, now: float) -> None:
        self._ticked_at = now

    def begin_stop(self) -> None:
        """The stop must end within 4.5 s of the first call."""
        self.stop_by = min(self.stop_by, time.monotonic() + STOP_WITHIN_SEC)

    def find_hang(self, now: float) -> str | None:
        """Return why the process must end at `now`: `stop_hung`, `loop_hung`, `work_hung` or None."""
        if now > self.stop_by:
            return "stop_hung"
        still_sec, silent_sec = now - self._ticked_at, self._progress.silent_sec(now)
        if max(still_sec, silent_sec) <= self.limit_sec:
            return None
        # an event loop that hangs stops the work too, and the work's silence may reach the limit first
        return "loop_hung" if still_sec > self.limit_sec / 2 else "work_hung"

    def last_alive_at(self, now: float) -> float:
        """Return when both the event loop and the work last were alive, in monotonic seconds."""
        return min(self._ticked_at, now - self._progress.silent_sec(now))

    def discount_pause(self, paused_sec: float, now: float) -> None:
        """Discount `paused_sec` seconds during which the whole process was stopped."""
        self._ticked_at = min(now, self._ticked_at + paused_sec)
        self._progress.last_at = min(now, self._progress.last_at + paused_sec)
        self.stop_by += paused_sec

    def _watch(self) -> None:
        while True:
            step_sec = self.step_sec
            expected_at = time.monotonic() + step_sec
            if self._ended.wait(step_sec):
                return
            now = time.monotonic()
            if now - expected_at > PAUSED_ABOVE_SEC:
                self.discount_pause(now - expected_at, now)
            reason = self.find_hang(now)
            if reason is not None:
                self._end_hung(reason, now)
                return

    def _end_hung(self, reason: str, now: float) -> None:
        """Log the stacks, for 2 s at most, and end the process with code 5."""
        stacks = {"threads": format_thread_stacks(), "tasks": format_task_stacks(self._loop)}
        silent_sec = round(now - self.last_alive_at(now), 3)

        def log_hang() -> None:
            log.get("watchdog").critical(
                "agent.hung", reason=reason, silent_sec=silent_sec, limit_sec=self.limit_sec, **stacks
            )

        log_thread = threading.Thread(target=log_hang, daemon=True)
        log_thread.start()
        log_thread.join(LOG_WITHIN_SEC)
        self._end_process(Code.DIED)


def format_thread_stacks() -> dict[str, str]:
    """Return the stack of each thread of the process by its name and id, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return {
        f"{names.get(ident, '?')} ({ident})": "".join(traceback.format_stack(frame))
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - the documented way
    }


def format_task_stacks(loop: asyncio.AbstractEventLoop) -> dict[str, str]:
    """Return where each task of the loop waits, innermost call last; 50 tasks at most.

    Called from another thread, this may return an incomplete list.
    """
    stacks: dict[str, str] = {}
    with contextlib.suppress(RuntimeError):  # the set of tasks changed while it was read
        for task in list(asyncio.all_tasks(loop))[:TASKS_SHOWN]:
            stacks[task.get_name()] = "\n".join(
                f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
                for frame in _collect_frames(task.get_coro())
            )
    return stacks


def _collect_frames(waiting: object) -> list[FrameType]:
    """Return the frames of a coroutine or generator, and of what it awaits; 50 at most."""
    frames: list[FrameType] = []
    while waiting is not None and len(frames) < TASKS_SHOWN:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(waiting, f"{kind}_frame")), None)
        if kind is None:
            break
        frame = getattr(waiting, f"{kind}_frame")
        if frame is not None:
            frames.append(frame)
        waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return frames
