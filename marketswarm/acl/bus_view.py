"""One bus as its ACLs see it: the keys and channels of the contract, and those that the truth names. Pure."""

from dataclasses import dataclass
from typing import Final

from marketswarm.acl.grant import Grant, escape_pattern
from marketswarm.keys import ALERTS, TRUTH_CHANGED, TRUTH_DOC, TRUTH_META, heartbeat_channel
from marketswarm.truth import Truth

BEATS: Final = heartbeat_channel("*")


@dataclass(frozen=True, slots=True)
class BusView:
    """One bus of a truth. `truth_key` and `alert_channel` come from the environment."""

    truth: Truth
    bus: str
    truth_key: str = TRUTH_DOC
    alert_channel: str = ALERTS

    @property
    def document(self) -> str:
        """The ACL pattern of the truth's key."""
        return escape_pattern(self.truth_key)

    @property
    def alerts(self) -> str:
        """The channel of alerts, which has the same name on every bus."""
        return self.truth.alert_target(self.alert_channel)[1]

    def beat_channel(self, svc: str) -> str | None:
        """Return the pattern of a service's heartbeat channel; None if the service beats on another bus."""
        here = self.truth.bus_of(svc) == self.bus
        return escape_pattern(self.truth.services[svc].heartbeat.channel) if here else None

    def beat_channels(self) -> tuple[str, ...]:
        """Return the patterns of all heartbeat channels on this bus.

        `*:heartbeat` is among them, so that a service that is seeded later is covered too.
        """
        channels = [watch.channel for watch in self.truth.watched() if watch.bus == self.bus]
        own = [
            service.heartbeat.channel
            for svc, service in self.truth.services.items()
            if self.truth.bus_of(svc) == self.bus
        ]
        others = (escape_pattern(one) for one in (*channels, *own) if not one.endswith(BEATS[1:]))
        return tuple(dict.fromkeys((BEATS, *others)))

    def grant_truth_reads(self) -> tuple[Grant, ...]:
        """Return the grants to read the truth and to subscribe to its changes."""
        return (
            Grant("get strlen hmget", (self.document, TRUTH_META), mode="R"),
            Grant("subscribe", channels=(TRUTH_CHANGED,)),
        )
