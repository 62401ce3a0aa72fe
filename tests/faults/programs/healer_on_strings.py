"""The healer with two strings to pull: SIGUSR1 blocks its event loop for HANG_SEC, SIGUSR2 hangs its judging.

A program for tests, so that the product needs no hooks.
"""

import asyncio
import os
import signal
import time
from typing import Any

from healer.watch import run_healer
from marketswarm.agent import agent, run
from marketswarm.monitor import make_healer_heartbeat
from marketswarm.monitor.monitor import Evaluator
from marketswarm.settings.programs import HealerSettings

judge = Evaluator.run


async def judge_until_hung(self: Evaluator, group: asyncio.TaskGroup) -> None:
    hung = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, hung.set)
    judging = group.create_task(judge(self, group))
    await hung.wait()
    judging.cancel()
    await asyncio.Event().wait()


async def main() -> Any:
    Evaluator.run = judge_until_hung  # type: ignore[method-assign]
    hang_sec = float(os.environ.get("HANG_SEC", "0"))
    async with agent("healer", HealerSettings, heartbeat=make_healer_heartbeat) as me:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, hang_sec)
        await run_healer(me)
    return me.exit_code


if __name__ == "__main__":
    run(main)
