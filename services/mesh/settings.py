"""Define the settings of mesh in the truth: how often it reads the flow, and when something is wrong."""

from fnmatch import fnmatchcase
from typing import Annotated, ClassVar

from pydantic import Field

from marketswarm.agent import ServiceConfig
from marketswarm.keys import ALERTS, MARKET_BARS, MARKET_QUOTES

Seconds = Annotated[float, Field(ge=0.1, le=31_536_000)]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]


class FlowSettings(ServiceConfig):
    """`settings` of mesh. All durations are in seconds."""

    flow_sec: Annotated[float, Field(ge=0.2, le=300)] = 5.0
    """The time from one reading of the streams to the next. Example: `2`."""
    window_sec: Annotated[float, Field(ge=1, le=3600)] = 60.0
    """The time over which a rate is computed. Example: `300`."""
    behind_sec: Seconds = 60.0
    """How long an entry may wait for its group, and a stream for its first entry. Example: `120`."""
    silent_sec: Seconds = 3600.0
    """The longest time without a new entry for a stream that has readers. Example: `600`."""
    expect_sec: dict[Pattern, Seconds] = Field({}, max_length=1000)
    """The longest time without a new entry for single keys, with or without readers. Example:
    `{"massive:probes": 120}`."""
    quiet: Annotated[tuple[Pattern, ...], Field(max_length=1000)] = (f"{ALERTS}*", "*:alerts", "*:dead")
    """Patterns of keys that normally get no entries for a long time. Example: `["*:alerts", "rss:items"]`."""

    no_group: Annotated[tuple[Pattern, ...], Field(max_length=1000)] = (MARKET_BARS, MARKET_QUOTES)
    """Patterns of keys that services of your own may read without a consumer group. Example:
    `["market:bars"]`."""

    def is_quiet(self, key: str) -> bool:
        """Return True if it is normal that nothing is written to this key. One in `expect_sec` never is."""
        return key not in self.expect_sec and any(fnmatchcase(key, pattern) for pattern in self.quiet)


class MeshSettings(ServiceConfig):
    """The settings of mesh in the truth."""

    variables: ClassVar = frozenset()

    settings: FlowSettings = FlowSettings()
    """How often mesh reads the flow between services, and from when it reports a fault."""
