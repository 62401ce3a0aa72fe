"""Have archive make the backup that is due, in place of the pause that it makes after one that failed."""

import hashlib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.keys import ARCHIVE_BACKUP_REQUEST
from marketswarm.operator.backups import (
    REQUEST_VALID_SEC,
    BackupReport,
    BackupRequest,
    BackupResult,
    BackupState,
    read_backup_report,
)
from marketswarm.operator.remedies import ARCHIVE
from marketswarm.truth import MEDIC, SYSTEM
from services.medic.facts import FleetFacts, RemedyEvidence
from services.medic.remedies.leased_write import LeasedWriter
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, TracedRemedy

LATE_SEC: Final = 600.0
"""For how long a backup may be due before archive provably does not make it by itself."""
_HELPED: Final = {BackupResult.MADE: True, BackupResult.FAILED: False, BackupResult.NOT_DUE: False}


@dataclass(frozen=True, kw_only=True)
class RepeatBackup(TracedRemedy):
    """Ask archive for the backup that failed or is overdue; verified by the one that it made for the request.

    The identity is the id of the request, which follows from the report that was seen: a request that is sent
    twice is followed once.
    """

    def describe(self, identity: str) -> str:
        return f"request {identity}"

    async def read_evidence(
        self, services: Collection[str], _facts: FleetFacts, context: RemedyContext, now: float
    ) -> Mapping[str, RemedyEvidence]:
        known = {svc: RemedyEvidence() for svc in services if svc != ARCHIVE}
        if ARCHIVE in services:
            report = await read_backup_report(context.get_bus(SYSTEM))
            known |= {} if report is None else {ARCHIVE: judge_report(report, now)}
        return known

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Write the request, if the report is still the one for which it was meant."""
        now = time.time()
        bus = context.get_bus(SYSTEM)
        report = await read_backup_report(bus)
        if report is None or judge_report(report, now).identity != order.identity:
            return OrderResult.CHANGED, "archive reports something else now"
        request = BackupRequest(id=order.identity, by=MEDIC, ts=now)
        writer = await LeasedWriter.begin(bus, context.until)
        expiry = ("EX", str(REQUEST_VALID_SEC))
        await writer.write("SET", [ARCHIVE_BACKUP_REQUEST], request.encode(), *expiry)
        return OrderResult.DONE, f"asked {ARCHIVE} for the backup that is due"


def judge_report(report: BackupReport, now: float) -> RemedyEvidence:
    """Return what a report says at `now` (epoch seconds) of a backup to repeat. Pure."""
    is_wanted = report.state is BackupState.FAILED or report.find_late_sec(now) > LATE_SEC
    seen = hashlib.sha256(f"{report.made_at} {report.request}".encode()).hexdigest()
    result = None if report.result is None else _HELPED[report.result]
    return RemedyEvidence(
        identity=f"backup.{seen[:12]}" if is_wanted else "",
        is_under_way=report.state is BackupState.RUNNING,
        results={report.request: result} if report.request else {},
    )
