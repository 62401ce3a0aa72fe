"""Make readings of what the medic knows of the fleet: beats, processes, and its own repairs. Pure."""

from collections.abc import Mapping

from marketswarm.detector import State
from services.medic.observer import FleetObservation
from services.medic.proposal import find_proposal
from services.medic.repair import Repair
from services.medic.rules.metric import FLEET, Metric, Readings

_DEGRADED: Mapping[str, float] = {"ok": 0.0, "degraded": 1.0}


def read_fleet(
    seen: FleetObservation, repairs: Mapping[str, Repair], *, is_fuse_blown: bool, is_stopped: bool = False
) -> Readings:
    """Return by metric and service what one observation says of the services of the truth.

    Restarts are a count, all others 1 for yes and 0 for no; None is not known.
    """
    owned: dict[str, int] = {}
    for process in seen.processes or ():
        owned[process.svc] = owned.get(process.svc, 0) + process.restarts
    metrics = (Metric.DEGRADED, Metric.RESTARTS, Metric.ESCALATED, Metric.PROPOSED, Metric.CONFLICT)
    readings: Readings = {metric: {} for metric in metrics}
    for svc in seen.truth.services:
        entry, beat = seen.state.roster.get(svc), seen.state.beats.get(svc)
        is_up = entry is not None and entry.verdict is State.UP
        readings[Metric.DEGRADED][svc] = _DEGRADED.get(beat.status) if is_up and beat is not None else None
        # an owner counts restarts, otherwise mesh does: its higher count is not a restart
        counted, restarts = seen.state.instances.get(svc), owned.get(svc)
        if restarts is None and counted is not None and svc not in seen.owned_by_silent:
            restarts = counted.restarts
        readings[Metric.RESTARTS][svc] = None if restarts is None else float(restarts)
        readings[Metric.CONFLICT][svc] = None if counted is None else float(counted.is_conflict)
        repair = repairs.get(svc)
        readings[Metric.ESCALATED][svc] = float(repair is not None and repair.is_escalated)
        readings[Metric.PROPOSED][svc] = float(repair is not None and find_proposal(repair) is not None)
    readings[Metric.STOPPED] = {FLEET: float(is_stopped)}
    readings[Metric.FUSE] = {FLEET: float(is_fuse_blown)}
    return readings


def list_pids(seen: FleetObservation) -> dict[str, list[int]]:
    """Return the processes that run and whose pid is one of this machine, by service."""
    found: dict[str, list[int]] = {}
    for process in seen.processes or ():
        if process.pid is not None:
            found.setdefault(process.svc, []).append(process.pid)
    return found
