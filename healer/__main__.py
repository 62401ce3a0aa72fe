"""The entry point of `python -m healer`."""

import asyncio
import gc
from typing import Final

from healer.memory import return_free_memory, return_large_blocks
from healer.watch import run_healer
from marketswarm.agent import agent, run
from marketswarm.monitor import make_healer_heartbeat
from marketswarm.settings.programs import HealerSettings

START_THRESHOLDS: Final = (1_000_000, 10, 10)
"""Thresholds of the garbage collector while the roster is built, and while its state is restored.

With the default ones, a start with a hundred thousand services spends a third of its time in collections that
visit the whole roster, and each visit stops the event loop. With these it has none, and a start that
waits for a bus for days still has one now and then.
"""
RUN_THRESHOLDS: Final = (5_000, 3, 200)
"""The thresholds afterwards. With the default ones, a fifteenth of the time goes into collections that find
nothing: what is made for each write, and for each beat, ends without them. One of the second generation
visits 20,000 objects, up to 12 ms of a slow machine: it must not stop the event loop for long when all
services die."""


async def main() -> int:
    gc.set_threshold(*START_THRESHOLDS)
    return_large_blocks()

    def exclude_roster_from_collection() -> None:
        """Move all objects out of reach of the garbage collector, which collects from now on."""
        gc.freeze()
        gc.set_threshold(*RUN_THRESHOLDS)
        asyncio.get_running_loop().run_in_executor(None, return_free_memory)

    async with agent("healer", HealerSettings, heartbeat=make_healer_heartbeat) as me:
        await run_healer(me, on_restored=exclude_roster_from_collection)
    return me.exit_code


if __name__ == "__main__":
    run(main)
