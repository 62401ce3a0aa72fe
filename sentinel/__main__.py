"""The entry point of `python -m sentinel`."""

from marketswarm.agent import agent, run
from marketswarm.settings.programs import SentinelSettings
from sentinel.watch import run_sentinel, sentinel_heartbeat


async def main() -> int:
    async with agent("sentinel", SentinelSettings, heartbeat=sentinel_heartbeat) as me:
        await run_sentinel(me)
    return me.exit_code


if __name__ == "__main__":
    run(main)
