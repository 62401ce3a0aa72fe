"""The outermost frame of every program: run its main, turn what comes out into an exit code.

Only `__main__.py` files call this. What an agent does to stop in good order stands in `life.py`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from marketswarm import log
from marketswarm.exit import Code, exit_in

THREADS = "marketswarm-io"  # names the threads that wait for the operating system: look-ups, files
THREADS_END_SEC = 0.5


def run(main: Callable[[], Awaitable[int]]) -> NoReturn:
    """Run `main` in an event loop of its own and end the process with its code.

    An `Exit` is one log line and its code; anything else that escapes is logged whole, code 5.
    Ctrl-C before anyone listens for it is an end as asked, code 0.
    """
    _name_logs()
    pool = ThreadPoolExecutor(4, thread_name_prefix=THREADS)
    runner = asyncio.Runner()
    runner.get_loop().set_default_executor(pool)
    try:
        code = runner.run(_awaited(main))
    except KeyboardInterrupt:
        code = Code.DONE
    except BaseException as error:  # noqa: BLE001 - the outermost frame
        code = _code_of(error)
    _finish(runner, pool, int(code))


async def _awaited(main: Callable[[], Awaitable[int]]) -> int:
    return await main()


def _code_of(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Code.DIED
    asked = exit_in(error)
    if asked is None:
        log.get().critical("program.died", exc_info=error)
        return Code.DIED
    level = "info" if asked.code == Code.DONE else "error"
    getattr(log.get(), level)("program.exit", code=asked.code, message=asked.message)
    return asked.code


def _finish(runner: asyncio.Runner, pool: ThreadPoolExecutor, code: int) -> NoReturn:
    """End the process, without waiting for a thread that hangs in a look-up (the loop would)."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_IGN)  # it is ending already
    pool.shutdown(wait=False, cancel_futures=True)
    deadline = time.monotonic() + THREADS_END_SEC
    while any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        if time.monotonic() > deadline:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        threading.Event().wait(0.01)
    runner.close()
    sys.exit(code)


def _name_logs() -> None:
    """Logs have a form even before the settings are read; an agent configures them again."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.parent.rpartition(".")[2] if spec is not None and spec.parent else ""
    log.configure(name or "marketswarm")
