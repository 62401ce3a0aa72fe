"""`python -m healer`."""

from healer.cycles import put_off, settle
from healer.watch import watch
from marketswarm.agent import agent, run
from marketswarm.monitor import healer_heartbeat
from marketswarm.settings import HealerSettings


async def main() -> int:
    """Watches until it is stopped."""
    put_off()
    async with agent("healer", HealerSettings, heartbeat=healer_heartbeat) as me:
        await watch(me, begun=settle)
    return me.exit_code


if __name__ == "__main__":
    run(main)
