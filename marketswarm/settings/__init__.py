"""What the environment says: one class of settings per kind of program, and their `_FILE` twins.

Not here: the truth, which goes before these where both speak, and the URLs of named buses
(`marketswarm.bus.find_url`).
"""

from marketswarm.settings.environment import Common, read
from marketswarm.settings.programs import (
    AccessSettings,
    HealerSettings,
    NotifierSettings,
    SentinelSettings,
    VigilSettings,
)
from marketswarm.settings.twins import FILE_LIMIT, variable
from marketswarm.settings.ways import ChannelSettings

__all__ = [
    "FILE_LIMIT",
    "AccessSettings",
    "ChannelSettings",
    "Common",
    "HealerSettings",
    "NotifierSettings",
    "SentinelSettings",
    "VigilSettings",
    "read",
    "variable",
]
