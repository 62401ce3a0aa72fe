"""Follow what people ask for: to load the series of a source, or all, now; and report how far that is."""

import asyncio
import time
from dataclasses import replace
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.agent.requests import LOOK_EVERY_SEC, RequestLimits, RequestTaker
from marketswarm.operator.service_reports import REPORT_VALID_SEC, REQUEST_VALID_SEC
from marketswarm.operator.source_refresh import KEYS, RefreshReport, RefreshRequest, RefreshState
from marketswarm.truth import SYSTEM
from services.sources.cascade.loader import LoadOutcome, LoadResult
from services.sources.refresh import Refresh

LIMITS: Final = RequestLimits(5.0, 2 * REQUEST_VALID_SEC, REQUEST_VALID_SEC, REPORT_VALID_SEC)
REPORT_EVERY_SEC: Final = 1.0
REFRESH_SEC: Final = 1800.0
"""How long a refresh may take. What was not loaded by then is loaded by its schedule."""


class RefreshDesk(RequestTaker[RefreshRequest]):
    """Takes requests while this instance refreshes by schedule, one after the other, each once."""

    def __init__(self, me: Agent[Any], refresh: Refresh) -> None:
        super().__init__(KEYS, RefreshRequest, lambda: me.bus(SYSTEM), LIMITS)
        self._me, self._refresh = me, refresh

    def is_meant(self, _request: RefreshRequest) -> bool:
        return self._refresh.is_leading

    async def run(self) -> None:
        """Look for a request every LOOK_EVERY_SEC, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_SEC)

    async def look(self) -> None:
        """Carry out the request that is there, if this instance leads and it was not taken yet."""
        request = await self.take()
        if request is None:
            return
        self._me.log.info("refresh.requested", request=request.id, source=request.source, by=request.by)
        begun, written_at = time.monotonic(), float("-inf")
        known = RefreshReport(
            request=request.id, state=RefreshState.RUNNING, ts=time.time(), source=request.source
        )

        async def note(count: int, result: LoadResult | None) -> None:
            nonlocal known, written_at
            known = _add_result(replace(known, series=count, ts=time.time()), result)
            if time.monotonic() >= written_at + REPORT_EVERY_SEC:
                written_at = time.monotonic()
                await self.report(known)

        why = ""
        try:
            async with asyncio.timeout(REFRESH_SEC):
                await self._refresh.load_asked(request.source, note)
        except TimeoutError:
            why = f"not all of it within {REFRESH_SEC:.0f} s"
        state = RefreshState.FAILED if why else RefreshState.DONE
        took_sec = round(time.monotonic() - begun, 3)
        known = replace(known, state=state, ts=time.time(), took_sec=took_sec, why=why)
        await self.report(known)
        found = {"series": known.series, "loaded": known.loaded, "records": known.records}
        self._me.log.info(
            "refresh.followed", request=request.id, state=state, took_sec=took_sec, why=why, **found
        )


def _add_result(report: RefreshReport, result: LoadResult | None) -> RefreshReport:
    if result is None:
        return report
    return replace(
        report,
        tried=report.tried + 1,
        loaded=report.loaded + (result.outcome is LoadOutcome.LOADED),
        records=report.records + result.new,
    )
