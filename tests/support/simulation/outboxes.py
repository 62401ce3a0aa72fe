"""Outboxes for tests: of a listener that is the only one, or whose voice the test holds."""

from collections.abc import Collection

from marketswarm.bus import Bus
from marketswarm.detector import Verdict
from marketswarm.monitor import Notices
from marketswarm.monitor.log_length import LogLength
from marketswarm.monitor.tell import Outbox
from marketswarm.monitor.voice import Alone, Fence, Voice


class Held:
    """A voice that is given and taken at will."""

    def __init__(self, fence: Fence | None = None) -> None:
        self.now = fence
        self.seen = self.hears = float("-inf")
        self.turned = 0

    def fence(self, _bus: str) -> Fence | None:
        return self.now

    def turned_away(self, _bus: str) -> None:
        self.turned += 1
        self.now = None

    def leader_seen(self, _bus: str) -> float:
        return self.seen

    def leader_hears(self, _bus: str) -> float:
        return self.hears


def outbox(bus: Bus, notices: Notices, told: list[Verdict], voice: Voice | None = None) -> Outbox:
    async def take_over(_fence: Fence, _untold: Collection[str]) -> None:
        return

    return Outbox(
        bus,
        listener="healer",
        stream="healer:alerts:log",
        log_length=LogLength("healer:alerts:log"),
        write=notices.notice,
        told=told.append,
        voice=voice or Alone(),
        take_over=take_over,
    )
