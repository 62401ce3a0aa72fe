"""`python -m notifier`."""

from marketswarm.agent import agent, run
from marketswarm.settings import NotifierSettings
from notifier.app import NOTIFIER, own_heartbeat, watch


async def main() -> int:
    """Tells people until it is stopped."""
    async with agent(NOTIFIER, NotifierSettings, heartbeat=own_heartbeat) as me:
        await watch(me)
    return me.exit_code


if __name__ == "__main__":
    run(main)
