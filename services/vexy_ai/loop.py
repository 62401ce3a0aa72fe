"""The loop of vexy_ai: work on what the streams bring, say how it goes; beside it, a digest per window."""

import time
from typing import Final

from marketswarm.agent import agent
from marketswarm.bus import BusError
from services.vexy_ai.digesting import Digesting
from services.vexy_ai.environment import VexySettings
from services.vexy_ai.section import Section
from services.vexy_ai.tally import Tally
from services.vexy_ai.worker import Worker

AGAIN_SEC: Final = 1.0


async def main() -> int:
    """Be vexy_ai until asked to stop."""
    async with agent("vexy_ai", VexySettings) as me:
        own, tally = me.own(Section), Tally()
        me.expose(tally.collect)
        me.task(Digesting(me, own, tally).run(), name="digests")
        worker, told = Worker(me, tally), None
        try:
            while True:
                wishes = own().settings
                try:
                    await worker.turn(wishes)
                except BusError as error:
                    why = f"{error.bus} {error.reason}"
                    if why != told:  # once, until it has worked again
                        me.log.warning("items.unread", bus=error.bus, reason=error.reason)
                    told = why
                    me.degraded(why)
                    worker.reopen()
                    await me.rest(AGAIN_SEC)
                else:
                    told = None
                    me.degraded(tally.pace.judge(tally.backlogs, wishes.behind_sec))
                    me.note(tally.summary(time.time()))
        finally:
            await worker.close()
    return me.exit_code
