"""`python -m healer`."""

from healer.watch import own_heartbeat, watch
from marketswarm.agent import agent, run
from marketswarm.settings import HealerSettings


async def main() -> int:
    """Watches until it is stopped."""
    async with agent("healer", HealerSettings, heartbeat=own_heartbeat) as me:
        await watch(me)
    return me.exit_code


if __name__ == "__main__":
    run(main)
