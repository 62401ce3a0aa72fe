"""The loop of massive: probe every target, put the results on the market bus, say which ones fail."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import Field

from marketswarm.agent import Agent, agent, first_point
from marketswarm.bus import BusError
from marketswarm.settings import Common
from services.massive.probing import AT_ONCE, Prober
from services.massive.targets import Probe, Section, Target, changed, summed_up

STREAM_LENGTH: Final = 10_000
KEPT_ROUNDS: Final = 3  # `probe:<target>` expires when so many rounds brought nothing new


class Settings(Common):
    """What massive reads from the environment besides; the truth's `timeout_sec` goes first."""

    net_timeout_sec: Annotated[float, Field(gt=0, le=60)] = 2.0


async def main() -> int:
    """Be massive until asked to stop."""
    async with agent("massive", Settings) as me, Prober() as prober:
        own, before = me.own(Section), dict[str, str | None]()
        while True:
            wishes = own().settings
            timeout_sec = wishes.timeout_sec or me.settings.net_timeout_sec
            probes = await probe_all(me, prober, wishes.targets, timeout_sec)
            for probe in changed(before, probes):
                say = me.log.warning if probe.error else me.log.info
                say(
                    "probe.changed",
                    target=probe.target,
                    where=probe.where,
                    stage=probe.stage,
                    error=probe.error,
                )
            before = {probe.target: probe.error for probe in probes}
            me.note(summed_up(probes))
            me.degraded(await published(me, probes, wishes.probe_sec))
            await me.rest(wishes.probe_sec)
    return me.exit_code


async def probe_all(
    me: Agent[Settings], prober: Prober, targets: Sequence[Target], timeout_sec: float
) -> list[Probe]:
    """A result for every target."""
    rounds = -(-len(targets) // AT_ONCE)
    async with me.waiting(rounds * (2 * timeout_sec + 1) + 1):
        return list(await asyncio.gather(*(probe_one(me, prober, target, timeout_sec) for target in targets)))


async def probe_one(me: Agent[Settings], prober: Prober, target: Target, timeout_sec: float) -> Probe:
    """The result for one target; a bus is looked up where every agent finds it."""
    host, port = target.host, target.port
    if target.bus is not None:
        try:
            parts = urlsplit(me.bus(target.bus).url)
        except BusError as error:
            return Probe(target.name, target.bus, time.time(), "config", error.reason)
        host, port = parts.hostname, parts.port or 6379
    if host is None or port is None:
        return Probe(target.name, target.bus or "", time.time(), "config", "no_host")
    return await prober.probe(target.name, host, port, timeout_sec)


async def published(me: Agent[Settings], probes: Sequence[Probe], every_sec: float) -> str | None:
    """Put the results on the bus; why that did not work, or `None`."""
    if not probes:
        return None
    to = first_point(me.section.access_points.publish_to, "market-redis", "massive:probes")
    try:
        bus = me.bus(to.bus)
        pipe = bus.pipeline()
        for probe in probes:
            fields: dict[Any, Any] = probe.fields()
            pipe.xadd(to.key, fields, maxlen=STREAM_LENGTH, approximate=True)
            pipe.set(
                f"probe:{probe.target}", probe.encoded(), px=max(1, round(1000 * KEPT_ROUNDS * every_sec))
            )
        async with me.waiting(2 * bus.within_sec):
            await bus.ask(pipe.execute())
    except BusError as error:
        me.log.warning("probes.unpublished", bus=error.bus, reason=error.reason)
        return f"results not published: {error.bus} {error.reason}"
    return None
