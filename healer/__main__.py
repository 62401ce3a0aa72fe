"""`python -m healer`."""

import gc
from typing import Final

from healer.watch import watch
from marketswarm.agent import agent, run
from marketswarm.settings import HealerSettings
from marketswarm.vigil import healer_heartbeat

COLLECT: Final = (50_000, 20, 50)
"""When the collector of cycles runs. A roster is made at once and kept: at Python's own thresholds a start
with a hundred thousand services walks it again and again, for a third of its time."""


async def main() -> int:
    """Watches until it is stopped."""
    gc.set_threshold(*COLLECT)
    async with agent("healer", HealerSettings, heartbeat=healer_heartbeat) as me:
        await watch(me)
    return me.exit_code


if __name__ == "__main__":
    run(main)
