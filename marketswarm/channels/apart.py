"""A call that blocks, in a thread that nobody has to wait for: for a library that knows no other way.

The thread is a daemon: one that hangs does not keep the program from ending. There is never a second one
beside it.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


class Apart:
    """Where one such call at a time is made."""

    def __init__(self) -> None:
        self._busy = False

    def begin(self, call: Callable[[], bool], done: Callable[[bool], object]) -> None:
        """Makes the call, and hands `done`, in the loop, what it returned: False for what it raised.

        False at once while an earlier one has not returned.
        """
        if self._busy:
            done(False)
            return
        loop = asyncio.get_running_loop()

        def over(answer: bool) -> None:
            self._busy = False
            done(answer)

        def work() -> None:
            try:
                answer = call()
            except Exception:  # noqa: BLE001 - whatever a foreign library raises
                answer = False
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(over, answer)

        self._busy = True
        threading.Thread(target=work, name="apart", daemon=True).start()
