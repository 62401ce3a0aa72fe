"""Follow the symbols of this instance: read their entries, build their bars, and commit both in one step.

Each instance reads every entry of the streams and works on those of its own symbols. A symbol's state holds
the id of the last entry that is in it, and a commit that did not begin at the stored state is refused: so two
instances may believe for a moment that a symbol is theirs, and one that is killed anywhere has either
committed an entry with everything that came of it, or left it to the next.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.bus import Bus, ReplyTooLongError
from marketswarm.bus.stream import (
    FIRST_ID,
    REPLY_BYTES,
    StreamEntry,
    entry_sort_key,
    has_begun_anew,
    make_stream_entry,
    read_entries_after,
    read_entries_between,
    read_newest_id,
)
from marketswarm.keys import CHECKED_BARS, INDICATORS
from services.bars.backpressure import Backpressure
from services.bars.bar_table import EARLIEST_MS
from services.bars.builder import BarBuilder
from services.bars.calendars import Calendars
from services.bars.metrics import BarsMetrics
from services.bars.outputs import Arrival
from services.bars.settings import BarsSettings, SymbolGroup, list_inputs, list_outputs
from services.bars.state import SymbolState, restore_state
from services.bars.store import BUS_SEC, ENTRIES_AT_ONCE, BarsStore, SymbolCommit, count_unread
from services.market.intervals import Grid
from services.market.records import MINUTE_MS, RecordKind
from services.market.sessions import UnknownSessionError

BLOCK_SEC: Final = 0.25
CHECKPOINT_SEC: Final = 10.0
"""The seconds after which the position of a symbol is committed of which nothing came."""
CAREFUL_COUNT: Final = 50
"""The entries that are read at once where the entries are too large to be read as usual."""
BEHIND_SEC: Final = 1.0
"""The age of an entry from which it is asked whether those before it were trimmed off unread."""
CHECK_SEC: Final = 1.0
"""How often it is asked whether a stream without new entries was begun anew."""
SWEEP_SEC: Final = 0.1
"""The time from one look at all symbols to the next; in between, only symbols with new entries are built."""
KINDS: Final = (RecordKind.BARS, RecordKind.QUOTES)
"""The streams that are read, in the order of the positions."""

SYMBOLS_AT_ONCE: Final = 20
"""The symbols that are built, and then committed in one step."""

ReadClock = Callable[[], float]


@dataclass(slots=True)
class Followed:
    """Hold a symbol of this instance.

    `builder` builds its bars, `upto` is the last entry of each stream that is in them, and `committed_at` is
    when it was committed last, in epoch seconds. `played_ms` is how far a replay has played this symbol, in
    epoch milliseconds: the reels of one recording may be years apart, so each symbol has a time of its own.
    """

    builder: BarBuilder
    upto: list[tuple[int, int]]
    committed_at: float
    played_ms: int = EARLIEST_MS

    def record_time(self, fields: Mapping[bytes, bytes], now_ms: int) -> None:
        """Take the time from an entry of a replay: when it was played, else when its minute was over."""
        try:
            played_ms = round(1000 * float(fields.get(b"played_at", b"0")[:32]))
            played_ms = played_ms or int(fields.get(b"start", b"0")[:16]) + MINUTE_MS
        except (ValueError, OverflowError):  # no time; the builder quarantines the entry
            return
        # nothing was recorded that is yet to come
        self.played_ms = max(self.played_ms, min(played_ms, now_ms))


class BarsWorker:
    """Build the bars of the symbols that are this instance's.

    Args:
        me: the agent.
        settings_now: returns the settings in force.
        metrics: counts what happens.
        calendars: the calendars of the symbols' sessions.
        now: returns the time in epoch seconds.
    """

    def __init__(
        self,
        me: Agent[Any],
        settings_now: Callable[[], BarsSettings],
        metrics: BarsMetrics,
        calendars: Calendars,
        now: ReadClock = time.time,
    ) -> None:
        self._me, self._settings_now, self._metrics, self._now = me, settings_now, metrics, now
        self._calendars = calendars
        self._share = me.share()
        self._followed: dict[str, Followed] = {}
        self._in_force: tuple[object, ...] = ()
        self._upto = [FIRST_ID, FIRST_ID]
        self._swept_at = self._checked_at = 0.0
        self._anew: dict[str, bytes] = {}  # by stream, the last position that was ahead of it
        self._unknown_sessions: set[str] = set()
        self._failed: set[str] = set()
        self._backpressure, self._waits_for = Backpressure(), ""
        self._has_backlog = False
        self._store: BarsStore
        self._bus: Bus
        self._streams: tuple[str, str]

    @property
    def problem(self) -> str | None:
        """Return what keeps symbols from being worked on, None if nothing does."""
        if self._waits_for:
            return f"waits: {self._waits_for}"
        if self._unknown_sessions:
            return f"no such session: {', '.join(sorted(self._unknown_sessions))[:100]}"
        if self._failed:
            return f"set aside after an error: {', '.join(sorted(self._failed))[:100]}"
        return None

    def reset(self) -> None:
        """Forget every symbol: what is stored is read anew, since nobody knows what a failed commit did."""
        self._followed.clear()
        self._in_force = ()

    async def follow(self) -> None:
        """Take over the symbols that are this instance's by now, and drop the others. Raises BusError.

        A symbol that was set aside is tried again whenever there is something to take over.
        """
        settings = self._settings_now()
        groups = settings.find_groups()
        mine = self._share.mine(groups)
        in_force = (settings, list_inputs(self._me.section), tuple(mine))
        if in_force == self._in_force:
            return
        if in_force[:2] != self._in_force[:2]:  # another truth: its limits and timeframes hold for all
            self._followed.clear()
            self._unknown_sessions.clear()
            self._connect()
        self._failed.clear()
        for symbol in self._followed.keys() - set(mine):
            del self._followed[symbol]
        new = {symbol: groups[symbol] for symbol in mine if symbol not in self._followed}
        await self._take_over(new)
        self._in_force = in_force
        self._metrics.symbols = len(self._followed)
        self._me.log.info("bars.follows", symbols=len(self._followed), new=len(new))

    async def read(self) -> list[Arrival]:
        """Return the next entries, after waiting for them for a moment. Raises BusError.

        While there are more than are read at once, return none if the readers of the results are too far
        behind to get what would come of them.
        """
        settings = self._settings_now().settings
        count = settings.batch
        if self._has_backlog and await self._must_wait(settings.keep):
            await self._me.rest(CHECK_SEC)
            return []
        async with self._me.waiting(BUS_SEC):
            found = await self._read_streams(count)
            if await self._has_begun_anew({stream for stream, entries in found if entries}):
                self.reset()
                return []
        self._has_backlog = any(len(entries) >= count for _, entries in found)
        for stream, entries in found:
            waited_sec = self._now() - entry_sort_key(entries[0].id)[0] / 1000 if entries else 0.0
            if len(entries) >= count or waited_sec > BEHIND_SEC:
                await self._report_trimmed(stream, self._upto[self._streams.index(stream)], entries[-1].id)
        return [arrival for stream, entries in found for arrival in self._list_arrivals(stream, entries)]

    async def _must_wait(self, keep: int) -> bool:
        """Return True if too many of the results are not acknowledged by a group. Raises BusError."""
        outputs = list_outputs(self._me.section)
        async with self._me.waiting(BUS_SEC):
            unread, group, stream = max(
                [
                    (*await count_unread(self._bus, stream), stream)
                    for stream in (outputs[CHECKED_BARS], outputs[INDICATORS])
                ]
            )
        must_wait = self._backpressure.must_wait(unread, keep, self._now())
        self._waits_for = f"the group {group} of {stream} has {unread:,} entries to read" if must_wait else ""
        return must_wait

    async def _has_begun_anew(self, busy: Collection[str]) -> bool:
        """Return True if a stream that is not busy was deleted since it was read. Raises BusError.

        The bus is asked every CHECK_SEC.
        """
        if 0 <= self._now() - self._checked_at < CHECK_SEC:
            return False
        self._checked_at = self._now()
        for place, stream in enumerate(self._streams):
            if stream not in busy and await has_begun_anew(self._bus, stream, self._upto[place]):
                self._upto[place] = FIRST_ID
                return True
        return False

    async def _read_streams(self, count: int) -> list[tuple[str, list[StreamEntry]]]:
        """Return about `count` entries of each stream that has new ones. Raises BusError."""
        positions: dict[Any, Any] = dict(zip(self._streams, self._upto, strict=True))
        reading = self._bus.client.xread(positions, count=count, block=round(1000 * BLOCK_SEC))
        try:
            reply: Any = await self._bus.ask(reading, BLOCK_SEC + self._bus.within_sec, max_bytes=REPLY_BYTES)
        except ReplyTooLongError:
            return [
                (stream, await read_entries_after(self._bus, stream, upto, count=CAREFUL_COUNT))
                for stream, upto in positions.items()
            ]
        return [
            (name.decode(), [make_stream_entry(ident, fields) for ident, fields in entries])
            for name, entries in reply or ()
        ]

    async def work(self, arrivals: Iterable[Arrival]) -> None:
        """Take entries into the bars of their symbols, and commit what came of them. Raises BusError."""
        touched = self._take(arrivals)
        now = self._now()
        now_ms = round(1000 * now)
        if not 0 <= now - self._swept_at < SWEEP_SEC:
            self._swept_at = now
            touched |= self._list_due(now_ms) | self._list_idle(now)
        await self._commit_all(touched, now_ms)
        self._metrics.finish_batch(1000 * self._now())

    def _connect(self) -> None:
        """Find the bus and the streams that the truth names. Raises BusError."""
        section = self._me.section
        bars, quotes = list_inputs(section)
        self._bus = self._me.bus(bars.bus)
        self._streams = (bars.key, quotes.key)
        self._store = BarsStore(self._bus, list_outputs(section), self._me.waiting)

    async def _take_over(self, groups: Mapping[str, SymbolGroup]) -> None:
        """Read the states of symbols, and go back to the first entry that one of them lacks."""
        codes = {symbol: group.find_session(symbol) for symbol, group in groups.items()}
        grids = {code: await self._open_grid(code) for code in set(codes.values())}
        known = [symbol for symbol in groups if grids[codes[symbol]] is not None]
        stored, read_at_ms = await self._store.load(known)
        newest = [await read_newest_id(self._bus, stream) for stream in self._streams] if known else []
        options = self._settings_now().settings
        for symbol in known:
            group, fields = groups[symbol], stored[symbol]
            grid = grids[codes[symbol]]
            if grid is None:
                continue
            try:
                state = restore_state(symbol, fields)
            except ValueError as error:
                self._me.log.warning("bars.state_unreadable", symbol=symbol, why=str(error))
                await self._store.discard(symbol)
                state, fields = SymbolState(symbol), {}
            self._drop_lost_positions(state, newest)
            state.epoch = max(state.epoch + 1, read_at_ms)
            try:
                builder = BarBuilder(state, group, grid, options, fields)
            except Exception as error:  # noqa: BLE001 - one symbol must not end the others
                self._set_aside(symbol, error)
                continue
            self._followed[symbol] = Followed(
                builder, [entry_sort_key(each) for each in state.positions], self._now()
            )
        if groups:
            self._rewind()
            for stream, upto in zip(self._streams, self._upto, strict=True):
                await self._report_trimmed(stream, upto)

    def _drop_lost_positions(self, state: SymbolState, newest: Sequence[bytes]) -> None:
        """Have a symbol read each stream from its start whose newest entry is older than its position."""
        for place, (stream, upto) in enumerate(zip(self._streams, state.positions, strict=True)):
            if entry_sort_key(newest[place]) < entry_sort_key(upto):
                state.positions[place] = FIRST_ID
                if self._anew.get(stream) != upto:
                    self._anew[stream] = upto
                    self._me.log.warning("bars.stream_anew", stream=stream, after=upto.decode())

    def _set_aside(self, symbol: str, error: Exception) -> None:
        """Log the error of a symbol's builder, and follow this symbol no longer.

        Its stored state stays as it is, with its position: nothing of it is lost when it is tried again.
        """
        self._me.log.error("bars.symbol_failed", symbol=symbol, exc_info=error)
        self._followed.pop(symbol, None)
        self._failed.add(symbol)

    async def _report_trimmed(self, stream: str, upto: bytes, newest: bytes | None = None) -> None:
        """Log it if `upto` and maybe entries after it were trimmed off a stream unread. Raises BusError.

        A stream that was trimmed exactly up to `upto` is reported too: nothing on the bus says whether an
        entry came between `upto` and the first one that is left, and a loss must not go unseen.
        `newest` is the last entry that was read after it, if some were: what is gone that came after this one
        is reported with the next read.
        """
        async with self._me.waiting(BUS_SEC):
            first = await read_entries_between(self._bus, stream, "-", "+", count=1)
            if not first or entry_sort_key(first[0].id) <= entry_sort_key(upto):
                return
            if newest is not None and entry_sort_key(first[0].id) > entry_sort_key(newest):
                return
            # the entry that was read last is gone itself, and maybe some that came right after it
            where = {"stream": stream, "after": upto.decode(), "upto": first[0].id.decode()}
            if upto != FIRST_ID:
                self._metrics.trimmed += 1
                self._me.log.error("bars.trimmed", **where)
                return
            # a symbol begins with what the stream has: nobody knows whether there was more of it
            info = await self._bus.ask(self._bus.client.xinfo_stream(stream))
            if (entries := info["entries-added"] - info["length"]) > 0:
                self._me.log.warning("bars.beginning_trimmed", stream=stream, entries=entries)

    def _rewind(self) -> None:
        """Go back to the first entry that a symbol lacks."""
        for place in range(len(KINDS)):
            upto = [each.builder.state.positions[place] for each in self._followed.values()]
            self._upto[place] = min(upto, key=entry_sort_key, default=self._upto[place])

    async def _open_grid(self, code: str) -> Grid | None:
        """Return the intervals of a session, None if there is no such session."""
        try:
            session = await self._calendars.find(code)
        except UnknownSessionError:
            self._unknown_sessions.add(code)
            return None
        self._me.progress()  # there may be many of them
        self._unknown_sessions.discard(code)
        return Grid(session)

    def _list_arrivals(self, stream: str, entries: Iterable[StreamEntry]) -> list[Arrival]:
        """Return the entries of a stream, and move the position behind them."""
        place = self._streams.index(stream)
        arrivals = []
        for entry in entries:
            self._upto[place] = entry.id
            if entry.fields is None:
                self._metrics.oversized += 1
                self._me.log.warning("bars.entry_too_large", stream=stream, entry=entry.id.decode())
            else:
                arrivals.append(Arrival(KINDS[place], entry.id, entry.fields))
        return arrivals

    def _take(self, arrivals: Iterable[Arrival]) -> dict[str, Followed]:
        """Take entries into their symbols; return the symbols that had any."""
        touched: dict[str, Followed] = {}
        now_ms = round(1000 * self._now())
        for arrival in arrivals:
            fields = arrival.fields
            symbol = fields.get(b"sym", b"").decode("utf-8", "replace")
            followed = self._followed.get(symbol)
            if followed is None:
                continue
            if fields.get(b"replay") == b"1" or fields.get(b"source") == b"replay":
                followed.record_time(fields, now_ms)
            place, position = KINDS.index(arrival.kind), entry_sort_key(arrival.id)
            if position <= followed.upto[place]:
                continue
            try:
                followed.builder.take(arrival)
            except Exception as error:  # noqa: BLE001 - one symbol must not end the others
                self._set_aside(symbol, error)
                touched.pop(symbol, None)
                continue
            followed.upto[place] = position
            followed.builder.state.positions[place] = arrival.id
            touched[symbol] = followed
            self._metrics.note_arrival(arrival.written_ms)
        return touched

    def _list_due(self, now_ms: int) -> dict[str, Followed]:
        """Return the symbols of which a bar is final by now that was not."""
        return {
            symbol: followed
            for symbol, followed in self._followed.items()
            if followed.builder.find_due(self._find_clock(followed, now_ms))
        }

    def _list_idle(self, now: float) -> dict[str, Followed]:
        """Return a page of symbols whose position is long behind what was read, after moving it there."""
        idle: dict[str, Followed] = {}
        read = [entry_sort_key(each) for each in self._upto]
        for symbol, followed in self._followed.items():
            if now - followed.committed_at < CHECKPOINT_SEC:
                continue
            # never back: while another symbol catches up, what is read is behind this one
            behind = [place for place in range(len(KINDS)) if followed.upto[place] < read[place]]
            for place in behind:
                followed.upto[place] = read[place]
                followed.builder.state.positions[place] = self._upto[place]
            if behind:
                idle[symbol] = followed
            if len(idle) == SYMBOLS_AT_ONCE:
                break
        return idle

    def _prepare(self, symbol: str, followed: Followed, now_ms: int) -> SymbolCommit | None:
        """Build what changed of a symbol; return what is to be committed, or None if that fails."""
        builder = followed.builder
        try:
            outputs = builder.flush(self._find_clock(followed, now_ms))
            fields, deleted = builder.pack_changes()
        except Exception as error:  # noqa: BLE001 - one symbol must not end the others
            self._set_aside(symbol, error)
            return None
        return SymbolCommit(symbol, builder.state.version, outputs, fields, deleted)

    async def _commit_all(self, touched: Mapping[str, Followed], now_ms: int) -> None:
        """Build what changed of these symbols, and commit it.

        In pages, so that the first symbols do not wait for the last, and beats are let through. A page ends
        early where an old correction changes thousands of indicators.
        """
        commits: list[SymbolCommit] = []
        entries = 0
        for symbol, followed in touched.items():
            commit = self._prepare(symbol, followed, now_ms)
            if commit is None:
                continue
            commits.append(commit)
            entries += len(commit.outputs)
            if len(commits) == SYMBOLS_AT_ONCE or entries >= ENTRIES_AT_ONCE:
                await self._commit(commits)
                self._me.progress()
                commits, entries = [], 0
        await self._commit(commits)

    async def _commit(self, commits: list[SymbolCommit]) -> None:
        """Commit, and forget the symbols that another instance has committed: they are read anew."""
        refused = await self._store.commit(commits, self._settings_now().settings)
        for each in commits:
            if each.symbol in refused:
                self._metrics.refused += 1
                self._me.log.info("bars.refused", symbol=each.symbol)
                del self._followed[each.symbol]
                self._in_force = (*self._in_force[:2], None)
                continue
            followed = self._followed[each.symbol]
            followed.committed_at = self._now()
            builder = followed.builder
            builder.state.version += 1
            self._metrics.count_committed(each.outputs, builder.counts, builder.findings)
            builder.counts.clear()
            builder.findings.clear()

    def _find_clock(self, followed: Followed, now_ms: int) -> int:
        """Return the time by which a symbol's bars are final: of a replay, how far it has played."""
        return followed.played_ms if followed.builder.state.is_replay else now_ms
