"""Find the session in which a symbol trades: its code by the truth in force, its calendar in another process.

The truth names a session with the symbols of the services that publish checked bars and series; if it does
not, the asset class decides, as it does for those services.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import inf
from typing import Any, Final

from marketswarm import log as logs
from marketswarm.agent.worker_process import WorkerError
from marketswarm.keys import CHECKED_BARS, MARKET_SERIES
from marketswarm.truth import Service, Truth
from marketswarm.web.cache import Cached
from services.board.market.calendar_process import request_days
from services.market.records import AssetClass
from services.market.sessions import (
    Session,
    UnknownSessionError,
    find_default_session,
    find_exchange,
    get_session,
    make_exchange_session,
)
from services.market.universe import list_named_sessions

MAX_CODES: Final = 200  # how many calendars are kept: there are fewer exchanges
log = logs.get("board")


def list_symbol_sessions(truth: Truth) -> dict[str, str]:
    """Return the code of the session of each symbol that the truth names.

    What bars says counts, because it decides which intervals there are.
    """
    found = list_named_sessions(truth)  # also where bars names one for all symbols of a class
    for key in (CHECKED_BARS, MARKET_SERIES):
        for section in truth.services.values():
            if any(point.key == key for point in section.access_points.publish_to):
                for symbol, code in _list_sessions_of(section):
                    found.setdefault(symbol, code)
    return found


def _list_sessions_of(section: Service) -> Iterator[tuple[str, str]]:
    for entry in section.endpoints:
        if isinstance(entry, dict):
            asset = str(entry.get("asset", AssetClass.STOCKS))
            symbols = entry.get("symbols") or [entry.get("symbol")]
            for symbol in symbols if isinstance(symbols, list) else ():
                if isinstance(symbol, str):
                    code: Any = entry.get("session") or find_default_session(asset, symbol)
                    if isinstance(code, str):
                        yield symbol, code


class SymbolSessions:
    """Finds the sessions of symbols by the truth in force, and keeps their calendars."""

    def __init__(self, truth_now: Callable[[], Truth]) -> None:
        self._truth_now = truth_now
        self._truth: Truth | None = None
        self._codes: Mapping[str, str] = {}
        self._sessions = Cached[str, Session | None](inf, MAX_CODES)
        self._computing = asyncio.Lock()
        self._has_failed = False

    def find_code(self, symbol: str, asset: str) -> str | None:
        """Return the code of a symbol's session; None if neither the truth nor its asset class tells."""
        truth = self._truth_now()
        if truth is not self._truth:
            self._truth, self._codes = truth, list_symbol_sessions(truth)
        return self._codes.get(symbol) or find_default_session(asset, symbol)

    async def find(self, symbol: str, asset: str) -> Session | None:
        """Return a symbol's session; None if it is not known, or its calendar is not installed here.

        The first time takes up to a second.
        """
        code = self.find_code(symbol, asset)
        return None if code is None else await self._sessions.find(code, partial(self._load, code))

    def find_kept(self, symbol: str, asset: str) -> Session | None:
        """Return a symbol's session if its calendar is in memory."""
        code = self.find_code(symbol, asset)
        return None if code is None else self._sessions.find_kept(code)

    @property
    def known(self) -> int:
        """How many calendars are in memory; what was made with fewer may go by the date in UTC."""
        return len(self._sessions)

    async def find_soon(
        self, assets: Mapping[str, str], within_sec: float
    ) -> tuple[dict[str, Session | None], list[str]]:
        """Return the sessions of symbols, by the asset class of each, and the symbols whose calendars wait.

        A calendar that takes longer than `within_sec` is computed all the same, for the next who asks.
        """
        codes = {symbol: self.find_code(symbol, asset) for symbol, asset in assets.items()}
        tasks = {
            code: asyncio.ensure_future(self._sessions.find(code, partial(self._load, code)))
            for code in dict.fromkeys(codes.values())
            if code is not None
        }
        if tasks:
            _, late = await asyncio.wait(tasks.values(), timeout=within_sec)
            for task in late:
                task.cancel()  # what it waits for goes on
        sessions = {code: task.result() for code, task in tasks.items() if task.done()}
        found = {
            symbol: None if code is None else sessions[code]
            for symbol, code in codes.items()
            if code is None or code in sessions
        }
        return found, [symbol for symbol in codes if symbol not in found]

    async def prepare(self) -> None:
        """Compute the calendars that the truth names, so that the first chart does not wait for them."""
        for code in sorted(set(list_symbol_sessions(self._truth_now()).values())):
            await self._sessions.find(code, partial(self._load, code))

    async def _load(self, code: str) -> Session | None:
        try:
            exchange = find_exchange(code)
            async with self._computing:  # one at a time: it takes a processor for a second
                if exchange is not None:
                    try:
                        return make_exchange_session(code, await request_days(exchange))
                    except WorkerError as error:
                        self._note_failure(str(error))
                return await asyncio.to_thread(get_session, code)
        except (UnknownSessionError, ImportError):  # the library comes with the extra `market`
            return None

    def _note_failure(self, reason: str) -> None:
        """Log the first failure of the process that computes calendars; they are then computed here."""
        if not self._has_failed:
            self._has_failed = True
            log.warning("market.calendar_process_failed", reason=reason)
