"""Make readings of what the medic knows of the fleet, and of what it says of its own work. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from marketswarm.operator.approval_request import ApprovalRequest
from services.medic.metric import FLEET, Metric, Readings
from services.medic.observer import FleetObservation
from services.medic.refusal import Refusal

_DEGRADED: Mapping[str, float] = {"ok": 0.0, "degraded": 1.0}


@dataclass(frozen=True, slots=True)
class MedicWork:
    """What the medic that leads says of its own work, for the rules about that.

    `escalated` are the services with an outage that it gave up, `proposals` what waits for a person, by
    service. `stopped` is why nothing may be done to any service.
    """

    escalated: frozenset[str] = frozenset()
    proposals: Mapping[str, ApprovalRequest] = field(default_factory=dict)
    is_fuse_blown: bool = False
    stopped: Refusal | None = None


def read_work(work: MedicWork, services: Iterable[str]) -> Readings:
    """Return by metric and service what the medic says of its own work: 1 for yes and 0 for no."""
    services = tuple(services)
    return {
        Metric.ESCALATED: {svc: float(svc in work.escalated) for svc in services},
        Metric.PROPOSED: {svc: float(svc in work.proposals) for svc in services},
        Metric.STOPPED: {FLEET: float(work.stopped is not None)},
        Metric.FUSE: {FLEET: float(work.is_fuse_blown)},
    }


def read_fleet(seen: FleetObservation) -> Readings:
    """Return by metric and service what one observation says of the services of the truth.

    Restarts are a count, all others 1 for yes and 0 for no; None is not known.
    """
    owned: dict[str, int] = {}
    for process in seen.processes or ():
        owned[process.svc] = owned.get(process.svc, 0) + process.restarts
    metrics = (Metric.DEGRADED, Metric.RESTARTS, Metric.CONFLICT)
    readings: Readings = {metric: {} for metric in metrics}
    for svc in seen.truth.services:
        beat = seen.state.beats.get(svc) if seen.is_up(svc) else None
        readings[Metric.DEGRADED][svc] = None if beat is None else _DEGRADED.get(beat.status)
        # an owner counts restarts, otherwise mesh does: its higher count is not a restart
        counted, restarts = seen.state.instances.get(svc), owned.get(svc)
        if restarts is None and counted is not None and svc not in seen.owned_by_silent:
            restarts = counted.restarts
        readings[Metric.RESTARTS][svc] = None if restarts is None else float(restarts)
        readings[Metric.CONFLICT][svc] = None if counted is None else float(counted.is_conflict)
    return readings


def list_pids(seen: FleetObservation) -> dict[str, list[int]]:
    """Return the processes that run and whose pid is one of this machine, by service."""
    found: dict[str, list[int]] = {}
    for process in seen.processes or ():
        if process.pid is not None:
            found.setdefault(process.svc, []).append(process.pid)
    return found
