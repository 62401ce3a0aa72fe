"""What is to be done to a fleet, and when: drawn from one `random.Random(seed)` before anything starts. Pure.

Time goes in rounds. In the first part of a round faults of some lanes overlap as chance will have it, at most
one of each lane at a time; then the fleet is left alone for long enough to settle, but for the services'
own outages, which know no rounds.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

BUSES = ("system-redis", "market-redis")
ROUND_SEC = 45.0
CALM_SEC = 18.0
RHYTHMS = [(0.25, 1.5), (0.5, 2.0), (0.5, 3.0), (1.0, 2.5), (1.0, 4.0)]
"""Interval and timeout, in seconds; in one the timeout is so near that only the warm-up saves it."""
LONGEST_BOUND_SEC = 7.0  # T + W of the slowest of them

LANES = ("healer", "bus", "wire", "small", "agent", "reseed")


@dataclass(frozen=True, slots=True)
class Act:
    """One thing to do `at` seconds from the beginning, for `sec` seconds if it lasts."""

    at: float
    lane: str
    kind: str
    target: str
    sec: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cast:
    """One service that only beats."""

    svc: str
    bus: str
    interval_sec: float
    timeout_sec: float
    bare: bool
    instances: int
    watched: bool  # from the beginning


def cast(chance: random.Random, services: int) -> list[Cast]:
    """The services, and a few more that a reseed may add."""
    found = []
    for n in range(services + max(2, services // 10)):
        interval, timeout = chance.choice(RHYTHMS)
        bare, instances = n % 4 == 3, 2 if n % 7 == 5 else 1
        svc = f"s{n:03d}"
        found.append(Cast(svc, BUSES[n % 2], interval, timeout, bare, instances, watched=n < services))
    return found


def faults(chance: random.Random, minutes: float, healers: int, spare: set[str]) -> list[Act]:
    """Everything but the services' own outages, by time."""
    acts: list[Act] = []
    end = minutes * 60
    begin = 3.0
    while begin + 10 < end:
        busy_until = min(begin + ROUND_SEC - CALM_SEC, end)
        busy = chance.sample(LANES, chance.randint(1, len(LANES)))  # a crowd hides what one fault would show
        for lane, draw in _DRAWS.items():
            if lane not in busy:
                continue
            at = begin + chance.uniform(0, 8)
            while at < busy_until:
                kind, target, sec, more = draw(chance, healers)
                sec = min(sec, max(0.3, busy_until - at))
                if lane not in spare:
                    acts.append(Act(round(at, 2), lane, kind, target, round(sec, 2), more))
                at += sec + chance.uniform(*_REST_SEC[lane])
        begin += ROUND_SEC
    return sorted(acts, key=lambda act: act.at)


def outages(chance: random.Random, minutes: float, services: list[Cast]) -> list[Act]:
    """Each service's own, by time."""
    acts = [act for one in services for act in _outages_of(chance, minutes * 60, one)]
    return sorted(acts, key=lambda act: act.at)


def _outages_of(chance: random.Random, end: float, one: Cast) -> Iterator[Act]:
    at = chance.uniform(3, 40)
    while at < end:
        kind = chance.choices(
            ["short", "between", "long", "permanent", "flap", "restart"], [3, 1, 5, 1, 1, 1]
        )[0]
        for _ in range(chance.randint(3, 6) if kind == "flap" else 1):
            sec = _length(chance, kind, one)
            boot = chance.choice(["same", "new"])
            yield Act(round(at, 2), "outage", kind, one.svc, round(sec, 2), {"boot": boot})
            at += sec + (one.interval_sec + chance.uniform(0.5, 3) if kind == "flap" else 0)
        at += chance.uniform(8, 60)


def _length(chance: random.Random, kind: str, one: Cast) -> float:
    timeout = one.timeout_sec
    match kind:
        case "short" | "restart":
            return chance.uniform(0.2, 0.8) * (timeout - one.interval_sec)
        case "between":
            return chance.uniform(timeout, 2 * timeout)
        case "permanent":
            return chance.uniform(40, 90)
        case "flap":
            return chance.uniform(0.3, 2.5) * timeout
        case _:
            return LONGEST_BOUND_SEC + chance.uniform(1, 25)


# -- one draw of each lane: kind, target, how long, and what else


def _healer(chance: random.Random, healers: int) -> tuple[str, str, float, dict[str, Any]]:
    kind = chance.choice(["kill", "stop", "freeze"])
    which = str(chance.randint(1, healers)) if chance.random() < 0.8 else "all"
    return kind, which, chance.uniform(0.3, 9), {}


def _bus(chance: random.Random, healers: int) -> tuple[str, str, float, dict[str, Any]]:
    kind = chance.choice(["kill", "stop", "freeze", "oom", "readonly"])
    if chance.random() < 0.1:
        return kind, "all", chance.uniform(0.3, 5), {}
    return kind, chance.choice(BUSES), chance.choice([chance.uniform(0.2, 1.5), chance.uniform(3, 14)]), {}


def _wire(chance: random.Random, healers: int) -> tuple[str, str, float, dict[str, Any]]:
    kind = chance.choice(["cut", "swallow", "mute", "delay", "refuse"])
    more: dict[str, Any] = {}
    if kind in ("swallow", "mute"):
        more = {"only": chance.choice(["", "SUBSCRIBE"]), "direction": chance.choice(["up", "down", "both"])}
    if kind == "delay":
        more = {"delay_sec": round(chance.uniform(0.02, 0.25), 3)}
    target = f"{chance.randint(1, healers)}:{chance.choice(BUSES)}"
    return kind, target, 0.0 if kind == "cut" else chance.uniform(0.3, 8), more


def _small(chance: random.Random, healers: int) -> tuple[str, str, float, dict[str, Any]]:
    kind = chance.choice(["client_kill", "overflow", "malformed", "malformed", "replay", "replay"])
    return kind, chance.choice(BUSES), 0.0, {"draw": chance.random()}


def _agent(chance: random.Random, healers: int) -> tuple[str, str, float, dict[str, Any]]:
    target = chance.choice(["mesh", "rss_agg", "sentinel"])
    return chance.choice(["kill", "stop", "freeze"]), target, chance.uniform(0.3, 15), {}


def _reseed(chance: random.Random, healers: int) -> tuple[str, str, float, dict[str, Any]]:
    changes = [
        {"do": chance.choice(["rhythm", "drop", "add", "add"]), "draw": chance.random(), "to": n}
        for n in (chance.randrange(len(RHYTHMS)) for _ in range(chance.randint(1, 3)))
    ]
    return "reseed", "truth", 0.0, {"changes": changes}


_DRAWS = {
    "healer": _healer,
    "bus": _bus,
    "wire": _wire,
    "small": _small,
    "agent": _agent,
    "reseed": _reseed,
}
_REST_SEC = {
    "healer": (5, 25),
    "bus": (5, 25),
    "wire": (3, 15),
    "small": (2, 10),
    "agent": (4, 25),
    "reseed": (8, 40),
}
