"""Who may speak: what a vigil must know of leading and standing by. The lease itself is its owner's business.

Every public act carries a fence, and the bus itself checks it: a listener that slept through the loss of its
lease is turned away by the server, whatever it believes.
"""

from typing import Final, NamedTuple, Protocol


class Fence(NamedTuple):
    """What the scripts hold against the lease on their bus; an empty `boot` asks for none."""

    boot: str
    epoch: int


UNFENCED: Final = Fence("", 0)


class Leadership(Protocol):
    """Leads or stands by, on each bus for itself."""

    def fence(self, bus: str) -> Fence | None:
        """What to carry when speaking on a bus; None while another one speaks there."""

    def deny_leadership(self, bus: str) -> None:
        """A bus knows another leader."""

    def leader_seen_at(self, bus: str) -> float:
        """When the leader of a bus, if it is another, was last seen alive, in monotonic seconds."""

    def leader_heard_bus_at(self, bus: str) -> float:
        """When that leader was last seen to write to the bus while it heard it, in monotonic seconds."""


class SoleLeader:
    """The leadership of a listener that has no second, and needs no lease."""

    def fence(self, _bus: str) -> Fence | None:
        """See `Leadership`."""
        return UNFENCED

    def deny_leadership(self, bus: str) -> None:
        """See `Leadership`."""

    def leader_seen_at(self, _bus: str) -> float:
        """See `Leadership`."""
        return float("-inf")

    def leader_heard_bus_at(self, _bus: str) -> float:
        """See `Leadership`."""
        return float("-inf")


NOT_THE_LEADER: Final = -1
"""What every fenced script answers to who may not speak."""
