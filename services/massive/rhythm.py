"""When a target is probed: every so often, each a little off, never all at the same time. Pure."""

from typing import Final

JITTER: Final = 0.1
SPREAD_SEC: Final = 0.02
"""So long for each target is the time over which the first probes of all are spread."""


def first_wait_sec(every_sec: float, targets: int, chance: float) -> float:
    """How long a new target waits for its first probe; `chance` is from 0 to 1."""
    return chance * min(every_sec, SPREAD_SEC * targets)


def next_due(due: float, now: float, every_sec: float, chance: float) -> float:
    """When it is due again, after a probe that was due at `due` and is over `now`.

    On the average every `every_sec`, up to a tenth off; what was missed meanwhile is not made up for.
    """
    following = due + every_sec * (1 - JITTER + 2 * JITTER * chance)
    return max(following, now)
