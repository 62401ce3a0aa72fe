"""Which healer speaks, from `healer:lease`. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Leader:
    """The one that leads: its boot, its epoch, and since how many seconds its lease is over (0: it holds)."""

    boot: str
    epoch: int
    lapsed_sec: float

    def __str__(self) -> str:
        if self.lapsed_sec:
            ago = f"{self.lapsed_sec:.0f} s ago"
            return f"no healer leads: the lease of {self.boot} ran out {ago}, and nothing is told"
        return f"healer {self.boot} leads, epoch {self.epoch}"


def leader(lease: Mapping[bytes, bytes], now: float) -> Leader | None:
    """Who holds a lease, at `now` by the server's clock in epoch seconds; None when free, or unreadable.

    This is for a person who looks: healers themselves compare no clocks.
    """
    try:
        boot, epoch, until = (lease[name].decode() for name in (b"boot", b"epoch", b"until"))
        return Leader(boot, int(epoch), max(0.0, now - float(until))) if boot else None
    except (KeyError, ValueError):
        return None
