"""Write down what clients with a token have a program do, before it is done and after it."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.operator.audit import Act, AuditOutcome, record_act
from marketswarm.web.limits import RETRY_SEC, RefusedError

log = logs.get()


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The audit log on the bus that `bus` returns.

    `program` is the name of the program that writes it; its log events begin with that name.
    """

    bus: Callable[[], Bus]
    program: str

    async def begin(self, act: Act) -> None:
        """Add the entry before an act. Raises RefusedError if it can't be added: then nothing may be done."""
        try:
            await record_act(self.bus(), act, AuditOutcome.BEGUN, time.time())
        except BusError as error:
            self._log_loss(error, act, AuditOutcome.BEGUN)
            reason = f"bus {error.bus}, which keeps the audit log, does not take it: {error.reason}"
            raise RefusedError(503, reason, RETRY_SEC) from None

    async def end(self, act: Act, outcome: AuditOutcome, detail: str = "") -> None:
        """Add the outcome of an act. If it can't be added it is only logged, because the act is done."""
        try:
            await record_act(self.bus(), act, outcome, time.time(), detail)
        except BusError as error:
            self._log_loss(error, act, outcome)

    @contextlib.asynccontextmanager
    async def around(self, act: Act) -> AsyncIterator[None]:
        """Begin an act; if no bus takes what the block writes, end it as failed and raise RefusedError."""
        await self.begin(act)
        try:
            yield
        except NoBusError as error:
            said = reason = str(error)
        except BusError as error:
            said, reason = error.reason, f"bus {error.bus} does not take it: {error.reason}"
        else:
            return
        await self.end(act, AuditOutcome.FAILED, said)
        raise RefusedError(503, reason, RETRY_SEC)

    def _log_loss(self, error: BusError, act: Act, outcome: AuditOutcome) -> None:
        event = f"{self.program}.not_audited"
        log.warning(event, bus=error.bus, reason=error.reason, act=act.id, outcome=outcome)
