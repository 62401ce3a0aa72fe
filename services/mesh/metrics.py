"""Report mesh's metrics on METRICS_PORT: at most one value per service or key of the truth.

Another thread than the event loop's reads them, which needs no lock.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from marketswarm.metrics import Family, MetricTable
from services.mesh.flow_faults import FAULT_KINDS
from services.mesh.flow_monitor import FlowMonitor
from services.mesh.listener import BeatListener
from services.mesh.topology import Topology

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


def collect_metrics(topology: Topology, listener: BeatListener, flow: FlowMonitor) -> Iterator[Family]:
    """Return all metrics; those of the flow are of the streams in its graph, and of their groups."""
    states = flow.graph.keys.items() if flow.graph else ()
    streams = {(key.bus, key.name): one for key, one in states if one.seen.kind == "stream"}
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
