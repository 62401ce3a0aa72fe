"""The loop of vexy_ai: keep a worker on each bus, say how it goes; beside them, a digest per window."""

import asyncio
import time
from typing import Final

from marketswarm.agent import agent
from services.vexy_ai.digest_writer import Digesting
from services.vexy_ai.metrics import Tally
from services.vexy_ai.settings import VexyEnvironment, VexySettings
from services.vexy_ai.worker import Working

LOOK_EVERY_SEC: Final = 0.2


async def main() -> int:
    """Be vexy_ai until asked to stop."""
    async with agent("vexy_ai", VexyEnvironment) as me:
        own, tally = me.own(VexySettings), Tally()
        me.expose(tally.collect)
        me.task(Digesting(me, own, tally).run(), name="digests")
        working = Working(me, own, tally)
        while True:
            working.follow()
            tally.backlogs = working.backlogs
            behind = tally.pace.judge(tally.backlogs, own().settings.behind_sec)
            me.degraded(working.trouble() or behind)
            me.note(tally.summary(time.time()))
            # no rest: whether the work goes on is the workers' word
            await asyncio.sleep(LOOK_EVERY_SEC)
    return me.exit_code
