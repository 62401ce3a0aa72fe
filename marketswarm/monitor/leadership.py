"""Leading and standing by, as far as a monitor must know it. The lease itself is its owner's business.

Every write carries a fence, and the bus itself checks it: a listener that slept through the loss of its lease
is refused by the server, whatever the listener believes.
"""

from typing import Final, NamedTuple, Protocol


class Fence(NamedTuple):
    """The boot and epoch that a script compares with the lease on its bus; an empty `boot` needs no lease."""

    boot: str
    epoch: int


UNFENCED: Final = Fence("", 0)


class Leadership(Protocol):
    """Who leads on each bus; each bus has a leader of its own."""

    def fence(self, bus: str) -> Fence | None:
        """Return the fence for writes to a bus; None while another listener leads there, or nobody."""

    def deny_leadership(self, bus: str) -> None:
        """Note that a bus refused a write, since it knows another leader."""

    def leader_seen_at(self, bus: str) -> float:
        """Return when the leader of a bus, if another, was last seen alive (monotonic); -inf if never."""

    def leader_heard_bus_at(self, bus: str) -> float:
        """Return when that leader was last seen to write to the bus while it heard it (monotonic)."""


class SoleLeader:
    """The leadership of a listener that is the only one of its name: it always leads, without a lease."""

    def fence(self, _bus: str) -> Fence | None:
        """Return the fence that needs no lease."""
        return UNFENCED

    def deny_leadership(self, bus: str) -> None:
        """Do nothing: a script refuses nobody without a lease."""

    def leader_seen_at(self, _bus: str) -> float:
        """Return -inf: there is no other leader."""
        return float("-inf")

    def leader_heard_bus_at(self, _bus: str) -> float:
        """Return -inf: there is no other leader."""
        return float("-inf")


NOT_THE_LEADER: Final = -1
"""The answer of every fenced script to a listener that does not lead."""
