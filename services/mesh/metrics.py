"""Report mesh's metrics on METRICS_PORT: at most one value per service or key of the truth.

Another thread than the event loop's reads them, which needs no lock.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from marketswarm.metrics.family import Family, counter, counters, gauge, gauges
from services.mesh.flow_faults import FAULT_KINDS
from services.mesh.flow_graph import KeyState
from services.mesh.flow_monitor import FlowMonitor
from services.mesh.listener import BeatListener
from services.mesh.topology import Topology

KEY: Final = ("bus", "key")
READER: Final = ("bus", "key", "svc")


def collect_metrics(topology: Topology, listener: BeatListener, flow: FlowMonitor) -> Iterator[Family]:
    services = {svc: list(found.values()) for svc, found in list(topology.services.items())}
    yield gauges(
        "marketswarm_mesh_instances",
        "Processes of a service that run.",
        {svc: len(found) for svc, found in services.items()},
        ("svc",),
    )
    yield gauges(
        "marketswarm_mesh_clock_skew_seconds",
        "How far an instance's clock is ahead of mesh's; of several, that which is off most.",
        {svc: max((one.skew_sec for one in found), key=abs, default=0.0) for svc, found in services.items()},
        ("svc",),
    )
    yield counters(
        "marketswarm_mesh_events_total", "What happened in the swarm, by kind.", listener.counts, ("event",)
    )
    yield counter(
        "marketswarm_mesh_malformed_total",
        "Payloads on channels of heartbeats that are not beats.",
        listener.malformed,
    )
    yield counter(
        "marketswarm_mesh_oversized_total",
        "Messages that were skipped, because they were longer than 256 KiB.",
        listener.oversized,
    )
    yield counter(
        "marketswarm_mesh_strangers_unreported_total",
        "Unknown services that were not reported, because there were too many.",
        listener.unknown.dropped,
    )
    yield gauge(
        "marketswarm_mesh_converged_seconds",
        "How long it took until all instances used the latest revision that all of them use.",
        topology.convergence.took_sec,
    )
    yield from _collect_flow(flow)


def _collect_flow(flow: FlowMonitor) -> Iterator[Family]:
    """Yield how many entries streams got, and what is left to their groups, of the streams in the graph."""
    states = flow.graph.keys.items() if flow.graph else ()
    streams: dict[tuple[str, ...], KeyState] = {
        (key.bus, key.name): one for key, one in states if one.seen.kind == "stream"
    }
    added = {key: one.seen.added for key, one in streams.items() if one.seen.added is not None}
    yield counters(
        "marketswarm_mesh_stream_entries_total", "Entries that were ever added to a stream.", added, KEY
    )
    lengths = {key: one.seen.length for key, one in streams.items()}
    yield gauges("marketswarm_mesh_stream_length", "Entries that a stream holds.", lengths, KEY)
    readers = {(*key, svc): group for key, one in streams.items() for svc, group in one.groups.items()}
    yield gauges(
        "marketswarm_mesh_reader_lag_entries",
        "Entries that a reader's group has not been given yet.",
        {key: group.lag for key, group in readers.items()},
        READER,
    )
    yield gauges(
        "marketswarm_mesh_reader_oldest_seconds",
        "Age of the oldest entry that a reader's group has not settled; 0 when nothing is left.",
        {key: group.oldest_sec or 0.0 for key, group in readers.items()},
        READER,
    )
    counts = Counter(one.what for one in flow.faults)
    yield gauges(
        "marketswarm_mesh_flow_faults",
        "What is wrong with the flow now, by kind.",
        {what: counts[what] for what in FAULT_KINDS},
        ("what",),
    )
