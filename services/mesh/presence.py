"""Who is there, for the flow: a key that nobody writes is one thing, a writer that is down another. Pure."""

from collections.abc import Iterable

from marketswarm.truth import Truth
from services.mesh.flow_graph import Presence
from services.mesh.topology import Topology


def presence(topology: Topology, truth: Truth, services: Iterable[str], now: float) -> Presence:
    """What is known of `services`.

    One is down when its bus was heard for its timeout, and it was not. Who need not beat may be up silently.
    """
    up_sec: dict[str, float] = {}
    down = set()
    for svc in services:
        found = topology.of(svc)
        if found:
            up_sec[svc] = now - min(one.joined_at for one in found.values())
        elif svc not in truth.services:
            continue  # reseeded just now
        elif truth.services[svc].heartbeat.monitored and _listened_sec(topology, truth.bus_of(svc), now) > (
            topology.timeout_of(svc)
        ):
            down.add(svc)
    return Presence(up_sec, frozenset(down))


def _listened_sec(topology: Topology, bus: str, now: float) -> float:
    """How long a bus has been heard without a gap."""
    since = topology.hearing_since.get(bus)
    return 0.0 if since is None or bus in topology.deaf else now - since
