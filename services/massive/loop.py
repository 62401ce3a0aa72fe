"""The main loop of massive: probes and market data run as tasks; the loop puts their state into the beats."""

from typing import Final

from marketswarm.agent import agent
from services.massive.market.loop import run as run_market
from services.massive.market.status import MarketStatus
from services.massive.probes.monitor import ProbeMonitor
from services.massive.settings import MassiveEnvironment, MassiveSettings

LOOK_EVERY_SEC: Final = 0.5


async def main() -> int:
    """Run massive until it is asked to stop; return its exit code."""
    async with agent("massive", MassiveEnvironment) as me:
        own, market = me.config(MassiveSettings), MarketStatus()
        with ProbeMonitor.of(me) as probing:
            me.expose(probing.collect)
            probing.market_stream = market.stream
            me.task(run_market(me, lambda: own().settings.market, market), name="market")
            while True:
                probing.follow(own().settings)
                me.set_detail("; ".join(filter(None, (probing.remark(), market.remark()))) or None)
                me.set_degraded(probing.trouble())
                await me.rest(LOOK_EVERY_SEC)
    return me.exit_code
