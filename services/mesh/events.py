"""What can happen in a swarm, as it goes to `mesh:events`. Pure."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Happening = Literal["joined", "left", "restarted", "crash_loop", "conflict", "stranger", "converged"]
HAPPENINGS: tuple[Happening, ...] = get_args(Happening)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `ts` is in epoch seconds; `more` are fields that only this kind has."""

    event: Happening
    svc: str
    boot: str
    ts: float
    rev: int | None = None
    more: dict[str, str] = field(default_factory=dict)

    def fields(self) -> dict[Any, Any]:
        """The entry of the stream."""
        fields = {"event": self.event, "svc": self.svc, "boot": self.boot, "ts": f"{self.ts:.3f}"}
        return fields | ({} if self.rev is None else {"rev": str(self.rev)}) | self.more
