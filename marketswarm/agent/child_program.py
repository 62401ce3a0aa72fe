"""Start other programs without the secrets in our environment, and run one to its end."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from typing import Final

from marketswarm.agent.parent_death_guard import die_with_parent

PYTHON_VARIABLES: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LD_LIBRARY_PATH")
"""The variables that a program of ours needs."""
KILL_SEC: Final = 2.0
"""How long the end of a program that was killed is waited for."""


def inherit_environ(names: Iterable[str] = PYTHON_VARIABLES) -> dict[str, str]:
    """Return those of our environment's variables that a child gets."""
    return {name: os.environ[name] for name in names if name in os.environ}


async def start_program(
    command: list[str],
    environ: Mapping[str, str],
    *,
    stdin: int,
    stderr: int,
    new_session: bool = False,
) -> asyncio.subprocess.Process:
    """Start a program whose stdout is a pipe; it does not outlive this process. Raises OSError.

    `stdin` and `stderr` are as for a subprocess. In a session of its own, Ctrl-C of the terminal does not end
    it.
    """
    return await asyncio.create_subprocess_exec(
        *die_with_parent(command),
        env=environ,
        stdin=stdin,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        start_new_session=new_session,
    )


async def end_program(process: asyncio.subprocess.Process) -> None:
    """Kill a program unless it has ended, and wait up to KILL_SEC for its end."""
    # not by asyncio's method, which looks first whether it has ended, since its exit code would be lost
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SEC):
            # `communicate` also closes the pipe, which `wait` leaves to the event loop
            await process.communicate()


async def run_to_end(
    command: list[str], environ: Mapping[str, str], within_sec: float
) -> tuple[int, bytes, bytes]:
    """Run a program without input; return its exit code, and all that it wrote to stdout and to stderr.

    It does not outlive this process, and is killed if this is cancelled.

    Raises:
        OSError: it can't be started.
        TimeoutError: it took more than `within_sec`, and was killed.
    """
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await start_program(command, environ, stdin=nothing, stderr=pipe)
    try:
        async with asyncio.timeout(within_sec):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            await end_program(process)
    return process.returncode or 0, output, errors
