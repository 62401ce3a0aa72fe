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
    services = list(seen.truth.services)
    of = {svc: repairs.get(svc) for svc in services}
    owned: dict[str, int] = {}
    for each in seen.processes or ():
        owned[each.svc] = owned.get(each.svc, 0) + each.restarts
    return {
        Metric.DEGRADED: {svc: _find_degraded(svc, seen) for svc in services},
        Metric.RESTARTS: {svc: _count_restarts(svc, seen, owned) for svc in services},
        Metric.ESCALATED: {svc: float(each is not None and each.is_escalated) for svc, each in of.items()},
        Metric.PROPOSED: {
            svc: float(each is not None and find_proposal(each) is not None) for svc, each in of.items()
        },
        Metric.CONFLICT: {svc: _find_conflict(svc, seen) for svc in services},
        Metric.STOPPED: {FLEET: float(is_stopped)},
        Metric.FUSE: {FLEET: float(is_fuse_blown)},
    }


def list_pids(seen: FleetObservation) -> dict[str, list[int]]:
    """Return the processes that run and whose pid is one of this machine, by service."""
    found: dict[str, list[int]] = {}
    for process in seen.processes or ():
        if process.pid is not None:
            found.setdefault(process.svc, []).append(process.pid)
    return found


def _find_degraded(svc: str, seen: FleetObservation) -> float | None:
    """Return 1 or 0 by the last beat of a service that is up."""
    entry, beat = seen.state.roster.get(svc), seen.state.beats.get(svc)
    if entry is None or entry.verdict is not State.UP or beat is None:
        return None
    return _DEGRADED.get(beat.status)


def _find_conflict(svc: str, seen: FleetObservation) -> float | None:
    """Return 1 or 0 by what mesh says; None of a service that it has not seen."""
    counted = seen.state.instances.get(svc)
    return None if counted is None else float(counted.is_conflict)


def _count_restarts(svc: str, seen: FleetObservation, owned: Mapping[str, int]) -> float | None:
    """Return how often a service was started again, by its owner (`owned`), otherwise by mesh.

    None while an owner may count it and does not answer, because a higher count of mesh is not a restart.
    """
    if seen.processes is None and seen.cut_off:
        return None
    if svc in owned:
        return float(owned[svc])
    counted = seen.state.instances.get(svc)
    return None if counted is None else float(counted.restarts)
