"""Report mesh's metrics on METRICS_PORT: at most one value per service or key of the truth.

Another thread than the event loop's reads them, which needs no lock.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from marketswarm.metrics.family import Family, counter, gauge
from services.mesh.flow_faults import FAULT_KINDS
from services.mesh.flow_graph import KeyState
from services.mesh.flow_monitor import FlowMonitor
from services.mesh.listener import BeatListener
from services.mesh.topology import Topology

KEY: Final = ("bus", "key")
READER: Final = ("bus", "key", "svc")


def collect_metrics(topology: Topology, listener: BeatListener, flow: FlowMonitor) -> Iterator[Family]:
    services = {svc: list(found.values()) for svc, found in list(topology.services.items())}
    yield _gauge(
        "instances",
        "Processes of a service that run.",
        ("svc",),
        {(svc,): len(found) for svc, found in services.items()},
    )
    yield _gauge(
        "clock_skew_seconds",
        "How far an instance's clock is ahead of mesh's; of several, that which is off most.",
        ("svc",),
        {
            (svc,): max((one.skew_sec for one in found), key=abs, default=0.0)
            for svc, found in services.items()
        },
    )
    yield Family(
        "marketswarm_mesh_events_total",
        "counter",
        "What happened in the swarm, by kind.",
        [((kind,), float(count)) for kind, count in listener.counts.items()],
        labels=("event",),
    )
    yield counter(
        "marketswarm_mesh_malformed_total",
        "Payloads on channels of heartbeats that are no beats.",
        listener.malformed,
    )
    yield counter(
        "marketswarm_mesh_oversized_total",
        "Messages that were skipped, being longer than 256 KiB.",
        listener.oversized,
    )
    yield counter(
        "marketswarm_mesh_strangers_untold_total",
        "Strangers that were not told of, being too many.",
        listener.unknown.dropped,
    )
    yield gauge(
        "marketswarm_mesh_converged_seconds",
        "How long it took until all went by the latest revision that all go by.",
        topology.convergence.took_sec,
    )
    yield from _collect_flow(flow)


def _collect_flow(flow: FlowMonitor) -> Iterator[Family]:
    states = flow.graph.keys.items() if flow.graph else ()
    streams: dict[tuple[str, ...], KeyState] = {
        (key.bus, key.name): one for key, one in states if one.seen.kind == "stream"
    }
    yield Family(
        "marketswarm_mesh_stream_entries_total",
        "counter",
        "Entries that were ever added to a stream.",
        [(key, float(one.seen.added)) for key, one in streams.items() if one.seen.added is not None],
        labels=KEY,
    )
    lengths = {key: one.seen.length for key, one in streams.items()}
    yield _gauge("stream_length", "Entries that a stream holds.", KEY, lengths)
    readers = {(*key, svc): group for key, one in streams.items() for svc, group in one.groups.items()}
    yield _gauge(
        "reader_lag_entries",
        "Entries that a reader's group has not been given yet.",
        READER,
        {key: group.lag for key, group in readers.items() if group.lag is not None},
    )
    yield _gauge(
        "reader_oldest_seconds",
        "Age of the oldest entry that a reader's group has not settled; 0 when nothing is left.",
        READER,
        {key: group.oldest_sec or 0.0 for key, group in readers.items()},
    )
    counts = Counter(one.what for one in flow.faults)
    yield _gauge(
        "flow_faults",
        "What is wrong with the flow now, by kind.",
        ("what",),
        {(what,): counts[what] for what in FAULT_KINDS},
    )


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> Family:
    found = [(key, float(value)) for key, value in values.items()]
    return Family(f"marketswarm_mesh_{name}", "gauge", text, found, labels=labels)
