"""Hold all instances together to what a source allows, and leave one alone that fails. State is on the bus.

`take_request.lua` and `breaker.lua` make each step one step on the bus, so no two processes overdraw together
and a restart does not begin anew.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketswarm.bus import Bus
from marketswarm.bus.scripts import Script
from marketswarm.keys import source_account_key, source_breaker_key
from services.sources.request import ApiKey

TAKE_REQUEST: Final = Script.beside("services.sources", "take_request.lua")
BREAKER: Final = Script.beside("services.sources", "breaker.lua")
OPEN_AFTER: Final = 3
FIRST_PAUSE_SEC: Final = 10.0
LONGEST_PAUSE_SEC: Final = 600.0
TRIAL_SEC: Final = 30.0


class BreakerState(StrEnum):
    """Name the states of a source's breaker."""

    CLOSED = "closed"  # the source is asked
    OPEN = "open"  # it is not, for a pause
    HALF_OPEN = "half_open"  # one instance tries it
    PAUSED = "paused"  # it is not asked, since an operator took it out of service


BREAKER_OPEN: Final = "breaker_open"
PAUSED: Final = "paused"
_REFUSALS: Final = {BreakerState.OPEN: BREAKER_OPEN, BreakerState.PAUSED: PAUSED}


@dataclass(frozen=True, slots=True)
class Permission:
    """Say whether a source may be asked now, and else after how many seconds, and why not."""

    wait_sec: float = 0.0
    why: str = ""

    @property
    def is_granted(self) -> bool:
        """Whether the request may be sent."""
        return not self.why


def account_name(source: str, key: ApiKey | None) -> str:
    """Return the name of the account of a key: limits count for each key, and no key is in a name."""
    if key is None:
        return source
    return f"{source}:{hashlib.sha256(key.key.encode()).hexdigest()[:12]}"


class SourceAccount:
    """Ask the bus whether a source may be asked. Each method raises BusError."""

    def __init__(self, bus: Bus, source: str) -> None:
        self._bus, self._source = bus, source

    async def take_request(self, key: ApiKey | None, windows: Sequence[tuple[int, int]]) -> Permission:
        """Take a request out of what the limits allow; `windows` are seconds and requests."""
        wait_sec = await self._use_account(key, 0, windows)
        return Permission(wait_sec, "limited" if wait_sec else "")

    async def block(self, key: ApiKey | None, sec: float, windows: Sequence[tuple[int, int]]) -> None:
        """Take no request for so many seconds, since the source asked for that."""
        await self._use_account(key, sec, windows)

    async def _use_account(
        self, key: ApiKey | None, block_sec: float, windows: Sequence[tuple[int, int]]
    ) -> float:
        """Run `take_request.lua`, and return the seconds to wait."""
        keys = [source_account_key(account_name(self._source, key))]
        if key is not None:  # who shows the limits finds the accounts of all keys there
            keys.append(source_account_key(self._source))
        args = [round(1000 * block_sec), *(number for window in windows for number in window)]
        return float(await self._bus.script(TAKE_REQUEST, keys, args)) / 1000

    async def ask_breaker(self) -> Permission:
        """Return whether the breaker lets a request pass; as a trial, if it is half open."""
        state, wait_sec = await self._use_breaker("ask")
        return Permission(wait_sec or 0.0, _REFUSALS.get(state, ""))

    async def read_breaker(self) -> tuple[BreakerState, float | None]:
        """Return the breaker's state, and the seconds until the source is tried: None if nobody knows."""
        return await self._use_breaker("look")

    async def is_paused(self) -> bool:
        """Return True while an operator has taken the source out of service."""
        return (await self.read_breaker())[0] is BreakerState.PAUSED

    async def pause(self, sec: float | None) -> None:
        """Take the source out of service for so many seconds; with None, until `resume`."""
        await self._use_breaker("pause", -1 if sec is None else max(1, round(1000 * sec)))

    async def resume(self) -> None:
        """Take the source into service again; what failed before is forgotten."""
        await self._use_breaker("resume")

    async def record_success(self) -> None:
        """Close the breaker."""
        await self._use_breaker("ok")

    async def record_failure(self) -> BreakerState:
        """Count a failure, and return the breaker's state."""
        return (await self._use_breaker("fail"))[0]

    async def _use_breaker(self, what: str, pause_ms: int = 0) -> tuple[BreakerState, float | None]:
        """Run `breaker.lua`, and return the state and the seconds to wait; None: until it is resumed."""
        limits = [OPEN_AFTER, *(round(1000 * sec) for sec in (FIRST_PAUSE_SEC, LONGEST_PAUSE_SEC, TRIAL_SEC))]
        key = source_breaker_key(self._source)
        state, wait_ms = await self._bus.script(BREAKER, [key], [what, *limits, pause_ms])
        found = BreakerState(state.decode() if isinstance(state, bytes) else state)
        return found, int(wait_ms) / 1000 if int(wait_ms) >= 0 else None
