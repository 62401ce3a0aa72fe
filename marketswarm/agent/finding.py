"""Finding the truth: which buses may hold it, what each of them holds, which one to go by.

Shared by agents and the command line. What a running agent does with a new one is `following.py`.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm import log
from marketswarm.bus import WITHIN_SEC, Bus, BusError, ClusterError, find_url
from marketswarm.exit import Code, Exit
from marketswarm.settings import Common
from marketswarm.truth import Loaded, Truth, TruthError, load

META: Final = "truth:meta"
CHANGED: Final = "truth:changed"
FIRST_PAUSE_SEC: Final = 0.1
LONGEST_PAUSE_SEC: Final = 1.0


@dataclass(frozen=True, slots=True)
class Found:
    """A valid truth and where it was read.

    `revision` is `None` when the bus's `truth:meta` is not about this document. `passed` tells of the buses
    that should have had it and did not, one reason each.
    """

    loaded: Loaded
    revision: int | None
    bus: Bus
    passed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """What one bus holds: a truth, or why there is none, or (`hopeless`) why there never will be one."""

    bus: Bus
    found: Found | None
    why: str = ""
    answered: bool = True
    hopeless: bool = False


def truth_places(settings: Common, environ: Mapping[str, str], truth: Truth | None = None) -> dict[str, str]:
    """URL to name of the buses that may hold the truth, in the order of CONTRACTS §2.

    Raises:
        Exit: code 2, when a URL can't be had.
    """
    places: dict[str, str] = {}
    try:
        named = {find_url(name, environ, truth): name for name in ("market-redis", "system-redis")}
    except BusError as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None
    for url in (settings.truth_redis_url, settings.redis_url, *reversed(named)):
        if url is not None:
            places.setdefault(url, named.get(url, "truth-redis"))
    return places


def usable_bus(name: str, url: str) -> Bus:
    """A bus, not yet connected. Raises Exit, code 2, when the URL is none."""
    try:
        return Bus(name, url)
    except BusError as error:
        raise Exit(Code.CONFIGURATION, str(error)) from None


async def look(bus: Bus, key: str, known: Loaded | None = None, within_sec: float = WITHIN_SEC) -> Seen:
    """Read what a bus holds, whatever that is; `known` saves reading the same document twice."""
    pipe = bus.pipeline(transaction=True)
    pipe.get(key)
    pipe.hmget(META, "revision", "sha256")
    try:
        raw, meta = await bus.ask(pipe.execute(), within_sec)
    except ClusterError as error:
        return Seen(bus, None, error.detail, hopeless=True)
    except BusError as error:
        return Seen(bus, None, error.reason, answered=error.reason == "error")
    if raw is None:
        return Seen(bus, None, "has none")
    sha256 = hashlib.sha256(raw).hexdigest()
    try:
        loaded = known if known is not None and known.sha256 == sha256 else load(raw)
    except TruthError as error:
        more = f" (and {len(error.problems) - 1} more)" if len(error.problems) > 1 else ""
        return Seen(bus, None, f"refused: {error.problems[0]}{more}")
    return Seen(bus, Found(loaded, _revision(meta, sha256), bus))


async def glance(bus: Bus, key: str, within_sec: float) -> object:
    """What is cheap to ask and changes with a document: compare it with the last; why, where none answers."""
    pipe = bus.pipeline()
    pipe.strlen(key)
    pipe.hmget(META, "revision", "sha256")
    try:
        return await bus.ask(pipe.execute(), within_sec)
    except BusError as error:
        return error.reason


async def look_at_all(buses: Sequence[Bus], key: str, known: Loaded | None, within_sec: float) -> list[Seen]:
    """Look at all buses at once: one that hangs costs no more than its own time."""
    return list(await asyncio.gather(*(look(bus, key, known, within_sec) for bus in buses)))


def first(seen: Sequence[Seen]) -> Found | None:
    """The first valid truth, with the reasons of those before it."""
    for index, one in enumerate(seen):
        if one.found is not None:
            return Found(one.found.loaded, one.found.revision, one.bus, reasons(seen[:index]))
    return None


def reasons(seen: Sequence[Seen]) -> tuple[str, ...]:
    """One reason a bus, fit for a log line and a beat's detail."""
    return tuple(f"{one.bus.name} {one.why}" for one in seen)


async def load_truth(settings: Common, buses: Sequence[Bus], wait_sec: float) -> Found:
    """The first valid truth on `buses`, waiting for it.

    Raises:
        Exit: after `wait_sec`: code 3 if no bus answered meanwhile, 4 if one did; at once: 2 if one of them
            never can hold one.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + wait_sec
    pause_sec, answered, told = FIRST_PAUSE_SEC, False, None
    while True:
        within_sec = min(WITHIN_SEC, max(0.2, until - clock()))
        seen = await look_at_all(buses, settings.truth_redis_key, None, within_sec)
        found = first(seen)
        if found is not None:
            return found
        answered = answered or any(one.answered for one in seen)
        why = ", ".join(f"{one.bus.name} at {one.bus.where}: {one.why}" for one in seen)
        if any(one.hopeless for one in seen):
            raise Exit(Code.CONFIGURATION, why)
        if clock() >= until:
            raise _none(answered, why, settings, wait_sec)
        if why != told:
            log.get().warning("truth.waiting", why=why, wait_sec=wait_sec)
            told = why
        await asyncio.sleep(min(pause_sec, max(0.0, until - clock())))
        pause_sec = min(2 * pause_sec, LONGEST_PAUSE_SEC)


def _none(answered: bool, why: str, settings: Common, wait_sec: float) -> Exit:
    if not answered:
        return Exit(Code.NO_BUS, f"no bus answered within {wait_sec:g} s ({why})")
    return Exit(
        Code.NO_TRUTH,
        f"no valid truth under {settings.truth_redis_key} within {wait_sec:g} s ({why}): "
        "run bootstrap (python -m bootstrap, or make seed)",
    )


def _revision(meta: Sequence[Any], sha256: str) -> int | None:
    revision, of = meta
    if of is not None and of.decode("ascii", "replace") != sha256:
        return None
    return (
        int(revision) if isinstance(revision, bytes) and revision.isdigit() and len(revision) < 16 else None
    )


__all__ = [
    "Found",
    "Seen",
    "first",
    "glance",
    "load_truth",
    "look",
    "look_at_all",
    "reasons",
    "truth_places",
    "usable_bus",
]
