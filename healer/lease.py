"""The lease of one bus as one healer sees it: which request to send next, and how to apply a reply.

Pure: `now` is monotonic time in seconds, always passed in. Clocks of two machines are never compared: a lease
has expired if a healer saw it unchanged for its whole life, in frequent requests. The holder need not measure
the time at all: the bus refuses a write whose epoch is no longer the current one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from marketswarm.bus.fleet_lease import LeaseView
from marketswarm.bus.stored_values import parse_decimal
from marketswarm.monitor import Fence

LONGEST_LEASE_SEC: Final = 60.0
"""The longest life that is accepted of another healer's lease, unless our own lives longer."""


@dataclass(frozen=True, slots=True)
class SeenLease:
    """A lease as the bus held it.

    `boot` is the holder ('' for none), `renewed` counts its renewals, `deaf_to` names the buses that the
    holder does not hear, comma-separated.
    """

    boot: str
    epoch: int
    renewed: int
    deaf_to: str
    lease_sec: float


class BusLease(LeaseView):
    """The lease of one bus. Mutable; only one healer's `LeaderElection` changes it."""

    def __init__(self, boot: str, lease_sec: float) -> None:
        super().__init__(boot, lease_sec)
        self.seen: SeenLease | None = None
        self.other_renewed_at = float("-inf")  # when another healer was last seen to renew it
        self.other_deaf_to = ""  # the buses that the other healer did not hear then
        self._unchanged_since = float("-inf")

    @property
    def fence(self) -> Fence | None:
        """The fence for writes to the bus; None if this healer does not hold the lease."""
        return Fence(self.boot, self.epoch) if self.epoch else None

    @property
    def life_sec(self) -> float:
        """The seconds for which the lease must be seen unchanged before it may be taken from its holder."""
        return max(self.lease_sec, self.seen.lease_sec) if self.seen else self.lease_sec

    def seconds_to_next_request(self, now: float) -> float:
        """Return the pause before the next request; a standby also sends one when the lease expires."""
        interval_sec = super().seconds_to_next_request(now)
        ends_in = self._unchanged_since + self.life_sec - now
        return min(interval_sec, ends_in) if not self.epoch and ends_in > 0 else interval_sec

    def has_other_holder(self, now: float) -> bool:
        """Return True if another healer holds the lease and was seen to renew it within its life."""
        other = self.seen is not None and self.seen.boot not in ("", self.boot)
        return other and now - self.other_renewed_at <= self.life_sec

    def find_stale_version(self, now: float) -> str:
        """Return `<epoch>.<renewed>` of a lease that was unchanged for its whole life, otherwise `''`."""
        if self.seen is None or not self._is_reply_recent(now) or now - self._unchanged_since < self.life_sec:
            return ""
        return f"{self.seen.epoch}.{self.seen.renewed}"

    def apply_reply(self, reply: Sequence[bytes], now: float) -> bool:
        """Apply the reply of lease.lua.

        Return False if the stored life of the lease is unusable; our own is assumed then.
        """
        boot, epoch, renewed, deaf_to, life = (each.decode("utf-8", "replace") for each in reply)
        lease_sec = parse_decimal(life, 0.0, max(LONGEST_LEASE_SEC, self.lease_sec))
        assumed_sec = self.lease_sec if lease_sec is None else lease_sec
        seen = SeenLease(boot, int(epoch), int(renewed), deaf_to, assumed_sec)
        before = self.seen
        has_changed = before is None or (seen.epoch, seen.renewed) != (before.epoch, before.renewed)
        if has_changed or not self._is_reply_recent(now):
            self._unchanged_since = now
        if before is not None and seen.renewed != before.renewed and seen.boot != self.boot:
            self.other_renewed_at, self.other_deaf_to = now, seen.deaf_to
        self.seen, self.answered_at = seen, now
        self.epoch = seen.epoch if seen.boot == self.boot else 0
        return lease_sec is not None

    def _is_reply_recent(self, now: float) -> bool:
        """Return True if the last reply is at most half a life old.

        A longer pause proves nothing about the lease, since this process may have slept.
        """
        return now - self.answered_at <= self.life_sec / 2
