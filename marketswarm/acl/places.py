"""Where things are on a bus: the names that the contract gives, and what the truth says of them. Pure."""

from dataclasses import dataclass
from typing import Final

from marketswarm.acl.grants import Grant, escaped
from marketswarm.truth import Truth

DOCUMENT: Final = "truth:doc"
META: Final = "truth:meta"
HISTORY: Final = "truth:history"
CHANGED: Final = "truth:changed"
ALERTS: Final = "healer:alerts"
LOG: Final = "healer:alerts:log"
PROBE_ALERTS: Final = "massive:alerts"
BEATS: Final = "*:heartbeat"
TOPOLOGY: Final = "mesh:topology"


@dataclass(frozen=True, slots=True)
class Place:
    """One bus of a truth. `truth_key` and `alert_channel` are the environment's."""

    truth: Truth
    bus: str
    truth_key: str = DOCUMENT
    alert_channel: str = ALERTS

    @property
    def document(self) -> str:
        """The pattern of the truth's key."""
        return escaped(self.truth_key)

    @property
    def alerts(self) -> str:
        """The channel of alerts, as it is called on every bus."""
        return self.truth.alert_target(self.alert_channel)[1]

    def beats(self, svc: str) -> str | None:
        """The pattern of a service's channel; None when it beats elsewhere."""
        here = self.truth.bus_of(svc) == self.bus
        return escaped(self.truth.services[svc].heartbeat.channel) if here else None

    def all_beats(self) -> tuple[str, ...]:
        """Patterns of every channel of beats here; a service that comes with a reseed is among them."""
        channels = [watch.channel for watch in self.truth.watched() if watch.bus == self.bus]
        own = [
            service.heartbeat.channel
            for svc, service in self.truth.services.items()
            if self.truth.bus_of(svc) == self.bus
        ]
        others = (escaped(one) for one in (*channels, *own) if not one.endswith(BEATS[1:]))
        return tuple(dict.fromkeys((BEATS, *others)))

    def reading_truth(self) -> tuple[Grant, ...]:
        """Reading the truth, and hearing that there is another one."""
        return (
            Grant("get strlen hmget", (self.document, META), mode="R"),
            Grant("subscribe", channels=(CHANGED,)),
        )
