"""Define the remedies, in the order of their cost, with the cooldown and the attempts of each. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Remedy(StrEnum):
    """What can be done for a target. `wait` does nothing: it shows what heals by itself."""

    WAIT = "wait"
    CONNECTIONS = "connections"
    CACHE = "cache"
    RESTART = "restart"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class RemedyRule:
    """The cost of a remedy (a lower one is tried first), its cooldown, and its attempts in one outage."""

    cost: int
    cooldown_sec: float
    attempts: int = 3


RULES: Final = {
    Remedy.WAIT: RemedyRule(cost=0, cooldown_sec=0.0, attempts=1),
    Remedy.CONNECTIONS: RemedyRule(cost=1, cooldown_sec=15.0),
    Remedy.CACHE: RemedyRule(cost=2, cooldown_sec=30.0),
    Remedy.RESTART: RemedyRule(cost=3, cooldown_sec=60.0),
    Remedy.COMMAND: RemedyRule(cost=4, cooldown_sec=300.0),
}


def build_ladder(offered: Collection[Remedy]) -> tuple[Remedy, ...]:
    """Return the remedies of a target in the order in which they are tried; `wait` is always the first."""
    return tuple(sorted({Remedy.WAIT, *offered}, key=lambda remedy: RULES[remedy].cost))
