"""Have a process carry out a remedy itself, on request.

`reconnect` has archive or the board open its connections to PostgreSQL again; archive also ends sessions that
idle. `reload_series` has sources load now what is not fresh. `repeat_backup` has archive make the backup that
is due, in place of the pause that it makes after one that failed.
"""

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from marketswarm.keys import ARCHIVE_BACKUP_REQUEST
from marketswarm.operator.remedies import ARCHIVE, REQUEST_KEYS
from marketswarm.operator.service_reports import (
    REQUEST_VALID_SEC,
    BackupReport,
    BackupRequest,
    BackupResult,
    BackupState,
    RequestReport,
    RequestResult,
    ServiceRequest,
    read_backup_report,
    read_request_report,
)
from marketswarm.truth import MEDIC, SYSTEM
from services.medic.facts import FleetFacts, RemedyEvidence, TargetFacts
from services.medic.refusal import Refusal
from services.medic.remedies.leased_write import LeasedWriter
from services.medic.remedies.remedy import OrderResult, RemedyContext, RemedyOrder, TracedRemedy, read_boot

LATE_SEC: Final = 600.0
"""For how long a backup may be due before archive provably does not make it by itself."""
_HELPED: Final = {BackupResult.MADE: True, BackupResult.FAILED: False, BackupResult.NOT_DUE: False}


@dataclass(frozen=True, kw_only=True)
class RequestRemedy(TracedRemedy):
    """Ask the process that beats; verified by its report that it did what it was asked for.

    The identity is the id of the request. It follows from the process that beats and from what that last
    reported: a request that is sent twice is followed once, and no other process follows it.
    """

    def describe(self, identity: str) -> str:
        return f"request {identity}"

    def list_refusals(self, target: TargetFacts, start_grace_sec: float) -> Iterator[Refusal]:
        """Yield also that several processes beat: each one has connections, or series, of its own."""
        yield from super().list_refusals(target, start_grace_sec)
        if target.has_several:
            yield Refusal.SEVERAL_PROCESSES

    async def read_evidence(
        self, services: Collection[str], facts: FleetFacts, context: RemedyContext, _now: float
    ) -> Mapping[str, RemedyEvidence]:
        keys = REQUEST_KEYS[self.name]
        known = {svc: RemedyEvidence() for svc in services if svc not in keys}
        for svc in keys.keys() & set(services):
            report = await read_request_report(context.get_bus(SYSTEM), self.name, svc)
            known[svc] = self.judge_report(facts.targets[svc].boot, report)
        return known

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Write the request, if the process and its report are still those for which it was meant."""
        keys = REQUEST_KEYS[self.name].get(order.svc)
        if keys is None:
            return OrderResult.REFUSED, f"{order.svc} can't be asked for it"
        bus = context.get_bus(SYSTEM)
        boot = await read_boot(order.svc, context)
        report = await read_request_report(bus, self.name, order.svc)
        if boot is None or self.judge_report(boot, report).identity != order.identity:
            return OrderResult.CHANGED, f"another process beats, or {order.svc} reports something else"
        request = ServiceRequest(id=order.identity, boot=boot, by=MEDIC, ts=time.time())
        writer = await LeasedWriter.begin(bus, context.until)
        expiry = ("EX", str(REQUEST_VALID_SEC))
        await writer.write("SET", [keys[1]], request.encode(), *expiry)
        return OrderResult.DONE, f"asked {order.svc}: {self.name}"

    def judge_report(self, boot: str | None, report: RequestReport | None) -> RemedyEvidence:
        """Return the id of the next request to the process `boot`, and how the last one ended, by its report.

        There is no next one while one is under way, or without a process. Pure.
        """
        if report is None:
            return RemedyEvidence(identity=self.make_identity(boot, ""))
        is_open = report.result is None
        is_under_way = is_open and report.boot == boot  # what another process had begun ended with it
        return RemedyEvidence(
            identity="" if is_under_way else self.make_identity(boot, report.request),
            is_under_way=is_under_way,
            results={report.request: None if is_open else report.result is RequestResult.DONE},
        )

    def make_identity(self, boot: str | None, last: str) -> str:
        """Return the id of the request to a process after it followed `last`; empty without a process."""
        if not boot:
            return ""
        return f"{self.name}.{hashlib.sha256(f'{boot} {last}'.encode()).hexdigest()[:12]}"


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
            known |= {} if report is None else {ARCHIVE: judge_backup_report(report, now)}
        return known

    async def apply(self, order: RemedyOrder, context: RemedyContext) -> tuple[OrderResult, str]:
        """Write the request, if the report is still the one for which it was meant."""
        now = time.time()
        bus = context.get_bus(SYSTEM)
        report = await read_backup_report(bus)
        if report is None or judge_backup_report(report, now).identity != order.identity:
            return OrderResult.CHANGED, "archive reports something else now"
        request = BackupRequest(id=order.identity, by=MEDIC, ts=now)
        writer = await LeasedWriter.begin(bus, context.until)
        expiry = ("EX", str(REQUEST_VALID_SEC))
        await writer.write("SET", [ARCHIVE_BACKUP_REQUEST], request.encode(), *expiry)
        return OrderResult.DONE, f"asked {ARCHIVE} for the backup that is due"


def judge_backup_report(report: BackupReport, now: float) -> RemedyEvidence:
    """Return what a report says at `now` (epoch seconds) of a backup to repeat. Pure."""
    is_wanted = report.state is BackupState.FAILED or report.find_late_sec(now) > LATE_SEC
    seen = hashlib.sha256(f"{report.made_at} {report.request}".encode()).hexdigest()
    result = None if report.result is None else _HELPED[report.result]
    return RemedyEvidence(
        identity=f"backup.{seen[:12]}" if is_wanted else "",
        is_under_way=report.state is BackupState.RUNNING,
        results={report.request: result} if report.request else {},
    )
