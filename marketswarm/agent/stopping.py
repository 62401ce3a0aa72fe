"""A stop as asked: SIGTERM or SIGINT becomes one cancellation of the agent's body.

Only the body is cancelled. What follows it (the goodbye, closing) runs undisturbed, bounded by itself and,
in the end, by the watchdog.
"""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

from marketswarm.agent.cut import Cut


class Stop:
    """Whether the current task's work was asked to stop, by which signal."""

    def __init__(self, asked: Callable[[], None]) -> None:
        self.signal: str | None = None
        self._asked = asked
        self._cut = Cut()

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
            self._cut.now()

    def body_is_over(self) -> None:
        """From here on nothing is cancelled any more, and what was cancelled is settled."""
        self._cut.end()
