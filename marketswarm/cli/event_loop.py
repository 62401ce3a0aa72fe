"""Run a command's coroutine, and end the process without waiting for a name look-up that hangs.

The system's look-up of a host name has no time limit. The event loop does it in a thread, which both asyncio
and the interpreter would wait for at their end.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeVar

from marketswarm.exit import Exit

T = TypeVar("T")

INTERRUPTED: Final = 130
"""The exit code, as shells have it, of a command that Ctrl-C interrupted."""

_THREAD_NAME: Final = "marketswarm-lookup"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own. Any thread may call this."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_Executor(thread_name_prefix=_THREAD_NAME))
        return runner.run(main)


def run_until_signal(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `run` does, in the main thread; SIGTERM and SIGHUP cancel it, so that it cleans up.

    A signal that is ignored stays ignored.

    Raises:
        Exit: with 128 and the number of the signal, as shells have it, once the coroutine has ended.
    """
    return run(_cancel_on_signal(main))


async def _cancel_on_signal(main: Coroutine[Any, Any, T]) -> T:
    task, got = asyncio.ensure_future(main), list[signal.Signals]()

    def cancel(number: signal.Signals) -> None:
        got.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, cancel, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not got:
            raise
        raise Exit(128 + got[0], f"ended by {got[0].name}") from None


def end_process(code: int) -> NoReturn:
    """End the process with `code`, without waiting for a name look-up that still hangs."""
    try:
        sys.stderr.flush()
    except OSError:
        # the interpreter would try it once more at its end, and end with 120 in place of `code`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    if any(thread.name.startswith(_THREAD_NAME) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


class _Executor(ThreadPoolExecutor):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=True)
