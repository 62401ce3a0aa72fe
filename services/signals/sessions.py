"""Know which markets are closed, by sessions whose calendars are computed beside the event loop."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from marketswarm import log as logs
from services.market.sessions import OutsideCalendarError, Session, UnknownSessionError, get_session
from services.market.universe import LoadedSymbol
from services.signals.cycle.market import MarketBars

log = logs.get("signals")

_thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="calendars")
"""The one thread for it: `get_session` is not made for several, and two would compute the same calendar."""


class SessionBook:
    """Hold the sessions that were computed, by their codes; None for a code that no calendar knows."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session | None] = {}

    async def prepare(self, codes: Collection[str]) -> None:
        """Compute those of these sessions that are missing; an exchange's takes up to a second."""
        for code in sorted(set(codes) - self._sessions.keys()):
            try:
                loop = asyncio.get_running_loop()
                self._sessions[code] = await loop.run_in_executor(_thread, get_session, code)
            except UnknownSessionError as error:
                self._sessions[code] = None
                log.warning("session.unknown", code=code, why=str(error))

    def is_prepared(self, codes: Collection[str]) -> bool:
        """Return whether all of these sessions were computed, or are known to be unknown."""
        return self._sessions.keys() >= set(codes)

    def find_closed(
        self, market: MarketBars, symbols: Mapping[str, LoadedSymbol], now_ms: int
    ) -> frozenset[str]:
        """Return the symbols whose market is closed, each by the clock that its bars go by.

        One whose session no calendar knows is never closed; a time beyond the calendar is closed.
        """
        known: dict[tuple[str, int], bool] = {}
        closed: list[str] = []
        for symbol, as_of_ms in zip(market.symbols, market.list_as_of(now_ms).tolist(), strict=True):
            key = symbols[symbol].session or "", as_of_ms
            if key not in known:
                known[key] = self._is_open(*key)
            if not known[key]:
                closed.append(symbol)
        return frozenset(closed)

    def _is_open(self, code: str, at_ms: int) -> bool:
        session = self._sessions.get(code)
        if session is None:
            return True
        try:
            day = session.find_day(at_ms)
        except OutsideCalendarError:
            return False
        return day is not None and (day.break_ms is None or not day.break_ms[0] <= at_ms < day.break_ms[1])
