"""Who answers the roll while a fleet comes up: how many processes of a service are heard, by their boots.

One `beat:<svc>` serves all processes of a service, so it can't tell whether the third one beats. Needed where
a service has several, and only until all are up.
"""

import asyncio
from collections.abc import Callable, Iterable

from marketswarm.beat import Malformed, parse
from marketswarm.bus import Bus
from marketswarm.bus.subscriber import subscribe
from marketswarm.truth import Truth

_MOST_BOOTS = 1_000


class Roll:
    """The processes of `services` that were heard, and did not say goodbye."""

    def __init__(self, truth: Truth, services: Iterable[str]) -> None:
        self._boots: dict[str, set[str]] = {svc: set() for svc in services}
        self._of_channel = {truth.services[svc].heartbeat.channel.encode(): svc for svc in self._boots}
        self._channels: dict[str, list[str]] = {}
        for svc in self._boots:
            self._channels.setdefault(truth.bus_of(svc), []).append(truth.services[svc].heartbeat.channel)
        self._unheard = set(self._channels)
        self._listening = asyncio.Event()

    async def call(self, buses: Callable[[str], Bus]) -> None:
        """Listen until cancelled; `buses` gives the bus of a name."""
        async with asyncio.TaskGroup() as group:
            for name, channels in self._channels.items():
                group.create_task(
                    subscribe(
                        buses(name),
                        channels=channels,
                        heard=self.heard,
                        joined=lambda name=name: self._joined(name),  # type: ignore[misc]  # its default is text
                        lost=lambda _error: None,
                    )
                )

    async def listens(self) -> None:
        """Return once every bus is listened to."""
        if self._unheard:
            await self._listening.wait()

    def heard(self, channel: bytes, payload: bytes) -> None:
        """A message came on one of the channels; what is no beat is nobody's."""
        svc = self._of_channel.get(channel, "")
        beat = parse(payload, svc)
        if isinstance(beat, Malformed) or beat.boot is None:
            return
        boots = self._boots[svc]
        if beat.status == "stopping":
            boots.discard(beat.boot)
        elif len(boots) < _MOST_BOOTS:
            boots.add(beat.boot)

    def present(self, svc: str) -> int:
        """How many processes of a service were heard."""
        return len(self._boots.get(svc, ()))

    def _joined(self, bus: str) -> None:
        self._unheard.discard(bus)
        if not self._unheard:
            self._listening.set()
