"""Report on the bus how the backups are, and take requests to make the one that is due before its time.

Archive pauses after a backup that failed, for up to an hour. A request ends that pause, and does no more: a
backup that is not due is not made, however often somebody asks.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import read_strings, report_unusable
from marketswarm.keys import ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST
from marketswarm.operator.backups import BackupReport, BackupRequest, BackupResult, BackupState

LOOK_EVERY_SEC: Final = 2.0
TAKE_EVERY_SEC: Final = 60.0
"""The least time between two requests that are taken, since each attempt may read the whole database."""
_MAX_BYTES: Final = 4096


class BackupDesk:
    """Hold the report of the instance that makes the backups, and the request that it carries out.

    `get_bus` returns system-redis. A bus that is away is reported by those who read there; the report is
    written as soon as it is back.
    """

    def __init__(self, get_bus: Callable[[], Bus]) -> None:
        self._get_bus = get_bus
        self.report = BackupReport(state=BackupState.IDLE, ts=0.0)
        self._is_known = False
        self._is_written = True
        self._looked_at = self._taken_at = float("-inf")

    def begin_term(self) -> None:
        """Read again which request was taken last: another instance has made the backups meanwhile."""
        self._is_known, self._looked_at = False, float("-inf")

    async def take_request(self) -> bool:
        """Return True if there is a request that was not taken yet; it is being carried out from now on."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_SEC:
            return False
        self._looked_at = now
        try:
            bus = self._get_bus()
            if self._is_known and not self._is_written:
                await self._write(bus)
            keys = [ARCHIVE_BACKUP_REQUEST] if self._is_known else [ARCHIVE_BACKUP_REQUEST, ARCHIVE_BACKUP]
            asked, *stored = await read_strings(bus, keys, _MAX_BYTES)
        except (BusError, NoBusError):
            return False
        if stored:
            self._take_over(bus.name, stored[0])
        if asked is None:
            return False
        request = BackupRequest.parse(asked)
        if request is None:
            report_unusable(bus.name, ARCHIVE_BACKUP_REQUEST)
            return False
        if request.id == self.report.request or now - self._taken_at < TAKE_EVERY_SEC:
            return False
        self._taken_at = now
        self.report = replace(self.report, request=request.id, result=None)
        return True

    def _take_over(self, bus: str, stored: bytes | None) -> None:
        """Note which request was taken last. One that is not finished is so with the next backup."""
        known = None if stored is None else BackupReport.parse(stored)
        if stored is not None and known is None:
            report_unusable(bus, ARCHIVE_BACKUP)
        if known is not None:
            self.report = replace(
                self.report,
                request=known.request,
                result=known.result,
                damaged=self.report.damaged or known.damaged,
            )
        self._is_known = True

    async def note_damaged(self, file: str) -> None:
        """Report the name of a dump that is damaged; empty if there is none any more."""
        await self._note(replace(self.report, damaged=file))

    async def note(
        self, state: BackupState, result: BackupResult | None = None, *, why: str = "", **times: Any
    ) -> None:
        """Report a state, with the `times` that it changes; `result` is that of a request without one yet."""
        result = self.report.result or result
        await self._note(replace(self.report, state=state, result=result, why=why[:200], **times))

    async def _note(self, report: BackupReport) -> None:
        if not report.request:
            report = replace(report, result=None)
        if replace(report, ts=self.report.ts) == self.report and self._is_written:
            return
        self.report, self._is_written = replace(report, ts=time.time()), False
        if not self._is_known:
            return  # the report that is there has the last request
        try:
            await self._write(self._get_bus())
        except (BusError, NoBusError):
            return

    async def _write(self, bus: Bus) -> None:
        await bus.ask(bus.client.set(ARCHIVE_BACKUP, self.report.encode()))
        self._is_written = True
