"""Run another program to its end, without the secrets in our environment."""

import asyncio
import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Final

from marketswarm.agent.parent_death_guard import die_with_parent

PYTHON_VARIABLES: Final = ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LD_LIBRARY_PATH")
"""The variables that a program of ours needs."""


def inherit_environ(names: Iterable[str] = PYTHON_VARIABLES) -> dict[str, str]:
    """Return those of our environment's variables that a child gets."""
    return {name: os.environ[name] for name in names if name in os.environ}


async def run_to_end(
    command: list[str], environ: Mapping[str, str], within_sec: float
) -> tuple[int, bytes, bytes]:
    """Run a program without input; return its exit code, and all that it wrote to stdout and to stderr.

    It does not outlive this process, and is killed if this is cancelled.

    Raises:
        OSError: it can't be started.
        TimeoutError: it took more than `within_sec`, and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *die_with_parent(command),
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(within_sec):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, output, errors
