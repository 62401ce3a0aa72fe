"""Know which markets are closed, and where splits begin, by sessions of the markets.

Calendars are computed beside the event loop.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Final

from marketswarm import log as logs
from services.market.actions import find_day, find_day_ms
from services.market.intervals import Grid, end_period
from services.market.records import DAY_MS, PERIODS, TIMEFRAME_SEC, Timeframe
from services.market.sessions import OutsideCalendarError, Session, UnknownSessionError, get_session
from services.market.universe import LoadedSymbol
from services.signals.cycle.market import MarketBars

log = logs.get("signals")

_thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="calendars")
"""The one thread for it: `get_session` is not made for several, and two would compute the same calendar."""

_ANY_ZONE_MS: Final = 2 * DAY_MS
_LONGEST_MS: Final = 33 * DAY_MS
"""A month, wherever its zone is."""


class SessionBook:
    """Hold the sessions that were computed, by their codes; None for a code that no calendar knows."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session | None] = {}
        self._grids: dict[str, Grid] = {}

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

    def find_end(self, code: str | None, start_ms: int, timeframe: Timeframe) -> int | None:
        """Return when a bar of a prepared session ends (epoch milliseconds).

        None if no interval of the session begins like that. Without a session, and in one that no calendar
        knows, a bar is as long as its timeframe.
        """
        session = self._sessions.get(code or "")
        if session is None:
            return start_ms + 1000 * TIMEFRAME_SEC[timeframe]
        interval = self._grids.setdefault(session.code, Grid(session)).place(start_ms, timeframe)
        return None if interval is None or interval.open_ms != start_ms else interval.close_ms

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

    def begin_at_splits(self, market: MarketBars, symbols: Mapping[str, LoadedSymbol]) -> None:
        """Have each window begin with the last split of its symbol, and forget the bars before that.

        The bars of one source have days of their own: if they are fewer, they reach further back.
        """
        for symbol, days in market.splits.items():
            session = self._sessions.get(symbols[symbol].session or "")
            for source in (None, *market.sources):
                _begin_at_split(market, symbol, source, days, session)

    def _is_open(self, code: str, at_ms: int) -> bool:
        session = self._sessions.get(code)
        if session is None:
            return True
        try:
            day = session.find_day(at_ms)
        except OutsideCalendarError:
            return False
        return day is not None and (day.break_ms is None or not day.break_ms[0] <= at_ms < day.break_ms[1])


def _begin_at_split(
    market: MarketBars, symbol: str, source: str | None, days: Collection[date], session: Session | None
) -> None:
    """Have a window begin with the last of `days` that it or the symbol has reached; it may be empty then."""
    starts = market.see_starts(symbol, source).tolist()
    if not starts:
        return
    last_ms = max(starts[-1], market.find_last(symbol)[0])
    near_ms = starts[0] - _ANY_ZONE_MS, last_ms + _LONGEST_MS
    near = [day for day in days if near_ms[0] <= find_day_ms(day) <= near_ms[1]]
    if not near:
        return

    def find_date(start_ms: int) -> date:
        return _find_date(session, start_ms, market.timeframe)

    first, last = find_date(starts[0]), find_date(last_ms)
    within = [day for day in near if first < day <= last]
    if within:
        place = bisect_left(starts, max(within), key=find_date)
        market.begin_at(symbol, starts[place] if place < len(starts) else last_ms + 1, source)


def _find_date(session: Session | None, start_ms: int, timeframe: Timeframe) -> date:
    """Return the date of the day whose scale a bar has: of a week or a month, that of its last day."""
    day = find_day(start_ms) if session is None else session.find_local_date(start_ms)
    return end_period(day, timeframe) if timeframe in PERIODS else day
