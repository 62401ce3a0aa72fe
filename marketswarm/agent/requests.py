"""Take what a process is asked for on the bus, each request once, and report the outcome.

A request stands under one key, the report under another, each in place of the one before; their forms are in
`marketswarm/operator/`. Anyone with access to the bus may have written a request, so it is parsed, bounded in
time, and followed only now and then.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from marketswarm.agent.member import Agent
from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.bus.stored_values import read_parsed, report_unusable
from marketswarm.operator.fields import JsonRecord
from marketswarm.operator.remedies import REQUEST_KEYS
from marketswarm.operator.service_reports import (
    REPORT_VALID_SEC,
    REQUEST_VALID_SEC,
    RequestReport,
    RequestResult,
    ServiceRequest,
)
from marketswarm.truth import SYSTEM

LOOK_EVERY_SEC: Final = 1.0
_MAX_BYTES: Final = 4096


class StoredRequest(Protocol):
    """A request, made at `ts` (epoch seconds); `parse` reads it."""

    @property
    def id(self) -> str: ...
    @property
    def ts(self) -> float: ...
    @classmethod
    def parse(cls, raw: bytes) -> Self | None: ...


Q = TypeVar("Q", bound=StoredRequest)


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Hold how often requests are taken, and for how long requests and reports count.

    Attributes:
        take_every_sec: the least time between two requests that are taken.
        known_sec: for how long a request that is sent again is known by its id.
        valid_sec: how far the `ts` of a request may be from our clock.
        report_valid_sec: for how long a report stays on the bus; None: until the next one.
    """

    take_every_sec: float
    known_sec: float = inf
    valid_sec: float = inf
    report_valid_sec: int | None = None


# A request of the medic interrupts what others ask. Its id follows from the report, so a new request has the
# id of the last one again if the report has expired, or was lost; after `known_sec`, the `ts` of the last one
# is too old.
REMEDY_LIMITS: Final = RequestLimits(10.0, 2 * REQUEST_VALID_SEC, REQUEST_VALID_SEC, REPORT_VALID_SEC)


class RequestTaker(Generic[Q]):
    """Take the requests under one key, and keep the report under another.

    `keys` are those of the report and of a request. `get_bus` returns their bus; one that is away is reported
    by those who read there, and the report is written as soon as it is back.

    Attributes:
        last: the id of the request that was taken last.
        unwritten: the report that the bus has yet to take.
    """

    def __init__(
        self, keys: tuple[str, str], kind: type[Q], get_bus: Callable[[], Bus], limits: RequestLimits
    ) -> None:
        self._report_key, self._request_key = keys
        self._kind, self._get_bus, self._limits = kind, get_bus, limits
        self.last = ""
        self.unwritten: bytes | None = None
        self._taken_at = -inf

    async def take(self) -> Q | None:
        """Return the request on the bus, which counts as taken now; None if it was taken, or comes too soon.

        A report that the bus has yet to take is written first.
        """
        try:
            bus = self._get_bus()
            await self.prepare(bus)
            request = await read_parsed(bus, self._request_key, self._kind.parse, _MAX_BYTES)
        except (BusError, NoBusError):
            return None
        if request is None or not self.is_meant(request):
            return None
        now, limits = time.monotonic(), self._limits
        if now - self._taken_at < limits.take_every_sec:
            return None
        if request.id == self.last and now - self._taken_at <= limits.known_sec:
            return None
        if abs(time.time() - request.ts) > limits.valid_sec:  # one that does not expire, or is of the past
            report_unusable(bus.name, self._request_key, "ts")
            return None
        self.last, self._taken_at = request.id, now
        return request

    def is_meant(self, _request: Q) -> bool:
        """Return True for a request that this process may take."""
        return True

    async def prepare(self, bus: Bus) -> None:
        """Write the report that the bus has yet to take. Raises BusError."""
        if self.unwritten is not None:
            expiry = self._limits.report_valid_sec
            await bus.ask(bus.client.set(self._report_key, self.unwritten, ex=expiry))
            self.unwritten = None

    async def report(self, report: JsonRecord) -> None:
        """Write a report in place of the one before; while the bus is away, `take` does it."""
        self.unwritten = report.encode()
        with contextlib.suppress(BusError, NoBusError):
            await self.prepare(self._get_bus())


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """The outcome of an attempt: the counts of a `RequestReport`, and why it failed, if it did."""

    ended: int = 0
    loaded: int = 0
    why: str = ""


class RequestDesk(RequestTaker[ServiceRequest]):
    """Follow the medic's requests on system-redis for one remedy to this process of a service, each once.

    What was meant for an earlier process is not followed. `carry_out` raises nothing that an attempt may fail
    of.
    """

    def __init__(
        self, remedy: str, me: Agent[Any], carry_out: Callable[[], Awaitable[RequestOutcome]]
    ) -> None:
        keys = REQUEST_KEYS[remedy][me.name]
        super().__init__(keys, ServiceRequest, lambda: me.bus(SYSTEM), REMEDY_LIMITS)
        self._remedy, self._me, self._carry_out = remedy, me, carry_out

    async def run(self) -> None:
        """Look for a request every LOOK_EVERY_SEC, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_SEC)

    async def look(self) -> None:
        """Follow the request that is there, if it is for this process and was not followed yet."""
        request = await self.take()
        if request is None:
            return
        self._me.log.info("remedy.requested", remedy=self._remedy, request=request.id, by=request.by)
        begun = RequestReport(request=request.id, boot=self._me.boot, ts=time.time())
        await self.report(begun)
        done = await self._carry_out()
        result, why = RequestResult.FAILED if done.why else RequestResult.DONE, done.why[:200]
        found: dict[str, Any] = {"result": result, "ended": done.ended, "loaded": done.loaded, "why": why}
        await self.report(replace(begun, ts=time.time(), **found))
        write = self._me.log.warning if why else self._me.log.info
        write("remedy.followed", remedy=self._remedy, request=request.id, **found)

    def is_meant(self, request: ServiceRequest) -> bool:
        return request.boot == self._me.boot
