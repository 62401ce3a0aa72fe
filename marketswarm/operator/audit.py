"""Write down who had the fleet changed: the stream `board:audit` on system-redis, about 10,000 entries.

Each act has two entries with the same id: `begun` before it is done, and its outcome. An act without an
outcome was cut off. No entry holds a secret. The board writes what clients with a token have it do, the medic
when it puts an earlier truth back in force.

Each entry is in the log of who wrote it, too: Redis' rights can't allow XADD without its MAXLEN and without
ids of the caller's choice, so with such a password one can empty the stream, forge entries, and end it.
"""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.bus import Bus
from marketswarm.keys import BOARD_AUDIT
from marketswarm.operator.tokens import Token

KEPT: Final = 10_000
MAX_CHARS: Final = 500  # the longest field of an entry
log = logs.get("board")


class AuditOutcome(StrEnum):
    """The outcome of an act."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"  # by the notifier, or because the truth was changed meanwhile
    FAILED = "failed"  # no bus took it, or one did not
    UNANSWERED = "unanswered"  # the notifier did not finish in time


class Action(StrEnum):
    """What was done."""

    SILENCE = "silence"
    UNSILENCE = "unsilence"
    ACK = "ack"
    TEST = "test"
    RESEND = "resend"
    APPROVE = "approve"
    SEED = "seed"
    ANNOUNCE = "announce"
    UPDATE_ANNOUNCEMENT = "update_announcement"
    CREATE_KEY = "create_key"
    REVOKE_KEY = "revoke_key"
    BACKTEST = "backtest"
    DELETE_BACKTEST = "delete_backtest"
    CLEAR_CACHE = "clear_cache"
    REFRESH_SOURCES = "refresh_sources"


@dataclass(frozen=True, slots=True)
class Act:
    """What the client at an address does to `target` by its token; `detail` says more of it.

    `token` is None for a client that proved itself in another way, such as by a ping key, and for the medic.
    """

    action: Action
    target: str
    token: Token | None
    client: str
    detail: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(6))


async def record_act(bus: Bus, act: Act, outcome: AuditOutcome, now: float, detail: str = "") -> None:
    """Add an entry for an act at `now` (epoch seconds), and log it. Raises BusError."""
    fields: dict[Any, Any] = {
        "outcome": outcome,
        "action": act.action,
        "target": act.target,
        "token": act.token.id if act.token else "",
        "name": act.token.name if act.token else "",
        "client": act.client,
        "detail": detail or act.detail,
    }
    fields = {name: str(value)[:MAX_CHARS] for name, value in fields.items()}
    log.info("board.audit", act=act.id, **fields)
    entry = {"id": act.id, "ts": f"{now:.3f}", **fields}
    await bus.ask(bus.client.xadd(BOARD_AUDIT, entry, maxlen=KEPT, approximate=True))
