"""Name the keys and channels of one bus for its ACL users: of the contract, and of the truth. Pure."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from marketswarm.access.grant import escape_pattern
from marketswarm.keys import ALERTS, TRUTH_DOC, heartbeat_channel
from marketswarm.truth import Truth

ALL_BEATS: Final = heartbeat_channel("*")
"""The ACL pattern of all channels whose names end in `:heartbeat`."""


@dataclass(frozen=True)
class BusView:
    """One bus of a truth.

    `truth_key` is the key of the truth (TRUTH_REDIS_KEY); `alert_channel` is the channel of alerts if the
    truth names none (ALERT_CHANNEL).
    """

    truth: Truth
    bus: str
    truth_key: str = TRUTH_DOC
    alert_channel: str = ALERTS

    @property
    def alerts(self) -> str:
        """The unescaped name, which is the same on every bus."""
        return self.truth.alert_target(self.alert_channel)[1]

    @cached_property
    def beat_channels(self) -> frozenset[str]:
        """The unescaped heartbeat channels of all services of the truth, whatever their bus."""
        return frozenset(map(self.truth.channel_of, self.truth.services))

    def beat_patterns(self) -> tuple[str, ...]:
        """Return the ACL patterns of all heartbeat channels on this bus, each once.

        The first is `*:heartbeat`, so that a service that is seeded later is covered too. It is followed by
        the monitored or declared channels whose names do not end in `:heartbeat`.
        """
        channels = [watch.channel for watch in self.truth.watched() if watch.bus == self.bus]
        own = [
            self.truth.channel_of(svc) for svc in self.truth.services if self.truth.bus_of(svc) == self.bus
        ]
        others = (escape_pattern(one) for one in (*channels, *own) if not one.endswith(ALL_BEATS[1:]))
        return tuple(dict.fromkeys((ALL_BEATS, *others)))
