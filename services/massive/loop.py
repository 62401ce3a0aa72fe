"""The main loop of massive: run probes and market data as tasks, and report their state in the beats."""

import contextlib
from typing import Final

from marketswarm.agent import agent
from services.massive.market.loop import run as run_market
from services.massive.market.status import MarketStatus
from services.massive.probes.monitor import ProbeMonitor
from services.massive.settings import MassiveEnvironment, MassiveSettings

REPORT_EVERY_SEC: Final = 0.5


async def main() -> int:
    """Run massive until it is asked to stop; return its exit code.

    Every REPORT_EVERY_SEC, apply the settings to the probes, and report the state of probes and market data.
    """
    async with agent("massive", MassiveEnvironment) as me:
        settings_now, market = me.config(MassiveSettings), MarketStatus()
        with contextlib.closing(ProbeMonitor(me, market.stream_state)) as probes:
            me.expose(probes.collect)
            me.task(
                run_market(me, lambda: settings_now().settings.market, market),
                name="market",
            )
            while True:
                probes.follow(settings_now().settings)
                me.set_detail("; ".join(filter(None, (probes.detail(), market.detail()))) or None)
                me.set_degraded(probes.problem())
                me.set_degraded(market.problem(), part="market")
                await me.rest(REPORT_EVERY_SEC)
    return me.exit_code
