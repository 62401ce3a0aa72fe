"""Pause services for the management API, and end a pause with the next ping, as Healthchecks does.

A pause is a silence of a year with a reason of its own. What a ping pays for this is a look into a set; the
buses are asked only for a service that is paused, as far as this board knows.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from marketswarm.bus import Bus
from marketswarm.operator.silences import MAX_SILENCE_SEC, Silence, read_silences
from marketswarm.operator.tokens import Token
from services.board.access.tokens import Client
from services.board.actions.steering import SilenceBody, Steering
from services.board.fleet.snapshot import FleetSnapshot

PAUSE_REASON: Final = "paused through the management API"  # the reason of the silences that stand for a pause


class ServicePauses:
    """The pauses of a fleet's services, which are silences."""

    def __init__(
        self,
        buses: Callable[[], Sequence[Bus]],
        steering: Steering,
        find_snapshot: Callable[[], FleetSnapshot | None],
    ) -> None:
        self._buses, self._steering, self._find_snapshot = buses, steering, find_snapshot
        self._paused_here: set[str] = set()  # a snapshot shows them a moment later
        self._shown: tuple[FleetSnapshot | None, frozenset[str]] = None, frozenset()

    async def pause(self, svc: str, token: Token, address: str, now: float) -> None:
        """Pause a service at `now` (epoch seconds), unless it is. Raises RefusedError and NoBusError."""
        if not await self._find(svc, now):
            body = SilenceBody(services=(svc,), for_sec=MAX_SILENCE_SEC, reason=PAUSE_REASON)
            await self._steering.add_silence(Client(token, address), body, now)
        self._paused_here.add(svc)

    async def end(self, svc: str, client: Client, now: float) -> bool:
        """End the pause of a service; return False if it has none. Raises RefusedError and NoBusError."""
        found = await self._find(svc, now)
        for each in found:
            await self._steering.end_silence(client, each.id, now)
        self._paused_here.discard(svc)
        return bool(found)

    async def end_by_ping(self, svc: str, address: str, now: float) -> None:
        """End the pause of a service that was pinged, if it may have one. Raises as `end`."""
        if svc in self._paused_here or self._may_be_paused(svc):
            await self.end(svc, Client(None, address), now)

    def _may_be_paused(self, svc: str) -> bool:
        """Return True if the latest snapshot has a pause of a service, or if there is no snapshot yet."""
        snapshot = self._find_snapshot()
        if snapshot is None:
            return True
        if snapshot is not self._shown[0]:
            pauses = (each.services for each in snapshot.silences if each.reason == PAUSE_REASON)
            self._shown = snapshot, frozenset(services[0] for services in pauses if len(services) == 1)
        return svc in self._shown[1]

    async def _find(self, svc: str, now: float) -> list[Silence]:
        silences = (await read_silences(self._buses())).silences.values()
        return [each for each in find_pauses(silences, now) if each.services == (svc,)]


def find_pauses(silences: Iterable[Silence], now: float) -> list[Silence]:
    return [
        each
        for each in silences
        if each.reason == PAUSE_REASON and len(each.services) == 1 and each.starts_at <= now < each.ends_at
    ]
