"""Report on the bus how the backups are, and take requests to make the one that is due before its time.

Archive pauses after a backup that failed, for up to an hour. A request ends that pause, and does no more: a
backup that is not due is not made, however often somebody asks.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from marketswarm.agent.requests import RequestLimits, RequestTaker
from marketswarm.bus import Bus
from marketswarm.keys import ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST
from marketswarm.operator.backups import (
    BackupReport,
    BackupRequest,
    BackupResult,
    BackupState,
    read_backup_report,
)

LIMITS: Final = RequestLimits(take_every_sec=60.0)
"""Each attempt may read the whole database."""


class BackupDesk(RequestTaker[BackupRequest]):
    """Hold the report of the instance that makes the backups, and the request that it carries out.

    `get_bus` returns system-redis.
    """

    def __init__(self, get_bus: Callable[[], Bus]) -> None:
        super().__init__((ARCHIVE_BACKUP, ARCHIVE_BACKUP_REQUEST), BackupRequest, get_bus, LIMITS)
        self.state = BackupReport(state=BackupState.IDLE, ts=0.0)
        self._is_known = False

    def begin_term(self) -> None:
        """Read again which request was taken last: another instance has made the backups meanwhile."""
        self._is_known = False

    async def take(self) -> BackupRequest | None:
        """Return a request that was not taken yet; it is being carried out from now on."""
        request = await super().take()
        if request is not None:
            self.state = replace(self.state, request=request.id, result=None)
        return request

    async def prepare(self, bus: Bus) -> None:
        """Read at the start of a term which request was taken last; then write, as a desk does.

        A request without a result gets the result of the next backup.
        """
        if not self._is_known:
            known = await read_backup_report(bus)
            if known is not None:
                damaged = self.state.damaged or known.damaged
                self.state = replace(self.state, request=known.request, result=known.result, damaged=damaged)
            self.last, self._is_known = self.state.request, True
            self.unwritten = self.unwritten and self.state.encode()
        await super().prepare(bus)

    async def note_damaged(self, file: str) -> None:
        """Report the name of a dump that is damaged; empty if there is none any more."""
        await self._note(replace(self.state, damaged=file))

    async def note(
        self, state: BackupState, result: BackupResult | None = None, *, why: str = "", **times: Any
    ) -> None:
        """Report a state, with the `times` that it changes; `result` is for a request that has none yet."""
        result = self.state.result or result
        await self._note(replace(self.state, state=state, result=result, why=why[:200], **times))

    async def _note(self, report: BackupReport) -> None:
        if not report.request:
            report = replace(report, result=None)
        if replace(report, ts=self.state.ts) != self.state or self.unwritten is not None:
            self.state = replace(report, ts=time.time())
            await self.report(self.state)
