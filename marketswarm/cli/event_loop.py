"""Run a command's coroutine, and end the process without waiting for a name look-up that hangs.

The system's look-up of a host name has no time limit. The event loop does it in a thread, which both asyncio
and the interpreter would wait for at their end.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")

INTERRUPTED: Final = 130
"""The exit code, as shells have it, of a command that Ctrl-C interrupted."""

_THREAD_NAME: Final = "marketswarm-lookup"


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own. Any thread may call this."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_Executor(thread_name_prefix=_THREAD_NAME))
        return runner.run(main)


def end_process(code: int) -> NoReturn:
    """End the process with `code`, without waiting for a name look-up that still hangs."""
    if any(thread.name.startswith(_THREAD_NAME) for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


class _Executor(ThreadPoolExecutor):
    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        super().shutdown(wait=False, cancel_futures=True)
