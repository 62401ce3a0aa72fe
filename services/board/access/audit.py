"""Write down what clients with a token have the board do: the stream `board:audit`, about 10,000 entries.

Each act has two entries with the same id: `begun` before it is done, and its outcome. An act without an
outcome was cut off. No entry holds a secret.

Each entry is in the log of the board, too: Redis' rights can't allow XADD without its MAXLEN and without ids
of the caller's choice, so with the board's password one can empty the stream, forge entries, and end it.
"""

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus, BusError, NoBusError
from marketswarm.keys import BOARD_AUDIT
from marketswarm.operator.tokens import Token
from services.board.access.limits import RefusedError

KEPT: Final = 10_000
MAX_CHARS: Final = 500  # the longest field of an entry
RETRY_SEC: Final = 5.0
log = logs.get("board")


class AuditOutcome(StrEnum):
    """What became of an act."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"  # by the notifier, or because the truth was changed meanwhile
    FAILED = "failed"  # no bus took it, or one did not
    UNANSWERED = "unanswered"  # the notifier did not finish in time


class Action(StrEnum):
    """What a client can have the board do."""

    SILENCE = "silence"
    UNSILENCE = "unsilence"
    ACK = "ack"
    TEST = "test"
    RESEND = "resend"
    APPROVE = "approve"
    SEED = "seed"
    ANNOUNCE = "announce"
    UPDATE_ANNOUNCEMENT = "update_announcement"


@dataclass(frozen=True, slots=True)
class Act:
    """What the client at an address does to `target` by its token; `detail` says more of it.

    `token` is None for a client that proved itself in another way, such as by a ping key.
    """

    action: Action
    target: str
    token: Token | None
    client: str
    detail: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(6))


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The audit log on the bus that `bus` returns."""

    bus: Callable[[], Bus]

    async def begin(self, act: Act) -> None:
        """Add the entry before an act. Raises RefusedError if it can't be added: then nothing may be done."""
        try:
            await record_act(self.bus(), act, AuditOutcome.BEGUN, time.time())
        except BusError as error:
            _log_loss(error, act, AuditOutcome.BEGUN)
            reason = f"bus {error.bus}, which keeps the audit log, does not take it: {error.reason}"
            raise RefusedError(503, reason, RETRY_SEC) from None

    async def end(self, act: Act, outcome: AuditOutcome, detail: str = "") -> None:
        """Add the outcome of an act. If it can't be added it is only logged, because the act is done."""
        try:
            await record_act(self.bus(), act, outcome, time.time(), detail)
        except BusError as error:
            _log_loss(error, act, outcome)

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


def _log_loss(error: BusError, act: Act, outcome: AuditOutcome) -> None:
    log.warning("board.not_audited", bus=error.bus, reason=error.reason, act=act.id, outcome=outcome)


async def record_act(bus: Bus, act: Act, outcome: AuditOutcome, now: float, detail: str = "") -> None:
    """Add an entry for an act at `now` (epoch seconds), and log it. Raises BusError."""
    fields = {
        "id": act.id,
        "ts": f"{now:.3f}",
        "outcome": outcome,
        "action": act.action,
        "target": act.target,
        "token": act.token.id if act.token else "",
        "name": act.token.name if act.token else "",
        "client": act.client,
        "detail": detail or act.detail,
    }
    entry: dict[Any, Any] = {name: str(value)[:MAX_CHARS] for name, value in fields.items()}
    log.info(
        "board.audit",
        act=entry["id"],
        outcome=entry["outcome"],
        action=entry["action"],
        target=entry["target"],
        token=entry["token"],
        name=entry["name"],
        client=entry["client"],
        detail=entry["detail"],
    )
    await bus.ask(bus.client.xadd(BOARD_AUDIT, entry, maxlen=KEPT, approximate=True))
