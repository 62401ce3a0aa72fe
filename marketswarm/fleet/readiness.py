"""Find out which agents are up: each has beaten since its start, and the healer, if ours, reports ok."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

import orjson

from marketswarm.beat import MalformedBeat, parse_beat
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import read_strings
from marketswarm.bus.subscriber import subscribe
from marketswarm.keys import health_key, last_beat_key
from marketswarm.truth import Truth

_OK = "heartbeat_ok"
_HEALTH_BUS = "system-redis"
_MAX_BOOTS = 1_000


async def find_ready(agents: Mapping[str, float], truth: Truth, buses: Callable[[str], Bus]) -> set[str]:
    """Return those of `agents` that are up now.

    An agent is up if its last beat is from after its start and is no goodbye. If the healer is among
    `agents`, the healer must also have reported each agent that it monitors as ok.

    Args:
        agents: the wall-clock time at which each was started, by service.
        truth: the document that names the bus of each agent.
        buses: returns the bus of a name.
    """
    monitored = {watch.svc for watch in truth.watched()} if "healer" in agents else set()
    ready: set[str] = set()
    for name in {truth.bus_of(svc) for svc in agents}:
        here = [svc for svc in agents if truth.bus_of(svc) == name]
        beats = await read_objects(buses(name), [last_beat_key(svc) for svc in here])
        ready |= {
            svc
            for svc, beat in zip(here, beats, strict=True)
            if _number(beat, "ts") >= agents[svc] and beat.get("status") != "stopping"
        }
    return ready - await _not_ok(ready & monitored, buses(_HEALTH_BUS))


async def have_subscribers(agents: Collection[str], truth: Truth, buses: Callable[[str], Bus]) -> bool:
    """Return True if each of `agents` that the healer is to monitor has a subscriber to its heartbeats.

    Return False while a bus is away.

    Args:
        agents: names of services.
        truth: the document that names their channels.
        buses: returns the bus of a name.
    """
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
    """Return the services whose latest verdict on the bus is not `heartbeat_ok`, or is missing."""
    if not services:
        return set()
    asked = sorted(services)
    words = await read_objects(bus, [health_key(svc) for svc in asked])
    return {svc for svc, word in zip(asked, words, strict=True) if word.get("type") != _OK}


async def read_objects(bus: Bus, keys: list[str]) -> list[Mapping[str, object]]:
    """Return the JSON object under each key; an empty one where there is none, or while the bus is away."""
    try:
        values = await read_strings(bus, keys)
    except BusError:
        return [{} for _ in keys]
    return [_object(value) for value in values]


def _object(value: bytes | None) -> Mapping[str, object]:
    """Return the JSON object in a value; an empty one for None and for anything else."""
    try:
        found = orjson.loads(value or b"{}")
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(beat: Mapping[str, object], key: str) -> float:
    """Return the number under a key of a beat; 0.0 if there is none."""
    value = beat.get(key)
    return value if isinstance(value, int | float) else 0.0


class InstanceCounter:
    """Counts the processes of `services` that have beaten and have not sent a goodbye since.

    A process is known by the `boot` of its beats.
    """

    def __init__(self, truth: Truth, services: Iterable[str]) -> None:
        self._boots: dict[str, set[str]] = {svc: set() for svc in services}
        self._of_channel = {truth.services[svc].heartbeat.channel.encode(): svc for svc in self._boots}
        self._channels: dict[str, list[str]] = {}
        for svc in self._boots:
            self._channels.setdefault(truth.bus_of(svc), []).append(truth.services[svc].heartbeat.channel)
        self._unsubscribed = set(self._channels)
        self._listening = asyncio.Event()

    async def listen(self, buses: Callable[[str], Bus]) -> None:
        """Subscribe to the beats of the services, and count their processes, until cancelled.

        Args:
            buses: returns the bus of a name.
        """
        async with asyncio.TaskGroup() as group:
            for name, channels in self._channels.items():
                group.create_task(
                    subscribe(
                        buses(name),
                        channels=channels,
                        on_message=self.count_beat,
                        on_subscribed=lambda name=name: self._joined(name),  # type: ignore[misc]  # its default is text
                        on_lost=lambda _error: None,
                    )
                )

    async def wait_until_listening(self) -> None:
        """Return once the channels of every bus are subscribed to."""
        if self._unsubscribed:
            await self._listening.wait()

    def count_beat(self, channel: bytes, payload: bytes) -> None:
        """Count the process that sent this message; ignore a message that is no beat of the channel."""
        svc = self._of_channel.get(channel, "")
        beat = parse_beat(payload, svc)
        if isinstance(beat, MalformedBeat) or beat.boot is None:
            return
        boots = self._boots[svc]
        if beat.status == "stopping":
            boots.discard(beat.boot)
        elif len(boots) < _MAX_BOOTS:
            boots.add(beat.boot)

    def count(self, svc: str) -> int:
        """Return how many processes of a service beat; 0 for a service that is not counted."""
        return len(self._boots.get(svc, ()))

    def _joined(self, bus: str) -> None:
        """Note that the channels of a bus are subscribed to."""
        self._unsubscribed.discard(bus)
        if not self._unsubscribed:
            self._listening.set()
