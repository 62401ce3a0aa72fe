"""Run an agent that reports on the market bus how many keys its share has, and when it holds the lease.

`takeover.py` starts `python -m bench.sharer`. A report is `<what> <boot> <time> <count>`: `what` is `share`
or `lease`, and the time is on this machine's monotonic clock, the same for all its processes.
"""

import time

from marketswarm.agent import Agent, agent, run
from marketswarm.settings import CommonSettings

SVC = "svc000000"
KEYS = [f"key {number}" for number in range(300)]
LEASE_SEC = 3.0
REPORTS_KEY = "bench:reports"


async def main() -> int:
    """Share the keys and wait for the lease until the agent is stopped."""
    async with agent(SVC) as me:
        me.task(_hold_lease(me), name="holds")
        share = me.share()
        await share.known()
        while True:
            await _add_report(me, "share", len(share.mine(KEYS)))
            await me.rest(60)
    return me.exit_code


async def _hold_lease(me: Agent[CommonSettings]) -> None:
    """Wait for the lease, report its epoch, and hold it until cancelled."""
    async with me.lease("bench", life_sec=LEASE_SEC) as lease:
        await _add_report(me, "lease", lease.epoch)
        while True:
            await me.bus("market-redis").client.blpop("bench:never")


async def _add_report(me: Agent[CommonSettings], what: str, count: int) -> None:
    at = time.monotonic()
    bus = me.bus("market-redis")
    await bus.ask(bus.client.rpush(REPORTS_KEY, f"{what} {me.boot} {at} {count}"))


if __name__ == "__main__":
    run(main)
