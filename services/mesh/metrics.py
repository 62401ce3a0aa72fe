"""Report mesh's metrics on METRICS_PORT: at most one value per service or key of the truth.

Another thread than the event loop's reads them, which needs no lock.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final, Literal

from marketswarm.metrics.family import Family, Value, counter, gauge
from services.mesh.flow_faults import FAULT_KINDS
from services.mesh.flow_graph import KeyState
from services.mesh.flow_monitor import FlowMonitor
from services.mesh.listener import BeatListener
from services.mesh.topology import Topology

Kind = Literal["gauge", "counter"]
KEY: Final = ("bus", "key")
READER: Final = ("bus", "key", "svc")


class MeshMetrics:
    """Read the metrics from the topology, the listener and the flow monitor."""

    def __init__(self, topology: Topology, listener: BeatListener, flow: FlowMonitor) -> None:
        self._topology, self._listener, self._flow = topology, listener, flow

    def collect(self) -> Iterator[Family]:
        services = {svc: list(found.values()) for svc, found in list(self._topology.services.items())}
        yield _make_service_family(
            "instances",
            "Processes of a service that run.",
            {svc: len(found) for svc, found in services.items()},
        )
        yield _make_service_family(
            "clock_skew_seconds",
            "How far an instance's clock is ahead of mesh's; of several, that which is off most.",
            {
                svc: max((one.skew_sec for one in found), key=abs, default=0.0)
                for svc, found in services.items()
            },
        )
        yield Family(
            "marketswarm_mesh_events_total",
            "counter",
            "What happened in the swarm, by kind.",
            [((kind,), float(count)) for kind, count in self._listener.counts.items()],
            labels=("event",),
        )
        yield counter(
            "marketswarm_mesh_malformed_total",
            "Payloads on channels of heartbeats that are no beats.",
            self._listener.malformed,
        )
        yield counter(
            "marketswarm_mesh_oversized_total",
            "Messages that were skipped, being longer than 256 KiB.",
            self._listener.oversized,
        )
        yield counter(
            "marketswarm_mesh_strangers_untold_total",
            "Strangers that were not told of, being too many.",
            self._listener.unknown.dropped,
        )
        yield gauge(
            "marketswarm_mesh_converged_seconds",
            "How long it took until all went by the latest revision that all go by.",
            self._topology.convergence.took_sec,
        )
        yield from self._collect_flow()

    def _collect_flow(self) -> Iterator[Family]:
        graph, faults = self._flow.graph, self._flow.faults
        streams = [one for one in graph.keys.values() if one.seen.kind == "stream"] if graph else []
        yield _make_family(
            "stream_entries_total",
            "counter",
            "Entries that were ever added to a stream.",
            KEY,
            [(_make_labels(one), float(one.seen.added)) for one in streams if one.seen.added is not None],
        )
        yield _make_family(
            "stream_length",
            "gauge",
            "Entries that a stream holds.",
            KEY,
            [(_make_labels(one), float(one.seen.length)) for one in streams],
        )
        readers = [(one, svc, group) for one in streams for svc, group in one.groups.items()]
        yield _make_family(
            "reader_lag_entries",
            "gauge",
            "Entries that a reader's group has not been given yet.",
            READER,
            [
                ((*_make_labels(one), svc), float(group.lag))
                for one, svc, group in readers
                if group.lag is not None
            ],
        )
        yield _make_family(
            "reader_oldest_seconds",
            "gauge",
            "Age of the oldest entry that a reader's group has not settled; 0 when nothing is left.",
            READER,
            [((*_make_labels(one), svc), group.oldest_sec or 0.0) for one, svc, group in readers],
        )
        counts = Counter(one.what for one in faults)
        yield _make_family(
            "flow_faults",
            "gauge",
            "What is wrong with the flow now, by kind.",
            ("what",),
            [((what,), float(counts[what])) for what in FAULT_KINDS],
        )


def _make_labels(one: KeyState) -> tuple[str, str]:
    return one.key.bus, one.key.name


def _make_service_family(name: str, text: str, values: Mapping[str, float]) -> Family:
    return _make_family(
        name, "gauge", text, ("svc",), [((svc,), float(value)) for svc, value in values.items()]
    )


def _make_family(name: str, kind: Kind, text: str, labels: tuple[str, ...], values: list[Value]) -> Family:
    return Family(f"marketswarm_mesh_{name}", kind, text, values, labels=labels)
