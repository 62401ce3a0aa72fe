"""Read the flow of data regularly; write the flow and its faults to `mesh:flow`.

This is a task beside the main loop: a bus that hangs delays the flow, not the topology.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

import orjson

from marketswarm.agent import Agent
from marketswarm.bus import BusError
from marketswarm.bus.outage import Outage
from marketswarm.bus.stored_values import report_unusable
from marketswarm.keys import MESH_FLOW
from marketswarm.settings import CommonSettings
from marketswarm.text import format_names
from marketswarm.truth import Truth
from marketswarm.truth.flows import FlowFault, Key, build_flows
from services.mesh import flow
from services.mesh.flow_reader import KeyReading, read_keys
from services.mesh.settings import MeshSettings
from services.mesh.store import find_point
from services.mesh.topology import Topology

MAX_KEYS: Final = 1000
LENGTH_ONLY_SEC: Final = 300.0
"""For this time only the length of a stream is read after its entries turned out to be too large."""


def find_presence(topology: Topology, truth: Truth, services: Iterable[str], now: float) -> flow.Presence:
    """Return for how long each of `services` has been up, and which are down; leave out unknown services.

    A monitored service is down if its bus was heard for the service's timeout, and no beat of it arrived.
    """
    up_sec: dict[str, float] = {}
    down = set()
    for svc in truth.services.keys() & services:
        found = topology.instances_of(svc)
        if found:
            up_sec[svc] = now - min(one.joined_at for one in found.values())
        elif truth.services[svc].heartbeat.monitored and truth.bus_of(svc) not in topology.deaf:
            heard_since = topology.heard_since.get(truth.bus_of(svc), now)
            if now - heard_since > topology.timeout_of(svc):
                down.add(svc)
    return flow.Presence(up_sec, frozenset(down))


class FlowMonitor:
    """Read the flow regularly. `graph` and `faults` are of the latest reading, None and empty before it."""

    def __init__(
        self, me: Agent[CommonSettings], settings_now: Callable[[], MeshSettings], topology: Topology
    ) -> None:
        self.graph: flow.FlowGraph | None = None
        self.faults: list[FlowFault] = []
        self._me, self._settings_now, self._topology = me, settings_now, topology
        self._outage = Outage(me.log, "flow.unwritten", "flow.written", degrade=self._set_degraded)
        self._rates = flow.Rates()
        self._too_large: dict[Key, float] = {}  # by stream, when its entries were found to be too large
        self.follow(me.truth)

    def follow(self, truth: Truth) -> None:
        self._flows, self._named = build_flows(truth), flow.named_groups(truth)

    async def run(self) -> None:
        while True:
            await self.update()
            await asyncio.sleep(self._settings_now().settings.flow_sec)

    async def update(self) -> None:
        settings, flows, named = self._settings_now().settings, self._flows, self._named
        wanted = [key for key in flows.keys if not key.is_pattern]
        seen, away = await self._read_keys(wanted[:MAX_KEYS])
        now = time.monotonic()
        graph = flow.build_graph(flows, named, seen, self._rates, now, window_sec=settings.window_sec)
        self.graph = replace(graph, away=away, unmeasured=len(wanted[MAX_KEYS:]))
        services = {edge.svc for edge in flows.edges}
        presence = find_presence(self._topology, self._me.truth, services, now)
        self._log_changes(flow.FaultFinder(self.graph, presence, settings).faults())
        await self._write(self.graph, settings.flow_sec)

    def summary(self) -> str | None:
        """Return the number of faults and their keys in one line for a beat; None if there are no faults."""
        if not self.faults:
            return None
        return f"{len(self.faults)} wrong with the flow: " + format_names(
            f"{one.key} {one.what}" for one in self.faults
        )

    async def _read_keys(self, keys: list[Key]) -> tuple[dict[Key, KeyReading], dict[str, str]]:
        away: dict[str, str] = {}

        async def read_bus(bus: str) -> dict[Key, KeyReading]:
            names = [key.name for key in keys if key.bus == bus]
            length_only = {key.name for key in self._too_large if key.bus == bus}
            try:
                found = await read_keys(self._me.bus(bus), names, length_only)
            except BusError as error:
                away[bus] = error.reason
                return {}
            for name, seen in found.items():
                if seen.too_large:
                    self._too_large[Key(bus, name)] = time.monotonic()
                    report_unusable(bus, name, f"entries of {seen.too_large} bytes")
            return {Key(bus, name): seen for name, seen in found.items()}

        expired_at = time.monotonic() - LENGTH_ONLY_SEC
        self._too_large = {key: at for key, at in self._too_large.items() if at > expired_at}

        parts = await asyncio.gather(*(read_bus(bus) for bus in dict.fromkeys(key.bus for key in keys)))
        return {key: seen for part in parts for key, seen in part.items()}, away

    def _log_changes(self, faults: list[FlowFault]) -> None:
        """Log the faults that began and those that ended, and keep `faults`."""
        before, now = (
            {(one.what, one.key, one.bus, one.svc or ""): one.text for one in some}
            for some in (self.faults, faults)
        )
        for (what, key, bus, svc), why in now.items():
            if (what, key, bus, svc) not in before:
                self._me.log.warning("flow.fault", what=what, key=key, bus=bus, svc=svc, why=why)
        for what, key, bus, svc in before.keys() - now.keys():
            self._me.log.info("flow.recovered", what=what, key=key, bus=bus, svc=svc)
        self.faults = faults

    async def _write(self, graph: flow.FlowGraph, every_sec: float) -> None:
        point = find_point(self._me, MESH_FLOW)
        document = flow.encode_flow(graph, self.faults, self._me.revision, every_sec, time.time())
        with self._outage:
            bus = self._me.bus(point.bus)
            await bus.ask(bus.client.set(point.key, orjson.dumps(document), ex=flow.KEPT_SEC))

    def _set_degraded(self, problem: str | None) -> None:
        self._me.set_degraded(problem and f"flow not written: {problem}", part="flow")
