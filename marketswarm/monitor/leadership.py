"""Leadership of the buses, as far as a monitor needs it; the lease is taken and renewed elsewhere.

Every write carries a fence, and the bus itself checks it: the server refuses the writes of a process that
slept through the loss of its lease, whatever that process believes.
"""

from typing import Final, NamedTuple, Protocol

NOT_THE_LEADER: Final = -1
"""The reply of every fenced script to a process that does not lead."""


class Fence(NamedTuple):
    """The boot and epoch that a script compares with the lease on its bus; an empty `boot` needs no lease."""

    boot: str
    epoch: int


UNFENCED: Final = Fence("", 0)


class CallNumbers:
    """The numbers of the calls by which the process `boot` publishes, each greater than those before it.

    A connection that was given up may still deliver its call, long after the same verdicts were published
    over another one. The fence holds then, so the script refuses a call that has a smaller number than the
    last one of the same process.
    """

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self._last = 0

    def take(self) -> int:
        """Return the number of the next call."""
        self._last += 1
        return self._last

    def skip(self, number: int) -> None:
        """Have all further calls numbered above `number`."""
        self._last = max(self._last, number)


class Leadership(Protocol):
    """The leadership on each bus; each bus has a leader of its own."""

    def fence(self, bus: str) -> Fence | None:
        """Return the fence for writes to a bus; None if this process does not lead there."""

    def deny_leadership(self, bus: str) -> None:
        """Note that a bus refused a write, because another process leads there."""

    def leader_seen_at(self, bus: str) -> float:
        """Return when another process that leads on a bus was last seen alive (monotonic); -inf if never."""

    def leader_heard_bus_at(self, bus: str) -> float:
        """Return when another leader, while it heard the bus, was last seen to write to it (monotonic).

        Return -inf if never.
        """


class SoleLeader:
    """The leadership of a monitor that is the only one of its name: it always leads, without a lease."""

    def fence(self, _bus: str) -> Fence | None:
        return UNFENCED

    def deny_leadership(self, bus: str) -> None:
        """Do nothing, because a script refuses no write without a lease."""

    def leader_seen_at(self, _bus: str) -> float:
        return float("-inf")

    def leader_heard_bus_at(self, _bus: str) -> float:
        return float("-inf")
