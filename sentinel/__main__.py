"""`python -m sentinel`."""

from marketswarm.agent import agent, run
from marketswarm.settings import SentinelSettings
from sentinel.watch import sentinel_heartbeat, watch


async def main() -> int:
    """Watches the healer until it is stopped."""
    async with agent("sentinel", SentinelSettings, heartbeat=sentinel_heartbeat) as me:
        await watch(me)
    return me.exit_code


if __name__ == "__main__":
    run(main)
