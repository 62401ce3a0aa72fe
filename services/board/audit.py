"""Write down what clients with a token have the board do: the stream `board:audit`, about 10,000 entries.

Each act has two entries with the same id: `begun` before it is done, and its outcome. An act without an
outcome was cut off. No entry holds a secret.
"""

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from marketswarm.bus import Bus
from marketswarm.keys import BOARD_AUDIT
from marketswarm.operator.token import Token

KEPT: Final = 10_000
MAX_CHARS: Final = 500
"""The longest field of an entry."""


class AuditOutcome(StrEnum):
    """What became of an act."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"  # by the notifier
    FAILED = "failed"  # no bus took it
    UNANSWERED = "unanswered"  # the notifier did not finish in time


class Action(StrEnum):
    """What a client can have the board do."""

    SILENCE = "silence"
    UNSILENCE = "unsilence"
    ACK = "ack"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Act:
    """What the client at an address does to `target` by its token; `detail` says more of it."""

    action: Action
    target: str
    token: Token
    client: str
    detail: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(6))


async def record_act(bus: Bus, act: Act, outcome: AuditOutcome, now: float, detail: str = "") -> None:
    """Add an entry for an act at `now` (epoch seconds). Raises BusError."""
    fields = {
        "id": act.id,
        "ts": f"{now:.3f}",
        "outcome": outcome,
        "action": act.action,
        "target": act.target,
        "token": act.token.id,
        "name": act.token.name,
        "client": act.client,
        "detail": detail or act.detail,
    }
    entry: dict[Any, Any] = {name: str(value)[:MAX_CHARS] for name, value in fields.items()}
    await bus.ask(bus.client.xadd(BOARD_AUDIT, entry, maxlen=KEPT, approximate=True))
