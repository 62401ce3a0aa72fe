"""An agent whose work hangs on SIGUSR1, and whose event loop is blocked on SIGUSR2; for ever."""

import asyncio
import signal
import time
from typing import Any

from marketswarm.agent import agent, run


async def hang_here() -> None:
    await asyncio.Event().wait()


def block_here() -> None:
    time.sleep(600)


async def main() -> Any:
    async with agent("worker") as me:
        loop, hung = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, hung.set)
        loop.add_signal_handler(signal.SIGUSR2, block_here)
        while not hung.is_set():
            me.progress()
            await asyncio.sleep(0.02)
        await hang_here()
    return me.exit_code


if __name__ == "__main__":
    run(main)
