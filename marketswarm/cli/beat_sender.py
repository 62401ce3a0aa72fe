"""Beats of a service that is no agent: of a script (`marketswarm beat`) or a command (`marketswarm exec`)."""

import os
import socket
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from marketswarm import beat
from marketswarm.agent.truth_source import Found, first, look_for_first, truth_places, usable_bus
from marketswarm.beat import Sender, Status
from marketswarm.bus import WITHIN_SEC, Bus, BusError, find_url
from marketswarm.cli.fleet_view import embedded_buses, with_embedded_buses
from marketswarm.exit import Code, Exit
from marketswarm.settings import Common, read
from marketswarm.truth import SYSTEM, Truth

_DEFAULT_INTERVAL_SEC: Final = 10.0


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one service's beats go, and how often, by the truth.

    `known` is False for a service that the truth does not name: its beats have the defaults, and nobody
    watches it.
    """

    bus: str
    channel: str
    interval_sec: float
    timeout_sec: float
    known: bool


def find_destination(truth: Truth | None, svc: str, default_timeout_sec: float) -> Destination:
    """Return where `svc` beats: by its section, else by the healer's `subscribe_to`, else by the defaults."""
    if truth is not None and svc in truth.services:
        heartbeat = truth.services[svc].heartbeat
        timeout_sec = truth.timeout_of(svc, default_timeout_sec)
        return Destination(
            truth.bus_of(svc), heartbeat.channel, heartbeat.interval_sec, timeout_sec, known=True
        )
    for watch in truth.watched(default_timeout_sec) if truth else ():
        if watch.svc == svc:
            return Destination(watch.bus, watch.channel, watch.interval_sec, watch.timeout_sec, known=True)
    timeout_sec = truth.timeout_of(svc, default_timeout_sec) if truth else default_timeout_sec
    return Destination(SYSTEM, f"{svc}:heartbeat", _DEFAULT_INTERVAL_SEC, timeout_sec, known=False)


class BeatSender:
    """Publishes the beats of `svc`, by the truth that the buses hold and by defaults while none does.

    With a `boot` they are the beats of a process: counted, and with the revision of the truth in force.

    Raises:
        Exit: code 2, when a variable or the URL of a bus is wrong. Nothing is connected yet.
    """

    def __init__(self, svc: str, data: Path, boot: str | None = None) -> None:
        self.svc, self.boot = svc, boot
        self._settings = read(Common)
        self._embedded = embedded_buses(data)
        self._sender = Sender(host=socket.gethostname(), started=time.time()) if boot else None
        self._found: Found | None = None
        self._buses: dict[str, Bus] = {}  # by URL
        self._failed: dict[str, str] = {}  # URL: why the bus did not answer a moment ago
        self._i = 0
        self._truth_buses()
        self.destination = self._find_destination()

    @property
    def where(self) -> str:
        """The bus that the beats go to, and its address."""
        return f"{self.destination.bus} at {self._destination_bus().where}"

    async def refresh_truth(self) -> bool:
        """Read the truth again unless it is unchanged. Return whether any bus holds one."""
        known = self._found.loaded if self._found else None
        key = self._settings.truth_redis_key
        seen = await look_for_first(self._truth_buses(), key, known, WITHIN_SEC)
        self._failed = {each.bus.url: each.why for each in seen if not each.answered}
        found = first(seen)
        if found is None:
            return False
        self._found = found
        self.destination = self._find_destination()
        return True

    async def publish(
        self,
        status: Status = "ok",
        detail: str | None = None,
        every_sec: float | None = None,
        within_sec: float = WITHIN_SEC,
    ) -> int:
        """Publish one beat. Return how many subscribers heard it.

        Raises:
            BusError: the bus did not take it.
            Exit: code 2, when the bus's URL can't be found out.
        """
        self._i += 1  # failed ones count: a beat whose answer was lost may have arrived
        payload = beat.make(
            self.svc,
            self._i,
            time.time(),
            boot=self.boot,
            rev=self._found.revision if self._found and self.boot else None,
            status=status,
            detail=detail,
            every=every_sec,
            sender=self._sender,
        )
        bus = self._answering_bus()
        pipe = bus.pipeline()
        pipe.publish(self.destination.channel, payload)
        if status == "stopping":  # a goodbye is no life: the key stays as old as the last living beat
            pipe.set(f"beat:{self.svc}", payload, xx=True, keepttl=True)
        else:
            pipe.set(f"beat:{self.svc}", payload, px=max(1, round(2000 * self.destination.timeout_sec)))
        heard, _ = await self._ask(bus, pipe.execute(), within_sec)
        return heard if isinstance(heard, int) else 0

    async def store(self, key: str, value: bytes, life_sec: float) -> None:
        """Set a key beside the beats. Raises as `publish`."""
        bus = self._answering_bus()
        await self._ask(bus, bus.client.set(key, value, px=round(1000 * life_sec)), WITHIN_SEC)

    def forget_failures(self) -> None:
        """Try every bus again with the next request, those that did not answer a moment ago too."""
        self._failed.clear()

    async def aclose(self) -> None:
        """Close all connections."""
        for bus in self._buses.values():
            await bus.aclose()

    def describe(self, error: BusError) -> str:
        """Return on one line which bus did not take a beat, where it is, and why."""
        detail = f" ({error.detail})" if error.reason == "error" and error.detail else ""
        return f"{self.where}: {error.reason}{detail}"

    def _truth_buses(self) -> list[Bus]:
        """Return the buses that may hold the truth, in the order in which agents ask them."""
        places = truth_places(self._settings, self._environ(), self._truth)
        return [self._open(name, url) for url, name in places.items()]

    @property
    def _truth(self) -> Truth | None:
        return self._found.loaded.truth if self._found else None

    def _environ(self) -> dict[str, str]:
        return with_embedded_buses(os.environ, self._embedded, self._truth)

    def _find_destination(self) -> Destination:
        return find_destination(self._truth, self.svc, self._settings.default_timeout_sec)

    def _destination_bus(self) -> Bus:
        name = self.destination.bus
        try:
            return self._open(name, find_url(name, self._environ(), self._truth))
        except BusError as error:
            raise Exit(Code.CONFIGURATION, str(error)) from None

    def _answering_bus(self) -> Bus:
        """Return the destination's bus. Raises BusError if it did not answer a moment ago."""
        bus = self._destination_bus()
        if bus.url in self._failed:
            raise BusError(bus.name, self._failed[bus.url])
        return bus

    def _open(self, name: str, url: str) -> Bus:
        if url not in self._buses:
            self._buses[url] = usable_bus(name, url)
        return self._buses[url]

    async def _ask(self, bus: Bus, request: Awaitable[Any], within_sec: float) -> Any:
        try:
            return await bus.ask(request, within_sec)
        except BusError as error:
            self._failed[bus.url] = error.reason
            raise
