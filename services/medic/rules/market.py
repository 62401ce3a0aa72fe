"""Read what the market's services store of themselves: sources that fail, what is quarantined, the database.

Only while the service that writes it is up: what another one left says nothing of now.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from marketswarm.agent import point_like
from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import parse_count, parse_object, read_strings
from marketswarm.keys import MARKET_QUARANTINE, MARKET_SOURCES, PRELOAD_STATUS
from marketswarm.operator.remedies import ARCHIVE, BARS, SOURCES
from marketswarm.operator.service_reports import read_backup_report, read_database_report
from marketswarm.truth import MARKET, SYSTEM, AccessPoint
from services.medic.metric import DATABASE, FLEET, Metric, Readings, name_reading
from services.medic.observer import FleetObservation
from services.medic.source_rejects import read_rejects, read_source_states

MAX_GATE_BYTES: Final = 1 << 20
"""The longest state of the gate that is read: it names up to 500 series that failed."""
_CLOSED: Final[Mapping[object, float]] = {"open": 0.0, "closed": 1.0}
_FAILING: Final[Mapping[object, float]] = {"up": 0.0, "down": 1.0}
"""Map a state to a number. While the gate is still loading, the state is neither, and is ignored."""


async def read_market(seen: FleetObservation, get_bus: Callable[[str], Bus]) -> Readings:
    """Return what is known of sources and gate, of the records in quarantine, of backups and database."""
    readings: Readings = {}
    for read in (_read_sources, _read_gate, _read_quarantine, _read_backups, _read_database):
        with contextlib.suppress(BusError, NoBusError):  # what does not answer is not known
            await read(seen, get_bus, readings)
    return readings


async def _read_sources(seen: FleetObservation, get_bus: Callable[[str], Bus], readings: Readings) -> None:
    if (point := find_point(seen, SOURCES, MARKET_SOURCES)) is None:
        return
    states = await read_source_states(get_bus(point.bus), point.key)
    readings[Metric.SOURCE_FAILING] = {name: _find_value(_FAILING, each) for name, each in states.items()}
    # 1 if it took no more requests when it was asked last, 0 if it did or was never asked
    readings[Metric.SOURCE_LIMITED] = {
        name: float(each.get("outcome") == "limited") if isinstance(each.get("state"), str) else None
        for name, each in states.items()
    }
    rejects = await read_rejects(seen.truth, get_bus, states)
    if rejects is not None:
        readings[Metric.SOURCE_REJECTS] = {SOURCES: float(rejects.find_most_rejects())}


async def _read_gate(seen: FleetObservation, get_bus: Callable[[str], Bus], readings: Readings) -> None:
    if (point := find_point(seen, SOURCES, MARKET_SOURCES)) is not None:
        (gate,) = await read_strings(get_bus(point.bus), [PRELOAD_STATUS], MAX_GATE_BYTES)
        readings[Metric.GATE_CLOSED] = {FLEET: _find_value(_CLOSED, parse_object(gate))}


async def _read_quarantine(seen: FleetObservation, get_bus: Callable[[str], Bus], readings: Readings) -> None:
    if (point := find_point(seen, BARS, MARKET_QUARANTINE)) is None:
        return
    bus, added = get_bus(point.bus), None
    if not await bus.ask(bus.client.exists(point.key)):
        added = 0
    elif isinstance(info := await bus.ask(bus.client.xinfo_stream(point.key)), dict):
        added = parse_count(info.get("entries-added"))  # how many ever were
    readings[Metric.QUARANTINED] = {FLEET: None if added is None else float(added)}


async def _read_backups(seen: FleetObservation, get_bus: Callable[[str], Bus], readings: Readings) -> None:
    if seen.is_up(ARCHIVE) and (report := await read_backup_report(get_bus(SYSTEM))) is not None:
        readings[Metric.BACKUP_LATE] = {ARCHIVE: report.find_late_sec(seen.wall)}
        readings[Metric.BACKUP_DAMAGED] = {ARCHIVE: float(bool(report.damaged))}
        readings[Metric.RESTORE_FAILED] = {ARCHIVE: float(bool(report.verify_why))}


async def _read_database(seen: FleetObservation, get_bus: Callable[[str], Bus], readings: Readings) -> None:
    report = await read_database_report(get_bus(SYSTEM), seen.wall) if seen.is_up(ARCHIVE) else None
    if report is None:
        return
    own = {
        Metric.DATABASE_CONNECTIONS: report.find_connection_percent(),
        Metric.DATABASE_IDLE_TRANSACTIONS: report.idle_transactions,
        Metric.DATABASE_SIZE: None if report.size_bytes is None else report.size_bytes / 1e9,
        Metric.DATABASE_MEMORY: report.memory_percent,
        Metric.DATABASE_REPLICAS: report.replicas,
        Metric.DATABASE_REPLICA_LAG: report.replica_lag_sec,
    }
    readings |= {metric: {DATABASE: value} for metric, value in own.items()}
    readings[Metric.DATABASE_LAG] = {ARCHIVE: report.lag_sec}
    readings[Metric.TABLE_AGE] = {
        name_reading(DATABASE, table): age for table, age in report.table_ages.items()
    }


def find_point(seen: FleetObservation, svc: str, key: str) -> AccessPoint | None:
    """Return where a service of the truth writes a key; None if the service is not up."""
    section = seen.truth.services.get(svc)
    if section is None or not seen.is_up(svc):
        return None
    return point_like(section.access_points.publish_to, MARKET, key)


def _find_value(values: Mapping[object, float], stored: Mapping[str, Any]) -> float | None:
    """Return the value of the word in the field `state`; None for any other word, or thing."""
    word = stored.get("state")
    return values.get(word) if isinstance(word, str) else None
