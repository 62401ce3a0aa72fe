"""The main loop of mesh: every second, remove silent instances, and write the topology if it has changed.

Its metrics on METRICS_PORT have at most one value per service or key of the truth. Another thread than that
of the event loop reads them, which needs no lock.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from marketswarm.agent import Agent, agent
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage, retry
from marketswarm.bus.stored_values import read_strings, report_unusable
from marketswarm.keys import MESH_TOPOLOGY
from marketswarm.metrics import Family, MetricTable
from marketswarm.settings import CommonSettings
from services.mesh.flow import FAULT_KINDS
from services.mesh.flow_monitor import FlowMonitor
from services.mesh.listener import BeatListener
from services.mesh.settings import MeshSettings
from services.mesh.store import BUS_SEC, MAX_TOPOLOGY_BYTES, TopologyWriter, find_point, restore_topology
from services.mesh.topology import Topology

UPDATE_SEC: Final = 1.0
RECALL_WITHIN_SEC: Final = 15.0  # for so long after its first failure, the stored topology is asked for again
STALLED_SEC: Final = 1.0  # after a rest that was so much too long, this process did not run and heard no beat

_HELP: Final = {
    "instances{svc}": "Processes of a service that run.",
    "clock_skew_seconds{svc}": (
        "How far an instance's clock is ahead of mesh's; of several, that which is off most."
    ),
    "events_total{event}": "What happened in the swarm, by kind.",
    "malformed_total": "Payloads on channels of heartbeats that are not beats.",
    "oversized_total": "Messages that were skipped, because they were longer than 256 KiB.",
    "strangers_unreported_total": "Unknown services that were not reported, because there were too many.",
    "converged_seconds": (
        "How long it took until all instances used the latest revision that all of them use."
    ),
    "stream_entries_total{bus,key}": "Entries that were ever added to a stream.",
    "stream_length{bus,key}": "Entries that a stream holds.",
    "reader_lag_entries{bus,key,svc}": "Entries that a reader's group has not been given yet.",
    "reader_oldest_seconds{bus,key,svc}": (
        "Age of the oldest entry that a reader's group has not settled; 0 when nothing is left."
    ),
    "flow_faults{what}": "What is wrong with the flow now, by kind.",
}
_METRICS: Final = MetricTable("marketswarm_mesh_", _HELP)


async def main() -> int:
    """Run mesh until it is asked to stop; return its exit code."""
    async with agent("mesh") as me:
        settings_now = me.config(MeshSettings)
        topology = Topology(lambda svc: me.truth.timeout_of(svc))  # noqa: PLW0108 - a reseed replaces it
        await restore(me, topology)
        listener, writer = BeatListener(me, topology), TopologyWriter(me)
        flow = FlowMonitor(me, settings_now, topology)
        for part in (listener, flow):
            me.on_reseed(part.follow)
        listener.follow(me.truth)
        me.expose(lambda: collect_metrics(topology, listener, flow))
        me.task(flow.run(), name="flow")
        while True:
            update_topology(me, topology, listener)
            await writer.write(topology, listener)
            me.set_degraded(find_problem(topology, writer))
            me.set_detail(flow.summary())
            begun = time.monotonic()
            await me.rest(UPDATE_SEC)
            if time.monotonic() - begun > UPDATE_SEC + STALLED_SEC:
                topology.reset_silence(time.monotonic())
    return me.exit_code


def update_topology(me: Agent[CommonSettings], topology: Topology, listener: BeatListener) -> None:
    now, wall = time.monotonic(), time.time()
    listener.add_events(topology.remove_silent(now, wall))
    listener.add_events(topology.check_convergence(wall, now))
    if topology.skewed:  # one log line for all, since the wrong clock may be our own
        svc, skew_sec = topology.skewed[0]
        me.log.warning("mesh.clock_skew", svc=svc, skew_sec=skew_sec, count=len(topology.skewed))
        topology.skewed.clear()


def find_problem(topology: Topology, writer: TopologyWriter) -> str | None:
    """Return why the topology is not reliable (a bus that can't be heard, a failed write); None if it is."""
    deaf = f"deaf on {', '.join(sorted(topology.deaf))}" if topology.deaf else None
    unwritten = writer.outage.problem and f"not written: {writer.outage.problem}"
    return "; ".join(filter(None, (deaf, unwritten))) or None


async def restore(me: Agent[CommonSettings], topology: Topology) -> None:
    """Load the topology of the last process; begin without it if the bus fails for RECALL_WITHIN_SEC.

    Without a stored topology every instance would seem to have just joined.
    """
    point = find_point(me, MESH_TOPOLOGY)

    async def read() -> bytes | None:
        async with me.waiting(BUS_SEC, bus=point.bus):
            (raw,) = await read_strings(me.bus(point.bus), [point.key], MAX_TOPOLOGY_BYTES, report=True)
        return raw

    outage = Outage(me.log, "mesh.state_unavailable", "mesh.state_available")
    try:
        raw = await retry(outage, read, RECALL_WITHIN_SEC)
    except BusError:
        return  # the outage has logged it
    bus_of = {svc: me.truth.bus_of(svc) for svc in me.truth.services}
    for what in restore_topology(topology, raw, bus_of, time.monotonic(), time.time()):
        report_unusable(point.bus, point.key, what)
    me.log.info("mesh.state_loaded", instances=sum(1 for _ in topology.instances()))


def collect_metrics(topology: Topology, listener: BeatListener, flow: FlowMonitor) -> Iterator[Family]:
    """Return all metrics; those of the flow are of the streams in its graph, and of their groups."""
    states = flow.graph.keys.items() if flow.graph else ()
    streams = {key: one for key, one in states if one.seen.kind == "stream"}
    readers = {(*key, svc): group for key, one in streams.items() for svc, group in one.groups.items()}
    faults = Counter(one.what for one in flow.faults)
    services = {svc: list(found.values()) for svc, found in list(topology.services.items())}
    return _METRICS.collect(
        instances={svc: len(found) for svc, found in services.items()},
        clock_skew_seconds={
            svc: max((one.skew_sec for one in found), key=abs, default=0.0) for svc, found in services.items()
        },
        events_total=listener.counts,
        malformed_total=listener.malformed,
        oversized_total=listener.oversized,
        strangers_unreported_total=listener.unknown.dropped,
        converged_seconds=topology.convergence.took_sec,
        stream_entries_total={key: one.seen.added for key, one in streams.items()},
        stream_length={key: one.seen.length for key, one in streams.items()},
        reader_lag_entries={key: group.lag for key, group in readers.items()},
        reader_oldest_seconds={key: group.oldest_sec or 0.0 for key, group in readers.items()},
        flow_faults={what: faults[what] for what in FAULT_KINDS},
    )
