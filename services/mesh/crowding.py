"""Whether more processes of a service run than the truth wants. Pure; times are passed in.

A process that was killed stays in the picture until its timeout, beside its successor; that is no conflict.
It takes a proof: each has beaten after the last of them had come.
"""

from collections.abc import Collection

from services.mesh.instance import Instance


def together(instances: Collection[Instance], now: float) -> int:
    """How many of one service provably ran at one time, and still seem to."""
    here = [one for one in instances if not one.overdue(now)]
    return max((_beside(one, here) for one in here), default=0)


def _beside(newest: Instance, others: Collection[Instance]) -> int:
    """How many ran when this one came, with it."""
    at = newest.joined_at
    return 1 + sum(1 for one in others if one is not newest and one.joined_at <= at < one.beat_at)


class Crowding:
    """Who is too many now: told once, until no more are there than should be."""

    def __init__(self) -> None:
        self.crowded: set[str] = set()

    def begins(self, svc: str, replicas: int, instances: Collection[Instance], now: float) -> int:
        """How many there are, when that is too many and was not before; else 0. Also notes the end of it."""
        if len(instances) <= replicas:
            self.crowded.discard(svc)
            return 0
        count = together(instances, now)
        if count <= replicas or svc in self.crowded:
            return 0
        self.crowded.add(svc)
        return count
