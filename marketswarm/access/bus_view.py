"""Name the keys and channels of one bus for its ACL users: of the contract, and of the truth. Pure."""

from dataclasses import dataclass
from typing import Final

from marketswarm.access.grant import Grant, escape_pattern
from marketswarm.keys import ALERTS, TRUTH_CHANGED, TRUTH_DOC, TRUTH_META, heartbeat_channel
from marketswarm.truth import Truth

ALL_BEATS: Final = heartbeat_channel("*")
"""The ACL pattern of all channels whose names end in `:heartbeat`."""


@dataclass(frozen=True, slots=True)
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
    def truth_pattern(self) -> str:
        return escape_pattern(self.truth_key)

    @property
    def alerts(self) -> str:
        """The unescaped name, which is the same on every bus."""
        return self.truth.alert_target(self.alert_channel)[1]

    def beat_pattern(self, svc: str) -> str | None:
        """Return the ACL pattern of a service's heartbeat channel; None if the service beats on another bus.

        Raises KeyError if the truth has no section for the service.
        """
        here = self.truth.bus_of(svc) == self.bus
        return escape_pattern(self.truth.channel_of(svc)) if here else None

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

    def grant_truth_reads(self) -> tuple[Grant, ...]:
        """Return the grants to read the truth and its metadata, and to subscribe to `truth:changed`."""
        return (
            Grant("get strlen hmget", (self.truth_pattern, TRUTH_META), mode="R"),
            Grant("subscribe", channels=(TRUTH_CHANGED,)),
        )
