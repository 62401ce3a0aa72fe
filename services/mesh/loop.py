"""The loop of mesh: once a second, see who is gone, and write the picture if it is another one."""

import time
from typing import Final

from marketswarm.agent import Agent, agent
from marketswarm.bus import BusError
from marketswarm.bus.stored_values import read_strings, report_unusable
from marketswarm.settings import Common
from services.mesh.flow_monitor import Flowing, presence
from services.mesh.listener import Hearing
from services.mesh.metrics import Metrics
from services.mesh.picture import remember
from services.mesh.settings import MeshSettings
from services.mesh.topology import Topology
from services.mesh.writer import Writing, topology_key

LOOK_EVERY_SEC: Final = 1.0
LONGEST_PICTURE: Final = 32 * 1024 * 1024  # bytes: that of a hundred thousand services has less
BUS_SEC: Final = 10.0  # above what reading or writing may take: a bus that is away is no hanging of ours
STALLED_SEC: Final = 1.0  # a rest so much too long: this process did not run, and heard nobody


async def main() -> int:
    """Be mesh until asked to stop."""
    async with agent("mesh") as me:
        own = me.own(MeshSettings)
        topology = Topology(lambda svc: me.truth.timeout_of(svc, me.settings.default_timeout_sec))
        async with me.waiting(BUS_SEC):
            await recall(me, topology)
        hearing, writing = Hearing(me, topology), Writing(me)
        flowing = Flowing(me, own, lambda of: presence(topology, me.truth, of, time.monotonic()))
        for part in (hearing, flowing):
            me.on_reseed(part.follow)
        hearing.follow(me.truth)
        me.expose(Metrics(topology, hearing, flowing).collect)
        me.task(flowing.run(), name="flow")
        while True:
            look(me, topology, hearing)
            async with me.waiting(BUS_SEC):
                await writing.write(topology, hearing)
            me.degraded(trouble(topology, writing))
            me.note(flowing.remark())
            begun = time.monotonic()
            await me.rest(LOOK_EVERY_SEC)
            if time.monotonic() - begun > LOOK_EVERY_SEC + STALLED_SEC:
                topology.forgive(time.monotonic())
    return me.exit_code


def look(me: Agent[Common], topology: Topology, hearing: Hearing) -> None:
    """See who is gone, who has converged, whose clock is wrong: one line, since it may be our own."""
    now, wall = time.monotonic(), time.time()
    hearing.tell(topology.tick(now, wall))
    hearing.tell(topology.converged(wall, now))
    if topology.skewed:
        svc, skew_sec = topology.skewed[0]
        me.log.warning("mesh.clock_skew", svc=svc, skew_sec=skew_sec, count=len(topology.skewed))
        topology.skewed.clear()


def trouble(topology: Topology, writing: Writing) -> str | None:
    """Why the picture is not to be trusted, or `None`."""
    deaf = f"deaf on {', '.join(sorted(topology.deaf))}" if topology.deaf else None
    return "; ".join(filter(None, (deaf, writing.trouble))) or None


async def recall(me: Agent[Common], topology: Topology) -> None:
    """Know who was there before this process began; without that, all would be news."""
    to = topology_key(me)
    try:
        (raw,) = await read_strings(me.bus(to.bus), [to.key], LONGEST_PICTURE, report=True)
    except BusError as error:
        me.log.warning("mesh.not_recalled", bus=error.bus, reason=error.reason)
        return
    bus_of = {svc: me.truth.bus_of(svc) for svc in me.truth.services}
    count = remember(
        topology,
        raw,
        bus_of,
        time.monotonic(),
        time.time(),
        unusable=lambda what: report_unusable(to.bus, to.key, what),
    )
    me.log.info("mesh.recalled", instances=count)
