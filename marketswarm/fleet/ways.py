"""How people are told, in words for the summary: the channels that the truth and the environment name."""

import asyncio

from marketswarm.channels import open_channels
from marketswarm.settings import ChannelSettings, read
from marketswarm.truth import Truth

NOTIFIER = "notifier"


async def ways(truth: Truth) -> tuple[str, ...]:
    """Each channel and where it leads, as `webhook to hooks.example.org`; nothing is connected.

    Those that the truth names go instead of the environment's.

    Raises:
        Exit: code 2, when a variable that names one is wrong: the agents would end with that.
    """
    channels = open_channels(read(ChannelSettings))
    await asyncio.gather(*(channel.aclose() for channel in channels))
    return _of_the_truth(truth) or tuple(f"{channel.name} to {channel.where}" for channel in channels)


def _of_the_truth(truth: Truth) -> tuple[str, ...]:
    """Those in the settings of the notifier's section; where they lead may be the environment's secret."""
    section = truth.services.get(NOTIFIER)
    found = section.settings.get("channels") if section else None
    if not isinstance(found, dict):
        return ()
    kinds = {
        name: options.get("type") if isinstance(options, dict) else None for name, options in found.items()
    }
    return tuple(name if kind in (None, name) else f"{name} ({kind})" for name, kind in kinds.items())
