"""Build the graph of services and the keys that they write and read, from the access points of a truth. Pure.

Heartbeats are left out: every service beats, and the healer hears all of them. A key with a `*` in it is a
pattern, such as `health:*`. Not here: what really happens on the buses, which mesh measures.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, NamedTuple

from marketswarm.keys import HEARTBEAT_SUFFIX
from marketswarm.text import format_names
from marketswarm.truth.model import Truth

Access = Literal["writes", "reads"]


class Key(NamedTuple):
    """A key or channel of a bus."""

    bus: str
    name: str

    @property
    def is_pattern(self) -> bool:
        return "*" in self.name

    def covers(self, other: "Key") -> bool:
        """Return True if `other` is the same key, or is on the same bus and matches this pattern."""
        return self == other or (
            self.is_pattern
            and self.bus == other.bus
            and fnmatchcase(other.name, self.name.replace("[", "[[]"))
        )


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One service writes or reads one key."""

    svc: str
    does: Access
    key: Key


@dataclass(frozen=True, slots=True)
class FlowFault:
    """An error in a flow. `what` names its kind, such as `no_writer`: the same word in log, metric and graph.

    It is about the key `key` on `bus`, and about the service `svc` if it is about one. `text` is a sentence
    for people.
    """

    what: str
    bus: str
    key: str
    svc: str | None
    text: str


@dataclass(frozen=True)
class Flows:
    """The graph of services and keys."""

    edges: tuple[Edge, ...]

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        return tuple(dict.fromkeys(edge.key for edge in self.edges))

    def writers(self, key: Key) -> tuple[str, ...]:
        """Count a service that writes a pattern which covers the key; `key` is one of `keys`."""
        return tuple(self._services["writes", key])

    def readers(self, key: Key) -> tuple[str, ...]:
        """Count a service that reads a pattern which covers the key; `key` is one of `keys`."""
        return tuple(self._services["reads", key])

    @cached_property
    def _services(self) -> Mapping[tuple[Access, Key], Mapping[str, None]]:
        """The services by what they do and by key, those that name the key before those of patterns."""
        patterns = [edge for edge in self.edges if edge.key.is_pattern]
        found: dict[tuple[Access, Key], dict[str, None]] = defaultdict(dict)
        for edge in self.edges:
            found[edge.does, edge.key][edge.svc] = None
        for key in self.keys:
            for many in patterns:
                if many.key.covers(key):
                    found[many.does, key][many.svc] = None
        return found


def build_flows(truth: Truth) -> Flows:
    """Build the graph of a truth from the access points of all services."""
    beats = {(truth.bus_of(svc), truth.channel_of(svc)) for svc in truth.services}
    edges: list[Edge] = []
    for svc, service in truth.services.items():
        points = service.access_points
        edges += (Edge(svc, "writes", Key(point.bus, point.key)) for point in points.publish_to)
        edges += (Edge(svc, "reads", Key(point.bus, point.key)) for point in points.subscribe_to)
    work = (one for one in edges if one.key not in beats and not one.key.name.endswith(HEARTBEAT_SUFFIX))
    return Flows(tuple(dict.fromkeys(work)))


def find_unwritten_keys(flows: Flows) -> list[FlowFault]:
    """Return a fault `no_writer` for each key that a service reads and, by the truth, no service writes."""
    faults = []
    written = [edge for edge in flows.edges if edge.does == "writes"]
    for key in flows.keys:
        readers = flows.readers(key)
        is_written = flows.writers(key) or (key.is_pattern and any(key.covers(edge.key) for edge in written))
        if readers and not is_written:
            verb = "reads" if len(readers) == 1 else "read"
            text = f"{format_names(readers)} {verb} it, and no service writes it"
            elsewhere = next((edge for edge in written if edge.key.name == key.name), None)
            if elsewhere is not None:
                text += f" ({elsewhere.svc} writes {key.name} on {elsewhere.key.bus})"
            faults.append(FlowFault("no_writer", *key, None, text))
    return faults
