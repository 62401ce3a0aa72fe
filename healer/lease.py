"""The lease of one bus as one healer sees it: what to ask for next, and what an answer means.

Pure: `now` is monotonic time in seconds, always passed in. No clocks of two machines are compared: a lease
has run out when someone saw it unchanged for its whole life, looking again and again. Who holds it need not
watch the time at all: the bus turns away whoever speaks with an epoch that is no longer the current one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.bus.stored_values import decimal
from marketswarm.monitor import Fence

LOOKS: Final = 8
"""How often who stands by looks at a lease in its life."""

RENEWALS: Final = 3
"""How often a lease is renewed in its life."""

LONGEST_LEASE_SEC: Final = 60.0
"""What is believed of another one's lease, unless one's own lives longer: nobody waits for ever for one."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a lease said: who leads ('': nobody), by which epoch, how often renewed, deaf to which buses."""

    boot: str
    epoch: int
    renewed: int
    deaf: str
    lease_sec: float


class Lease:
    """Mutable; changed by one healer's `LeaderElection` alone.

    Args:
        boot: whose view this is.
        lease_sec: the life of a lease that this one holds.
    """

    def __init__(self, boot: str, lease_sec: float) -> None:
        self.boot = boot
        self.lease_sec = lease_sec
        self.seen: Held | None = None
        self.epoch = 0  # that it is held with; 0 while it is not
        self.answered_at = float("-inf")
        self.alive_at = float("-inf")  # when another leader was last seen to renew it
        self.alive_deaf = ""  # which buses that one did not hear then
        self._same_since = float("-inf")

    @property
    def fence(self) -> Fence | None:
        """What to carry when speaking; None while another one leads, or nobody."""
        return Fence(self.boot, self.epoch) if self.epoch else None

    @property
    def every_sec(self) -> float:
        """Seconds between two turns."""
        return self.lease_sec / (RENEWALS if self.epoch else LOOKS)

    @property
    def life_sec(self) -> float:
        """For how long the lease must be seen unchanged before it may be taken from its holder."""
        return max(self.lease_sec, self.seen.lease_sec) if self.seen else self.lease_sec

    def next_in(self, now: float) -> float:
        """Seconds until the next turn: who stands by comes at the very end of a lease, too."""
        ends_in = self._same_since + self.life_sec - now
        return min(self.every_sec, ends_in) if not self.epoch and ends_in > 0 else self.every_sec

    def is_away(self, now: float) -> bool:
        """Whether the bus has not answered for the life of a lease."""
        return now - self.answered_at > self.lease_sec

    def has_other(self, now: float) -> bool:
        """Whether another one holds it and was seen to renew it within its life."""
        other = self.seen is not None and self.seen.boot not in ("", self.boot)
        return other and now - self.alive_at <= self.life_sec

    def stale(self, now: float) -> str:
        """The lease as the script knows it again, if it was unchanged for its whole life; else nothing."""
        if self.seen is None or not self._looked(now) or now - self._same_since < self.life_sec:
            return ""
        return f"{self.seen.epoch}.{self.seen.renewed}"

    def answered(self, reply: Sequence[bytes], now: float) -> bool:
        """Takes in what the script said; False if the life of the lease is unusable: ours counts then."""
        boot, epoch, renewed, deaf, life = (each.decode("utf-8", "replace") for each in reply)
        lease_sec = decimal(life, 0.0, max(LONGEST_LEASE_SEC, self.lease_sec))
        held = Held(boot, int(epoch), int(renewed), deaf, self.lease_sec if lease_sec is None else lease_sec)
        before = self.seen
        changed = before is None or (held.epoch, held.renewed) != (before.epoch, before.renewed)
        if changed or not self._looked(now):
            self._same_since = now
        if before is not None and held.renewed != before.renewed and held.boot != self.boot:
            self.alive_at, self.alive_deaf = now, held.deaf
        self.seen, self.answered_at = held, now
        self.epoch = held.epoch if held.boot == self.boot else 0
        return lease_sec is not None

    def _looked(self, now: float) -> bool:
        """Whether it was looked at lately: a view with a hole in it proves nothing, we may have slept."""
        return now - self.answered_at <= self.life_sec / 2

    def lost(self) -> None:
        """The bus said that another one leads."""
        self.epoch = 0
