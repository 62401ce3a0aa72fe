"""Run the notifier: `python -m notifier`."""

from marketswarm.agent import agent, run
from marketswarm.settings.programs import NotifierSettings
from notifier.app import NOTIFIER, notifier_heartbeat, run_notifier


async def main() -> int:
    async with agent(NOTIFIER, NotifierSettings, heartbeat=notifier_heartbeat) as me:
        await run_notifier(me)
    return me.exit_code


if __name__ == "__main__":
    run(main)
