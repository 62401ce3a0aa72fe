"""Stream live bars: connect, authenticate, publish each bar that arrives; by REST fill gaps and revise bars.

There is one connection at a time, and each frame is published before the next one is read. So a slow bus
slows us down and costs no memory; a client that is too slow is disconnected by the server, and what it missed
becomes a gap. This module is imported only when there is something to stream, as `api` is.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from pydantic import SecretStr

from marketswarm.agent import Agent
from marketswarm.net.errors import ConnectionEnded
from services.market.massive import MAX_AGE_SEC, ProtocolMachine
from services.market.records import DAY_MS
from services.massive.market.api import RestClient, RestError, StreamConnection, authenticate
from services.massive.market.gaps import GapTracker, MissingBars, RevisionSchedule
from services.massive.market.publish import BarStore, now_ms
from services.massive.market.settings import MarketSettings
from services.massive.market.status import MarketStatus, backoff_sec

STEADY_SEC: Final = 30.0
"""A connection that streamed for longer was a good one: the failures before it are not counted any more."""
GAPS_AT_ONCE: Final = 4
REVISE_PAUSE_SEC: Final = 900.0
"""The least pause before bars are requested again that could not be revised."""
GAPS_EVERY_SEC: Final = 0.5
"""The time between two looks at whether a gap is due."""
QUIET_INTERVAL_SEC: Final = 60.0
AUTH_TIMEOUT_SEC: Final = 10.0


class LiveSource:
    """Stream bars from the API to the bus until cancelled, with the `key` of the environment."""

    def __init__(
        self, me: Agent[Any], settings: MarketSettings, key: SecretStr, status: MarketStatus
    ) -> None:
        self._me, self._settings, self._key, self._status = me, settings, key, status
        self._rest_url, self._ws_url = me.settings.find_urls(settings)
        self.store = BarStore(me, status)
        self._gaps, self._is_reading, self._requested_ms = GapTracker(0, 0, 0), False, 0.0
        self._revisions = RevisionSchedule()
        self._settings_changed = asyncio.Event()

    def update_settings(self, settings: MarketSettings) -> None:
        """Use these settings from now on; an open connection adopts the symbols and the stream length."""
        self._settings = settings
        self._settings_changed.set()

    async def run(self) -> None:
        """Connect and stream until cancelled; after each connection that ends, wait and connect again."""
        async with RestClient(self._rest_url, self._key) as rest:
            while True:
                begun = asyncio.get_running_loop().time()
                try:
                    async with StreamConnection(self._ws_url, self._key) as connection:
                        reason = await self._stream(connection, rest)
                except ConnectionEnded as ended:
                    reason = ended.reason
                steady = self._status.streaming and asyncio.get_running_loop().time() - begun > STEADY_SEC
                self._status.record_disconnected(reason, steady=steady)
                pause_sec = backoff_sec(reason, self._status.failures, random.random())
                self._me.log.warning("market.disconnected", reason=reason, again_sec=round(pause_sec, 1))
                await asyncio.sleep(pause_sec)

    async def _stream(self, connection: StreamConnection, rest: RestClient) -> str:
        """Use one connection until it ends; return why it ended. Raises ConnectionEnded before it streams."""
        settings = self._settings
        machine = ProtocolMachine(settings.symbols, anomalies=self._status.anomalies)
        self._gaps = GapTracker(
            1000 * settings.delay_sec, 1000 * settings.settle_sec, 1000 * settings.backfill_sec
        )
        self._requested_ms = now_ms()
        await authenticate(connection, machine, AUTH_TIMEOUT_SEC)
        self._status.record_connected(machine, self._gaps)
        self._me.log.info("market.streaming", symbols=len(settings.symbols), connects=self._status.connects)
        self._settings_changed.set()  # they may have changed during the login
        async with asyncio.TaskGroup() as group:
            side_tasks = [
                group.create_task(self._follow_settings(connection, machine)),
                group.create_task(self._fill_gaps(rest)),
                group.create_task(self._advance_quiet_marks()),
            ]
            reason = await self._publish_frames(connection, machine)
            for task in side_tasks:
                task.cancel()
        return reason

    async def _publish_frames(self, connection: StreamConnection, machine: ProtocolMachine) -> str:
        """Read, parse and publish frames until the connection ends; return why it ended."""
        while True:
            self._is_reading = True
            try:
                frame = await connection.receive()
            except ConnectionEnded as ended:
                return ended.reason
            self._is_reading = False
            content = machine.receive(frame, now_ms())
            if content.confirmed:
                await self._start_symbols(content.confirmed)
            for bar in content.unread:  # before the marks move
                self._gaps.open_gap(bar, now_ms())
            if content.bars:
                marks = self._gaps.record_bars(content.bars)
                await self.store.publish(content.bars, marks, self._settings.keep)
            if self.store.lost_marks:
                await self._start_symbols(sorted(machine.confirmed))
            if content.end_reason:
                return content.end_reason

    async def _start_symbols(self, symbols: Sequence[str]) -> None:
        """Open the gaps since the stored marks of confirmed symbols; give others their first mark."""
        at_ms, self.store.lost_marks = now_ms(), False
        marks = await self.store.read_marks(symbols)
        first_marks = [
            self._gaps.start_symbol(sym, marks.get(sym), at_ms, self._requested_ms) for sym in symbols
        ]
        new_marks = [mark for mark in first_marks if mark is not None]
        await self.store.publish([], new_marks, self._settings.keep)

    async def _follow_settings(self, connection: StreamConnection, machine: ProtocolMachine) -> None:
        while True:
            await self._settings_changed.wait()
            self._settings_changed.clear()
            self._gaps.remove_symbols(sorted(machine.confirmed.difference(self._settings.symbols)))
            for request in machine.set_symbols(self._settings.symbols):
                self._requested_ms = now_ms()
                await connection.send_request(request)

    async def _fill_gaps(self, rest: RestClient) -> None:
        """Prune old marks, then fill gaps and revise known bars whenever they are due, until cancelled."""
        await self.store.prune_marks(now_ms() - 1000 * MAX_AGE_SEC)
        while True:
            await self._fill_due_gaps(rest)
            await self._revise_due(rest)
            await asyncio.sleep(GAPS_EVERY_SEC)

    async def _fill_due_gaps(self, rest: RestClient) -> None:
        """Fill all gaps that are due, GAPS_AT_ONCE at a time; log how many were filled and failed."""
        counts, failures = Counter[str](), list[str]()
        while due := self._gaps.due_gaps(now_ms())[:GAPS_AT_ONCE]:
            await asyncio.gather(*(self._fill_gap(rest, gap, counts, failures) for gap in due))
        if failures:
            self._me.log.warning("market.unfilled", gaps=len(failures), reason=failures[-1])
        if counts["filled"]:
            shown = {name: counts[name] for name in ("bars", "new", "cut")}
            self._me.log.info("market.filled", gaps=counts["filled"], **shown)

    async def _fill_gap(
        self, rest: RestClient, gap: MissingBars, counts: Counter[str], failures: list[str]
    ) -> None:
        """Fetch and publish the bars of a gap, and close it.

        If the request fails, postpone the gap, and add the reason to `failures`; `counts` gets what was done.
        """
        try:
            bars = [] if gap.first > gap.last else await rest.fetch_bars(gap)
        except RestError as error:
            pause_sec = error.retry_after_sec or backoff_sec(
                error.reason, self._gaps.failures(gap) + 1, random.random()
            )
            self._gaps.postpone_gap(gap, now_ms(), pause_sec)
            if error.reason == "http_429":
                self._gaps.pause_requests(now_ms(), pause_sec)
            self._status.fill_error = error.reason
            failures.append(error.reason)
            return
        new = await self.store.publish(bars, [], self._settings.keep, "rest")
        await self.store.publish([], self._gaps.close_gap(gap), self._settings.keep)
        self._status.fill_error = None
        counts.update(filled=1, bars=len(bars), new=new, cut=gap.truncated)

    async def _revise_due(self, rest: RestClient) -> None:
        """Request the known bars of up to GAPS_AT_ONCE symbols again; so a gap never waits long."""
        complete, revise_ms = self._gaps.list_complete(now_ms()), self._settings.revise_days * DAY_MS
        due = self._revisions.find_due(complete, now_ms(), revise_ms)[:GAPS_AT_ONCE]
        await asyncio.gather(*(self._revise(rest, part) for part in due))

    async def _revise(self, rest: RestClient, part: MissingBars) -> None:
        """Publish what REST has late, or corrected, of a symbol; a failure delays this symbol alone."""
        try:
            bars = await rest.fetch_bars(part)
        except RestError as error:
            pause_sec = max(REVISE_PAUSE_SEC, error.retry_after_sec or 0.0)
            self._revisions.postpone(part.sym, now_ms(), pause_sec)
            if error.reason == "http_429":
                pause_sec = error.retry_after_sec or backoff_sec(error.reason, 1, random.random())
                self._gaps.pause_requests(now_ms(), pause_sec)
            self._me.log.warning("market.unrevised", symbol=part.sym, reason=error.reason)
            return
        changed = await self.store.find_changed(part.sym, bars)
        published = await self.store.publish(changed, [], self._settings.keep, "rest")
        self._revisions.postpone(part.sym, now_ms())
        if published:
            self._me.log.info("market.revised", symbol=part.sym, bars=published)

    async def _advance_quiet_marks(self) -> None:
        """Move the marks of symbols without bars once a minute, and look whether bars has lost some.

        Otherwise these marks would become old and be pruned.
        """
        while True:
            await asyncio.sleep(QUIET_INTERVAL_SEC)
            if self._is_reading:  # else a frame was read whose bars are not on the bus yet
                await self.store.publish([], self._gaps.advance_quiet(now_ms()), self._settings.keep)
            if await self.store.forget_lost(self._settings.symbols):
                self._me.log.warning("market.lost", symbols=len(self._settings.symbols))
                self._revisions = RevisionSchedule()  # all are due
