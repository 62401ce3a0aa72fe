"""The fleet that is soaked: two servers, healers behind wires that break, a sentinel, agents, services."""

import time
from pathlib import Path
from typing import Any, Self

from soak.company import Company
from soak.ledger import HOME, Ledger, Terms
from soak.schedule import BUSES, Cast
from soak.witness import Witness
from support.rig import Fleet, Proc, Server, TcpProxy
from support.scenes.faults import service, truth_of
from support.waiting import until

AGENT_INTERVAL_SEC, AGENT_TIMEOUT_SEC = 0.5, 3.0
SENTINEL_SEC = 3.0
AGENTS = ("sentinel", "mesh", "rss_agg")


class SoakFleet(Fleet):
    """`with SoakFleet(folder, cast, ledger) as fleet:` - all are up, and the ledger has begun.

    `code` is a folder whose packages run instead of those installed: another version, or one that is broken.
    """

    def __init__(self, folder: Path, cast: list[Cast], ledger: Ledger, code: str = "") -> None:
        self.cast, self.ledger = cast, ledger
        self.watched = {one.svc: (one.interval_sec, one.timeout_sec) for one in cast if one.watched}
        self.in_force: dict[str, tuple[float, float]] = {}
        self.wires: dict[tuple[int, str], TcpProxy] = {}
        env = {
            "SENTINEL_TIMEOUT_SEC": str(SENTINEL_SEC),
            "HEALER_LEASE_SEC": str(ledger.lease_sec),
            **({"PYTHONPATH": code} if code else {}),
        }
        super().__init__(folder, self._truth(), env=env, tail=False)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self._populate()
        except BaseException:
            self.resources.close()
            raise
        return self

    def server(self, bus: str) -> Server:
        return self.system if bus == HOME else self.market

    def healers(self) -> dict[int, Proc]:
        return {n: self.agents[f"healer-{n}"] for n in range(1, self.ledger.healers + 1)}

    def reseed(self) -> None:
        """Puts what is `watched` now in force, and has each service beat as it says."""
        at = time.time()
        self.ledger.seedings.append(at)
        self.seed(self._truth())
        self._agree(at, time.time())

    def told_down(self) -> set[str]:
        return self.witness.down()

    def _populate(self) -> None:
        urls = {bus: self.server(bus).url for bus in BUSES}
        self.company = Company(urls, self.ledger, self.cast)
        self.resources.callback(self.company.close)
        self.witness = self.resources.enter_context(Witness(urls, self.ledger, ("healer", *AGENTS)))
        for bus in BUSES:
            for n in range(1, self.ledger.healers + 1):
                self.wires[n, bus] = self.resources.enter_context(TcpProxy(self.server(bus).port))
        for n in range(1, self.ledger.healers + 1):
            wired = {_variable(bus): self.wires[n, bus].url for bus in BUSES}
            healer = Proc("healer", {**self.env, **wired}, self.folder)
            self.agents[f"healer-{n}"] = self.resources.enter_context(healer)
        for name in AGENTS:
            self.start(name)
        now = time.time()
        self.ledger.agents.update(AGENTS, {"healer"})
        for name in AGENTS:
            self.ledger.agreed(Terms(name, HOME, AGENT_INTERVAL_SEC, AGENT_TIMEOUT_SEC, now))
        self.ledger.agreed(Terms("healer", HOME, AGENT_INTERVAL_SEC, SENTINEL_SEC, now))
        self._agree(now)
        everyone = {*self.in_force, *AGENTS}
        until(lambda: everyone <= self.witness.up(), what=f"{everyone} to be up")
        self._begin(time.time())

    def _begin(self, now: float) -> None:
        self.ledger.began = now
        for terms in self.ledger.terms.values():
            terms[0].since = now

    def _agree(self, at: float, seeded: float = 0.0) -> None:
        for svc in self.in_force.keys() - self.watched.keys():
            self.ledger.dropped(svc, at)
        for svc, rhythm in self.watched.items():
            if self.in_force.get(svc) != rhythm:
                one = self.company.cast[svc]
                self.ledger.agreed(Terms(svc, one.bus, *rhythm, at, seeded=seeded))
                self.company.begin(svc, *rhythm)
        self.in_force = dict(self.watched)

    def _truth(self) -> dict[str, Any]:
        buses = {one.svc: one.bus for one in self.cast}
        services = {
            svc: service(buses[svc], interval_sec=interval, timeout_sec=timeout)
            for svc, (interval, timeout) in self.watched.items()
        }
        for name in AGENTS:
            services[name] = service(interval_sec=AGENT_INTERVAL_SEC, timeout_sec=AGENT_TIMEOUT_SEC)
        return truth_of(services, bus_timeout_sec=self.ledger.bus_timeout_sec)


def _variable(bus: str) -> str:
    return f"{bus.upper().replace('-', '_')}_URL"
