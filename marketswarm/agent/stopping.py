"""A stop as asked: SIGTERM or SIGINT becomes one cancellation of the agent's body.

Only the body is cancelled. What follows it (the goodbye, closing) runs undisturbed, bounded by itself and,
in the end, by the watchdog.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Final

AGAIN_SEC: Final = 1.5  # a body that lost its cancellation gets another


class Stop:
    """Whether the current task's work was asked to stop, by which signal."""

    def __init__(self, asked: Callable[[], None]) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("an agent lives in a task")
        self.signal: str | None = None
        self._task = task
        self._asked = asked
        self._cancels = 0
        self._again: asyncio.TimerHandle | None = None
        self._body_runs = True

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Hear the signals inside this block. Outside the main thread nobody can: none are heard there."""
        loop = asyncio.get_running_loop()
        heard: list[signal.Signals] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
                loop.add_signal_handler(number, self.ask, number.name)
                heard.append(number)
        try:
            yield
        finally:
            self.body_is_over()
            for number in heard:
                loop.remove_signal_handler(number)

    def ask(self, name: str = "stop") -> None:
        """Stop, as the signal `name` asks. Asking twice changes nothing."""
        if self.signal is None:
            self.signal = name
            self._asked()
            self._cancel()

    def body_is_over(self) -> None:
        """From here on nothing is cancelled any more, and what was cancelled is settled."""
        self._body_runs = False
        if self._again is not None:
            self._again.cancel()
        while self._cancels:
            self._cancels -= 1
            self._task.uncancel()

    def _cancel(self) -> None:
        if self._body_runs:
            self._cancels += 1
            self._task.cancel()
            self._again = asyncio.get_running_loop().call_later(AGAIN_SEC, self._cancel)
