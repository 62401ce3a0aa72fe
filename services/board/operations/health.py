"""Judge the health of what the board shows, part by part. Pure.

`down` is what makes the board's answers old or incomplete, and it alone makes a 503: the fleet is not read, a
bus is away, the market can't be followed, PostgreSQL is set and does not answer. `degraded` is what somebody
should see to while the board answers as it should: a closed gate, a critical series that is not fresh, a
backup that failed or is late. A part that this fleet does not have is `off`, and troubles nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.operator.service_reports import BackupReport, BackupState
from services.board.fleet.snapshot import BusSnapshot
from services.board.market.states import GateState, StoredSeries
from services.tables.rows import BarRow

LATE_BACKUP_SEC: Final = 3600.0
"""For how long a backup may be due before it is late."""


class PartStatus(StrEnum):
    """How a part is, the best first."""

    OK = "ok"
    OFF = "off"  # this fleet does not have it
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class HealthPart:
    """A part, and why it is not ok, or old. `name` is what exactly it is about, such as a series.

    `age_sec` is the age of what is known, in seconds; None if nothing is.
    """

    status: PartStatus
    age_sec: float | None = None
    why: str | None = None
    name: str | None = None


def find_worst(parts: Iterable[HealthPart]) -> PartStatus:
    """Return `down` or `degraded` if a part is, else `ok`."""
    found = {part.status for part in parts}
    return next((each for each in (PartStatus.DOWN, PartStatus.DEGRADED) if each in found), PartStatus.OK)


def judge_buses(buses: Iterable[BusSnapshot], age_sec: float, *, is_current: bool) -> dict[str, HealthPart]:
    """Return a part for each bus as the fleet was read last, `age_sec` ago."""
    found = {}
    for bus in buses:
        why = None if bus.state == "up" else bus.reason or bus.state
        status = PartStatus.DOWN if bus.state == "away" else PartStatus.DEGRADED if why else PartStatus.OK
        if not is_current:
            status, why = PartStatus.DOWN, "the fleet was not read"
        found[bus.name] = HealthPart(status, round(age_sec, 3), why)
    return found


def judge_gate(gate: GateState | None, now: float) -> HealthPart:
    if gate is None:
        return HealthPart(PartStatus.OFF, why="no gate ran lately")
    at = gate.ended_at or gate.started_at
    is_open = gate.state == "open"
    why = None if is_open else f"{gate.state}: {gate.done} of {gate.total} series"
    return HealthPart(PartStatus.OK if is_open else PartStatus.DEGRADED, _find_age(at, now), why)


def judge_series(series: Iterable[StoredSeries], now: float) -> HealthPart:
    """Return the series that is furthest past its time, with the age of its last answer.

    It is degraded by critical series that are not fresh; others are their sources' matter.
    """
    known = [one for one in series if one.loaded_at > 0]
    if not known:
        return HealthPart(PartStatus.OFF, why="no series was loaded yet")
    oldest = min(known, key=lambda one: one.fresh_until)
    stale = sum(one.critical and one.fresh_until < now for one in known)
    why = f"{stale} critical series not fresh" if stale else None
    status = PartStatus.DEGRADED if stale else PartStatus.OK
    return HealthPart(status, _find_age(oldest.loaded_at, now), why, oldest.id)


def judge_bar(newest: BarRow | None, now: float) -> HealthPart:
    """Return the newest minute; markets close: its age is no fault."""
    if newest is None:
        return HealthPart(PartStatus.OFF, why="no minute came since the board began")
    why = "played from a recording" if newest.replay else None
    return HealthPart(PartStatus.OK, _find_age(newest.start / 1000, now), why, newest.symbol)


def judge_backup(report: BackupReport | None, now: float) -> HealthPart:
    if report is None or report.state is BackupState.OFF:
        return HealthPart(PartStatus.OFF, why="no backups are made")
    why = None
    if report.damaged:
        why = f"{report.damaged} is not what was saved"
    elif report.state is BackupState.FAILED:
        why = report.why or "the last attempt failed"
    elif report.find_late_sec(now) > LATE_BACKUP_SEC:
        why = "the next backup is late"
    elif report.verify_why:
        why = f"the newest backup could not be restored: {report.verify_why}"
    age_sec = None if report.made_at is None else _find_age(report.made_at, now)
    return HealthPart(PartStatus.DEGRADED if why else PartStatus.OK, age_sec, why)


def _find_age(at: float, now: float) -> float:
    return round(max(0.0, now - at), 3)


@dataclass(frozen=True, slots=True)
class HealthAnswer:
    """How all is: the worst of the parts; the parts are null for who may not read the board."""

    status: PartStatus
    uptime_sec: float
    parts: Mapping[str, HealthPart] | None

    @property
    def http_status(self) -> int:
        return 503 if self.status is PartStatus.DOWN else 200


def make_health(parts: Mapping[str, HealthPart], uptime_sec: float) -> HealthAnswer:
    """Return the answer of a board that runs for `uptime_sec`."""
    return HealthAnswer(find_worst(parts.values()), round(uptime_sec, 1), parts)
