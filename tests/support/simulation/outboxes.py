"""Outboxes for tests: of a listener that is the only one, or whose leadership the test holds."""

from collections.abc import Collection

from marketswarm.bus import Bus
from marketswarm.detector import Verdict
from marketswarm.monitor import VerdictEncoder
from marketswarm.monitor.leadership import Fence, Leadership, SoleLeader
from marketswarm.monitor.publisher import LogLength, Publisher


class Held:
    """A leadership that is given and taken at will."""

    def __init__(self, fence: Fence | None = None) -> None:
        self.now = fence
        self.seen = self.hears = float("-inf")
        self.turned = 0

    def fence(self, _bus: str) -> Fence | None:
        return self.now

    def deny_leadership(self, _bus: str) -> None:
        self.turned += 1
        self.now = None

    def leader_seen_at(self, _bus: str) -> float:
        return self.seen

    def leader_heard_bus_at(self, _bus: str) -> float:
        return self.hears


def outbox(
    bus: Bus, notices: VerdictEncoder, told: list[Verdict], leadership: Leadership | None = None
) -> Publisher:
    async def take_over(_fence: Fence, _untold: Collection[str]) -> None:
        return

    return Publisher(
        bus,
        listener="healer",
        stream="healer:alerts:log",
        log_length=LogLength("healer:alerts:log"),
        write=notices.encode,
        told=told.append,
        leadership=leadership or SoleLeader(),
        take_over=take_over,
    )
