"""Tells when agents are heard and up: each has beaten since its start, and the healer, if ours, says ok."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import orjson

from marketswarm.beat import Malformed, parse
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import read_strings
from marketswarm.bus.subscriber import subscribe
from marketswarm.keys import health_key, last_beat_key
from marketswarm.truth import Truth

_OK = "heartbeat_ok"
_HEALTH_BUS = "system-redis"


_MOST_BOOTS = 1_000


async def find_ready(agents: Mapping[str, float], truth: Truth, buses: Callable[[str], Bus]) -> set[str]:
    """Which of `agents` are up now.

    Args:
        agents: the wall-clock time at which each was started, by service.
        truth: says on which bus each beats, and whom the healer watches.
        buses: gives the bus of that name.
    """
    judged = {watch.svc for watch in truth.watched()} if "healer" in agents else set()
    green: set[str] = set()
    for name in {truth.bus_of(svc) for svc in agents}:
        here = [svc for svc in agents if truth.bus_of(svc) == name]
        beats = await read_objects(buses(name), [last_beat_key(svc) for svc in here])
        green |= {
            svc
            for svc, beat in zip(here, beats, strict=True)
            if _number(beat, "ts") >= agents[svc] and beat.get("status") != "stopping"
        }
    return green - await _not_ok(green & judged, buses(_HEALTH_BUS))


async def have_subscribers(agents: Collection[str], truth: Truth, buses: Callable[[str], Bus]) -> bool:
    """Whether someone listens to the heartbeat channel of each of `agents` that the healer is to watch."""
    channels: dict[str, list[str]] = {}
    for watch in truth.watched():
        if watch.svc in agents:
            channels.setdefault(watch.bus, []).append(watch.channel)
    for name, here in channels.items():
        bus = buses(name)
        try:
            counts = await bus.ask(bus.client.pubsub_numsub(*here))
        except BusError:
            return False
        if not all(count for _, count in counts):
            return False
    return True


async def _not_ok(services: Collection[str], bus: Bus) -> set[str]:
    """Those of whom the healer does not say ok."""
    if not services:
        return set()
    asked = sorted(services)
    words = await read_objects(bus, [health_key(svc) for svc in asked])
    return {svc for svc, word in zip(asked, words, strict=True) if word.get("type") != _OK}


async def read_objects(bus: Bus, keys: list[str]) -> list[Mapping[str, object]]:
    """The JSON object under each key; an empty one for what is not there, or while the bus is away."""
    try:
        values = await read_strings(bus, keys)
    except BusError:
        return [{} for _ in keys]
    return [_object(value) for value in values]


def _object(value: bytes | None) -> Mapping[str, object]:
    try:
        found = orjson.loads(value or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(beat: Mapping[str, object], key: str) -> float:
    value = beat.get(key)
    return value if isinstance(value, int | float) else 0.0


class InstanceCounter:
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
