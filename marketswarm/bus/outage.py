"""Work through the outages of a bus: log each of them once, rest, and try again.

    outage = Outage(me.log, "history.waiting", "history.resumed")
    async for attempt in retrying(outage):
        with attempt:
            await record_next_page()

A BusError inside the `with` block is caught and recorded; the next turn of the loop begins after a pause. Any
other error, and a cancellation, leave the loop. What is done at its own intervals has no need of `retrying`:
`with outage:` alone catches and records.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, TypeVar

from marketswarm.bus.errors import BusError
from marketswarm.net.retry import Backoff

PAUSES: Final = Backoff(first_sec=0.1, longest_sec=0.5)
"""The pauses of all loops that wait for a bus."""

T = TypeVar("T")


class Outage:
    """What a bus keeps from being done, from its first failure on until it is done.

    As a context manager, it records a BusError of its block, and ends with a block that raises nothing.

    Each reason of a bus is logged once, as a warning with `bus`, `reason` and `detail`: a server that stops
    may give two in turn. The end is logged once, with `bus`, `after` (the last reason) and `away_sec`.

    Args:
        degrade: called with `problem` after each failure, and with None at the end.
        fields: further fields of both events; one that is callable is called for each.
    """

    def __init__(
        self,
        log: Any,
        failed: str,
        ended: str,
        *,
        degrade: Callable[[str | None], None] = lambda _problem: None,
        **fields: Any,
    ) -> None:
        self._log, self._failed, self._ended = log, failed, ended
        self._degrade, self._fields = degrade, fields
        self._logged = set[tuple[str, str]]()
        self._began_at = 0.0
        self.failures = 0
        """How often it failed in a row."""
        self.retries = 0
        """How many calls of `retry` fail now."""
        self.error: BusError | None = None
        """The last failure, without its traceback; None while there is no outage."""

    @property
    def reason(self) -> str | None:
        """The reason of the last failure; None while there is no outage."""
        return None if self.error is None else self.error.reason

    @property
    def problem(self) -> str | None:
        """The bus and the reason of the last failure, `market-redis refused`; None while there is none."""
        return None if self.error is None else f"{self.error.bus} {self.error.reason}"

    def record(self, error: BusError) -> None:
        """Begin the outage, or continue with it."""
        if self.error is None:
            self._began_at = time.monotonic()
        self.failures += 1
        self.error = BusError(error.bus, error.reason, error.detail)
        if (error.bus, error.reason) not in self._logged:
            self._logged.add((error.bus, error.reason))
            self._log.warning(
                self._failed, bus=error.bus, reason=error.reason, detail=error.detail, **self._make_fields()
            )
        self._degrade(self.problem)

    def end(self) -> None:
        """End the outage, if there is one. A block that may never end calls this at each success."""
        if self.error is not None:
            away_sec = round(time.monotonic() - self._began_at, 1)
            self._log.info(
                self._ended,
                bus=self.error.bus,
                after=self.error.reason,
                away_sec=away_sec,
                **self._make_fields(),
            )
            self.error, self.failures = None, 0
            self._logged.clear()
            self._degrade(None)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _at: TracebackType | None
    ) -> bool:
        if error is None:
            self.end()
        elif isinstance(error, BusError):
            self.record(error)
            return True
        return False

    def _make_fields(self) -> dict[str, Any]:
        return {name: value() if callable(value) else value for name, value in self._fields.items()}


async def retrying(
    outage: Outage, rest: Callable[[float], Awaitable[Any]] = asyncio.sleep
) -> AsyncIterator[Outage]:
    """Yield the outage for each turn of a loop without end; one after a failure begins after a pause.

    `rest` waits for some seconds: in a work loop it is `me.rest`, which counts as progress.
    """
    while True:
        if outage.failures:
            await rest(PAUSES.pause_sec(outage.failures))
        yield outage


async def retry(outage: Outage, work: Callable[[], Awaitable[T]], patience_sec: float = math.inf) -> T:
    """Return what `work` returns; call it again while the bus fails.

    Calls that share an outage may run at once. It has ended when one of those that failed is done, and not
    when another one never failed: each of its successes would log the end of an outage that continues.

    Raise the BusError of an attempt that fails `patience_sec` after the first failure, or later.
    """
    give_up_at, has_failed = math.inf, False
    try:
        while True:
            try:
                found = await work()
            except BusError as error:
                outage.record(error)
                now = time.monotonic()
                give_up_at = min(give_up_at, now + patience_sec)
                outage.retries += not has_failed
                has_failed = True
                if now >= give_up_at:
                    raise
            else:
                if has_failed or not outage.retries:
                    outage.end()
                return found
            await asyncio.sleep(PAUSES.pause_sec(outage.failures))
    finally:
        outage.retries -= has_failed
