"""Take requests of the medic to this process on system-redis, and report their outcome."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import read_strings, report_unusable
from marketswarm.operator.remedies import REQUEST_KEYS
from marketswarm.operator.service_requests import (
    REPORT_VALID_SEC,
    REQUEST_VALID_SEC,
    RequestReport,
    RequestResult,
    ServiceRequest,
)

if TYPE_CHECKING:
    from marketswarm.log import Logger

LOOK_EVERY_SEC: Final = 1.0
TAKE_EVERY_SEC: Final = 10.0
"""The least time between two requests that are followed, since each one interrupts what others ask."""
KNOWN_SEC: Final = 2 * REQUEST_VALID_SEC
"""For how long a request that is sent again is known. Its id follows from the report, so a new request has it
again if the report has expired, or was lost. After that time, the `ts` of the first one is too old."""
_MAX_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """The outcome of an attempt: the counts of a `RequestReport`, and why it failed, if it did."""

    ended: int = 0
    loaded: int = 0
    why: str = ""


class RequestDesk:
    """Follow the requests for one remedy to one process of a service, each once.

    A request is for the process `boot`: what was meant for an earlier one is not followed. `get_bus` returns
    system-redis; a bus that is away is reported by those who read there. `carry_out` raises nothing that an
    attempt may fail of.
    """

    def __init__(
        self,
        remedy: str,
        svc: str,
        boot: str,
        get_bus: Callable[[], Bus],
        carry_out: Callable[[], Awaitable[RequestOutcome]],
        *,
        log: "Logger",
    ) -> None:
        self._report_key, self._request_key = REQUEST_KEYS[remedy][svc]
        self._remedy, self._log = remedy, log
        self._boot, self._get_bus, self._carry_out = boot, get_bus, carry_out
        self._report: RequestReport | None = None
        self._is_written = True
        self._taken_at = float("-inf")

    async def run(self) -> None:
        """Look for a request every LOOK_EVERY_SEC, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_SEC)

    async def look(self) -> None:
        """Follow the request that is there, if it is for this process and was not followed yet."""
        request = await self._take_request()
        if request is None:
            return
        self._log.info("remedy.requested", remedy=self._remedy, request=request.id, by=request.by)
        begun = RequestReport(request=request.id, boot=self._boot, ts=time.time())
        await self._note(begun)
        done = await self._carry_out()
        result, why = RequestResult.FAILED if done.why else RequestResult.DONE, done.why[:200]
        report = replace(begun, ts=time.time(), result=result, ended=done.ended, loaded=done.loaded, why=why)
        await self._note(report)
        write = self._log.warning if why else self._log.info
        write(
            "remedy.followed",
            remedy=self._remedy,
            request=request.id,
            result=result,
            ended=done.ended,
            loaded=done.loaded,
            why=why,
        )

    async def _take_request(self) -> ServiceRequest | None:
        """Return the request on the bus; None if another process's, followed, or too soon."""
        try:
            bus = self._get_bus()
            if not self._is_written:
                await self._write(bus)
            (raw,) = await read_strings(bus, [self._request_key], _MAX_BYTES, report=True)
        except (BusError, NoBusError):
            return None
        request = None if raw is None else ServiceRequest.parse(raw)
        if request is None:
            if raw is not None:
                report_unusable(bus.name, self._request_key)
            return None
        since_sec = time.monotonic() - self._taken_at
        is_last = self._report is not None and self._report.request == request.id
        if request.boot != self._boot or since_sec < (KNOWN_SEC if is_last else TAKE_EVERY_SEC):
            return None
        if abs(time.time() - request.ts) > REQUEST_VALID_SEC:  # one that does not expire, or is of the past
            report_unusable(bus.name, self._request_key, "ts")
            return None
        self._taken_at = time.monotonic()
        return request

    async def _note(self, report: RequestReport) -> None:
        self._report, self._is_written = report, False
        try:
            await self._write(self._get_bus())
        except (BusError, NoBusError):
            return  # it is written as soon as the bus is back

    async def _write(self, bus: Bus) -> None:
        if self._report is not None:
            await bus.ask(bus.client.set(self._report_key, self._report.encode(), ex=REPORT_VALID_SEC))
        self._is_written = True
