"""Find out which agents are up: each has beaten since its start, and the healer, if ours, reports ok."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping

from marketswarm.beat import MalformedBeat, parse_beat
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stored_values import parse_object, read_strings
from marketswarm.bus.subscriber import subscribe
from marketswarm.detector import Reason
from marketswarm.keys import health_key, last_beat_key
from marketswarm.truth import HEALER, SYSTEM, Truth

_MAX_BOOTS = 1_000


async def find_ready(agents: Mapping[str, float], truth: Truth, get_bus: Callable[[str], Bus]) -> set[str]:
    """Return those services of `agents` (with the times of their starts) that are up now.

    An agent is up if its last beat is from after its start and is not a goodbye. If the healer is among
    `agents`, the healer must also have reported each agent that it monitors as ok, or as failed: a failure
    that somebody else reports may be open before and after a restart.
    """
    monitored = {watch.svc for watch in truth.watched()} if HEALER in agents else set()
    ready: set[str] = set()
    for name in {truth.bus_of(svc) for svc in agents}:
        here = [svc for svc in agents if truth.bus_of(svc) == name]
        beats = await read_objects(get_bus(name), [last_beat_key(svc) for svc in here])
        ready |= {
            svc
            for svc, beat in zip(here, beats, strict=True)
            if isinstance(ts := beat.get("ts"), int | float)
            and ts >= agents[svc]
            and beat.get("status") != "stopping"
        }
    names = sorted(ready & monitored)
    verdicts = await read_objects(get_bus(SYSTEM), [health_key(svc) for svc in names]) if names else []
    return ready - {
        svc
        for svc, event in zip(names, verdicts, strict=True)
        if event.get("type") != "heartbeat_ok" and event.get("reason") != Reason.FAILED
    }


async def have_subscribers(agents: Collection[str], truth: Truth, get_bus: Callable[[str], Bus]) -> bool:
    """Return True if each of `agents` that the healer is to monitor has a subscriber to its heartbeats."""
    channels: dict[str, list[str]] = {}
    for watch in truth.watched():
        if watch.svc in agents:
            channels.setdefault(watch.bus, []).append(watch.channel)
    for name, here in channels.items():
        bus = get_bus(name)
        try:
            counts = await bus.ask(bus.client.pubsub_numsub(*here))
        except BusError:
            return False
        if not all(count for _, count in counts):
            return False
    return True


async def read_objects(bus: Bus, keys: list[str]) -> list[Mapping[str, object]]:
    """Return the JSON object under each key; an empty one where there is none, or while the bus is away."""
    try:
        values = await read_strings(bus, keys)
    except BusError:
        return [{} for _ in keys]
    return [parse_object(value) for value in values]


class InstanceCounter:
    """Counts the processes of `services` that have beaten and have not sent a goodbye since.

    A process is known by the `boot` of its beats.
    """

    def __init__(self, truth: Truth, services: Iterable[str]) -> None:
        self._boots: dict[str, set[str]] = {svc: set() for svc in services}
        self._service_by_channel = {truth.channel_of(svc).encode(): svc for svc in self._boots}
        self._channels: dict[str, list[str]] = {}
        for svc in self._boots:
            self._channels.setdefault(truth.bus_of(svc), []).append(truth.channel_of(svc))
        self._unsubscribed = set(self._channels)
        self._listening = asyncio.Event()

    async def listen(self, get_bus: Callable[[str], Bus]) -> None:
        async with asyncio.TaskGroup() as group:
            for name, channels in self._channels.items():
                group.create_task(
                    subscribe(
                        get_bus(name),
                        channels=channels,
                        on_message=self.count_beat,
                        on_subscribed=lambda name=name: self._record_subscription(name),  # type: ignore[misc]  # its default is text
                    )
                )

    async def wait_until_listening(self) -> None:
        if self._unsubscribed:
            await self._listening.wait()

    def count_beat(self, channel: bytes, payload: bytes) -> None:
        svc = self._service_by_channel.get(channel, "")
        beat = parse_beat(payload, svc)
        if isinstance(beat, MalformedBeat) or beat.boot is None:
            return
        boots = self._boots[svc]
        if beat.status == "stopping":
            boots.discard(beat.boot)
        elif len(boots) < _MAX_BOOTS:
            boots.add(beat.boot)

    def count(self, svc: str) -> int:
        return len(self._boots.get(svc, ()))

    def _record_subscription(self, bus: str) -> None:
        self._unsubscribed.discard(bus)
        if not self._unsubscribed:
            self._listening.set()
