"""Which channels there are, and those that the settings name, opened.

A channel's library is loaded only where that channel is wanted: an agent without one stays small.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Final

from marketswarm.channels.message import Channel
from marketswarm.settings import ChannelSettings

_WANTED: Final[dict[str, Callable[[ChannelSettings], bool]]] = {
    "webhook": lambda settings: settings.webhook_url is not None,
    "email": lambda settings: settings.smtp_host is not None,
}
"""By name, which is also the file's and that of the function in it which makes it: whether it is wanted."""


def open_channels(settings: ChannelSettings) -> list[Channel]:
    """Every channel that the settings name; nothing is connected yet."""
    found: list[Channel] = []
    for name, wanted in _WANTED.items():
        if wanted(settings):
            made = getattr(import_module(f"marketswarm.channels.{name}"), name)(settings)
            found.append(made)
    return found
