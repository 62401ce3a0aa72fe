"""Follow the symbols of this instance: read their entries, build their bars, and commit both in one step.

Each instance reads every entry of the streams and works on those of its own symbols. A symbol's state holds
the id of the last entry that is in it, and a commit that did not begin at the stored state is refused, so two
instances may believe for a moment that a symbol is theirs, and one that is killed anywhere has either
committed an entry with everything that came of it, or left it to the next.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any, Final

from marketswarm.agent import Agent
from marketswarm.bus import Bus, BusError
from marketswarm.bus.stream import FIRST_ID, entry_sort_key
from marketswarm.bus.stream_length import write_positions
from marketswarm.due_queue import NEVER, DueQueue
from marketswarm.keys import BARS_POSITIONS, CHECKED_BARS, INDICATORS, SOURCE_BARS
from marketswarm.pages import split_pages
from services.bars.bar_table import EARLIEST_MS, LATEST_MS
from services.bars.builder import BarBuilder
from services.bars.calendars import compute_session
from services.bars.metrics import BarsMetrics
from services.bars.outputs import Arrival
from services.bars.reader import CHECK_SEC, KINDS, ArrivalReader
from services.bars.settings import BarsSettings, SymbolGroup, list_inputs, list_outputs
from services.bars.state import SymbolState, restore_state
from services.bars.store import BUS_SEC, ENTRIES_AT_ONCE, BarsStore, SymbolCommit, count_unread
from services.market.fields import Fields
from services.market.intervals import Grid
from services.market.records import MINUTE_MS, RecordKind
from services.market.separate import split_source
from services.market.sessions import UnknownSessionError

CHECKPOINT_SEC: Final = 10.0
"""The least seconds after which the position of a symbol without new entries is committed."""
MAX_CHECKPOINT_SEC: Final = 90.0
"""The same of many symbols: one with a bar each minute is stored with its bars, and never without."""
CHECKPOINTS_PER_SEC: Final = 5
"""The symbols without new entries whose positions are committed in a second, before it takes longer."""
SWEEP_SEC: Final = 0.1
"""The time from one look for symbols that are due to the next; those with new entries are built at once."""
IDLE_AT_ONCE: Final = 200
"""The symbols without new entries that are looked at in one sweep, at most."""
POSITIONS_SEC: Final = 2.0
"""How often it is stored up to where all symbols of this instance are, for the writers of the streams."""
SYMBOLS_AT_ONCE: Final = 20
"""The symbols that are built, and then committed in one step."""
TAKEN_AT_ONCE: Final = 100
"""The symbols whose stored states are read, and in memory, at once."""
SHARE: Final = 0.5
"""The share of `keep` that may be unread; the rest is for what all instances write before they look again."""
JUMP_TOLD_SEC: Final = 4 * 86_400.0
"""How long beats say that a jump waits for the next bar: over a weekend, but not long after a delisting."""
PATIENCE_SEC: Final = 60.0
"""How long a group may acknowledge nothing before bars continues."""


def describe_jumps(states: Iterable[SymbolState], now: float) -> str | None:
    """Say which jumps of bars longer than a minute nothing has confirmed or refuted yet; None without any.

    A minute waits for the next one, a day until tomorrow: people hear of that. `now` is in epoch seconds.
    """
    found = [
        suspect.describe()
        for state in states
        for timeframe, suspect in state.suspects.items()
        if timeframe != "1m" and suspect.seen_ms > 1000 * (now - JUMP_TOLD_SEC)
    ]
    return f"waits for a second word on a jump: {', '.join(found)[:150]}" if found else None


@dataclass(slots=True)
class Followed:
    """Hold a symbol of this instance.

    `builder` builds its bars, `upto` is the last entry of each stream that is in them, and `stored` the id of
    the one that was when it was committed last, at `committed_at` (monotonic seconds); `stored_upto` are
    the same ids to compare. `played_ms` is how far a replay has played this symbol, in epoch milliseconds:
    the reels of one recording may be years apart, so each symbol has a time of its own.
    """

    builder: BarBuilder
    upto: list[tuple[int, int]]
    committed_at: float
    stored: list[bytes]
    stored_upto: tuple[tuple[int, int], ...]
    played_ms: int = EARLIEST_MS

    def record_time(self, fields: Fields, now_ms: int) -> None:
        """Take the time from an entry of a replay: when it was played, or when its minute was over."""
        try:
            played_ms = round(1000 * float(fields.get(b"played_at", b"0")[:32]))
            played_ms = played_ms or int(fields.get(b"start", b"0")[:16]) + MINUTE_MS
        except (ValueError, OverflowError):  # no time; the builder quarantines the entry
            return
        # nothing was recorded that is yet to come
        self.played_ms = max(self.played_ms, min(played_ms, now_ms))


def _group_by_symbol(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return by symbol the names of its bars of one source, such as `SPY@massive`."""
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        symbol, source = split_source(name)
        if source is not None:
            found[symbol] = (*found.get(symbol, ()), name)
    return found


def find_checkpoint_sec(symbols: int) -> float:
    """Return the seconds after which the position of a symbol without new entries is committed."""
    return min(max(CHECKPOINT_SEC, symbols / CHECKPOINTS_PER_SEC), MAX_CHECKPOINT_SEC)


class DueSymbols:
    """Find the symbols of which a bar is final by now, without a look at each one.

    The bars of a live symbol are final by the clock, so it is in a queue by that time. A replay's time moves
    with its entries, so only the symbols that were played since the last look are looked at.
    """

    def __init__(self) -> None:
        self._queue = DueQueue()
        self._played: dict[str, None] = {}

    def clear(self) -> None:
        self._queue = DueQueue()
        self._played.clear()

    def add_played(self, symbol: str) -> None:
        self._played[symbol] = None

    def schedule(self, symbol: str, due_ms: int) -> None:
        """Note when a symbol is due, LATEST_MS for never."""
        self._queue.put(symbol, NEVER if due_ms == LATEST_MS else due_ms)

    def take(self, followed: Collection[str], now_ms: int) -> list[str]:
        """Return the symbols to look at, and remove them; each is scheduled again when it is committed."""
        found, self._played = self._played, {}
        found.update(dict.fromkeys(self._queue.take(now_ms)))
        return [symbol for symbol in found if symbol in followed]


class Backpressure:
    """Watch how many entries the slowest group has not acknowledged, while bars works on a history.

    A first load brings more entries than a stream keeps. Published as fast as bars builds them, the oldest
    would be trimmed off before archive has stored them. A group that acknowledges nothing for a while does
    not stop bars: what is trimmed off then, its reader counts as lost.
    """

    def __init__(self) -> None:
        self._fewest: int | None = None
        self._progress_at = 0.0

    def must_wait(self, unread: int, keep: int, now: float) -> bool:
        """Return True if nothing more should be published now."""
        if unread <= keep * SHARE:
            self._fewest = None
            return False
        if self._fewest is None or unread < self._fewest:
            self._fewest, self._progress_at = unread, now
        return 0 <= now - self._progress_at < PATIENCE_SEC


class BarsWorker:
    """Build the bars of the symbols that are this instance's."""

    def __init__(
        self, me: Agent[Any], settings_now: Callable[[], BarsSettings], metrics: BarsMetrics
    ) -> None:
        self._me, self._settings_now, self._metrics = me, settings_now, metrics
        self._share = me.share()
        self._followed: dict[str, Followed] = {}
        """The symbols of this instance, in the order in which they were committed last."""
        self._due = DueSymbols()
        self._suspicious: set[str] = set()  # of which a jump waits to be confirmed
        self._groups: Mapping[str, SymbolGroup] = {}
        self._separate: Mapping[str, tuple[str, ...]] = {}  # by symbol, the names of its bars of one source
        self._grouped_by: BarsSettings | None = None
        self._looked_at = float("-inf")
        self._in_force: tuple[object, ...] = ()
        self._reader = ArrivalReader(me, metrics)
        self._swept_at, self._positions_at = 0.0, float("-inf")
        self._anew: dict[str, bytes] = {}  # by stream, the last position that was ahead of it
        self._unknown_sessions: set[str] = set()
        self._failed: set[str] = set()
        self._backpressure, self._waits_for = Backpressure(), ""
        self._store: BarsStore
        self._bus: Bus

    @property
    def problem(self) -> str | None:
        """Return what keeps symbols from being worked on, None if nothing does."""
        if self._waits_for:
            return f"waits: {self._waits_for}"
        if self._reader.types.problem:
            return self._reader.types.problem
        if self._unknown_sessions:
            return f"no such session: {', '.join(sorted(self._unknown_sessions))[:100]}"
        if self._failed:
            return f"set aside after an error: {', '.join(sorted(self._failed))[:100]}"
        suspicious = [self._followed[each] for each in sorted(self._suspicious) if each in self._followed]
        return describe_jumps((each.builder.state for each in suspicious), time.time())

    def reset(self, error: BusError | None = None) -> None:
        """Drop every symbol, so that its state is read again: a commit that failed may have been done.

        `error` is the failure of the bus that is the reason.
        """
        if error is not None:
            self._reader.types.record(error)
        self._clear()
        self._in_force = ()

    def _clear(self) -> None:
        self._followed.clear()
        self._due.clear()
        self._suspicious.clear()
        self._looked_at = float("-inf")

    async def process_next(self) -> bool:
        """Read the next entries and commit what comes of them; return True if there were any.

        Raises BusError. Afterwards, call `reset`.
        """
        try:
            await self._update_symbols()
            arrivals = await self._read_next()
            await self._process(arrivals)
            await self._store_positions()
        except TimeoutError:
            # several requests together took longer than BUS_SEC, each less than its own limit
            raise BusError(self._bus.name, "timeout") from None
        return bool(arrivals)

    async def _update_symbols(self) -> None:
        """Take over the symbols that are this instance's by now, and drop the others. Raises BusError.

        A symbol that was set aside is tried again whenever there is something to take over.
        """
        settings, now = self._settings_now(), time.monotonic()
        if settings is not self._grouped_by:
            self._grouped_by = settings
            self._groups = settings.find_groups() | settings.find_separate_groups()
            self._separate = _group_by_symbol(self._groups)
        elif now - self._looked_at < SWEEP_SEC:  # ten thousand symbols are not compared with each read
            return
        groups = self._groups
        mine = self._share.mine(groups)
        in_force = (settings, list_inputs(self._me.section), tuple(mine))
        if in_force == self._in_force:
            self._looked_at = now
            return
        if in_force[:2] != self._in_force[:2]:  # another truth: its limits and timeframes hold for all
            self._clear()
            self._unknown_sessions.clear()
            inputs = in_force[1]
            self._bus = self._me.bus(inputs[0].bus)
            self._reader.open(self._bus, [each.key for each in inputs])
            self._store = BarsStore(self._bus, list_outputs(self._me.section), self._me.waiting)
        self._failed.clear()
        for symbol in self._followed.keys() - set(mine):
            del self._followed[symbol]
        new = {symbol: groups[symbol] for symbol in mine if symbol not in self._followed}
        await self._take_over(new)
        self._in_force = in_force
        self._metrics.symbols = len(self._followed)
        self._me.log.info("bars.symbols_assigned", symbols=len(self._followed), new=len(new))

    async def _read_next(self) -> list[Arrival]:
        """Return the next entries, after waiting for them for a moment. Raises BusError.

        While there are more than are read at once, return none if the readers of the results are too far
        behind to get what would come of them.
        """
        settings = self._settings_now().settings
        if self._reader.has_backlog and await self._must_wait(settings.keep):
            await self._me.rest(CHECK_SEC)
            return []
        arrivals = await self._reader.read(settings.batch)
        if arrivals is None:
            self.reset()
        return arrivals or []

    async def _must_wait(self, keep: int) -> bool:
        """Return True if too many of the results are not acknowledged by a group. Raises BusError."""
        outputs = list_outputs(self._me.section)
        async with self._me.waiting(BUS_SEC):
            unread, group, stream = max(
                [
                    (*await count_unread(self._bus, stream), stream)
                    for stream in (outputs[CHECKED_BARS], outputs[SOURCE_BARS], outputs[INDICATORS])
                ]
            )
        must_wait = self._backpressure.must_wait(unread, keep, time.time())
        self._waits_for = f"the group {group} of {stream} has {unread:,} entries to read" if must_wait else ""
        return must_wait

    async def _process(self, arrivals: Iterable[Arrival]) -> None:
        """Take entries into the bars of their symbols, and commit what came of them. Raises BusError."""
        touched = self._take(arrivals)
        now = time.time()
        now_ms = round(1000 * now)
        if not 0 <= now - self._swept_at < SWEEP_SEC:
            self._swept_at = now
            for symbol in self._due.take(self._followed, now_ms):
                followed = self._followed[symbol]
                if followed.builder.find_due(self._find_clock(followed, now_ms)):
                    touched[symbol] = followed
                else:
                    self._schedule(symbol, followed)
            touched |= self._list_idle(time.monotonic())
        await self._commit_all(touched, now_ms)
        self._metrics.finish_batch(1000 * time.time())

    async def _store_positions(self) -> None:
        """Store up to where every symbol of this instance is stored, now and then. Raises BusError.

        Writers trim the streams by that: what a symbol may still need after a restart stays.
        """
        now = time.monotonic()
        if not self._followed or now - self._positions_at < POSITIONS_SEC:
            return
        self._positions_at = now
        slowest = [
            min(self._followed.values(), key=lambda each: each.stored_upto[place]).stored[place]
            for place in range(len(KINDS))
        ]
        positions = dict(zip(self._reader.streams, slowest, strict=True))
        async with self._me.waiting(BUS_SEC):
            await write_positions(self._bus, BARS_POSITIONS, self._me.boot, positions, time.time())

    async def _take_over(self, groups: Mapping[str, SymbolGroup]) -> None:
        """Read the states of symbols, and go back to the first entry that one of them lacks."""
        codes = {symbol: group.find_session(symbol) for symbol, group in groups.items()}
        found = {code: await self._open_grid(code) for code in set(codes.values())}
        grids = {symbol: grid for symbol, code in codes.items() if (grid := found[code]) is not None}
        for page in split_pages(grids, TAKEN_AT_ONCE):
            await self._restore_page({symbol: (groups[symbol], grids[symbol]) for symbol in page})
            self._me.progress()  # ten thousand states take longer than the watchdog waits
        if self._followed and groups:
            first = zip(*(each.builder.state.positions for each in self._followed.values()), strict=True)
            await self._reader.rewind(min(each, key=entry_sort_key) for each in first)

    async def _restore_page(self, symbols: Mapping[str, tuple[SymbolGroup, Grid]]) -> None:
        """Follow some symbols by their stored states. Raises BusError."""
        stored, read_at_ms = await self._store.load(list(symbols))
        # after the states: positions of other instances move on, and must not seem ahead of the stream
        newest, options = await self._reader.read_newest(), self._settings_now().settings
        for symbol, (group, grid) in symbols.items():
            fields = stored[symbol]
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
            upto = [entry_sort_key(each) for each in state.positions]
            stored_at, positions = time.monotonic(), list(state.positions)
            followed = Followed(builder, upto, stored_at, positions, tuple(upto))
            self._followed[symbol] = followed
            self._due.add_played(symbol)  # a bar may be due since it was stored
            self._find_suspects(symbol, followed)

    def _drop_lost_positions(self, state: SymbolState, newest: Mapping[str, bytes]) -> None:
        """Have a symbol read each stream from its start whose newest entry is older than its position."""
        for place, stream in enumerate(self._reader.streams):
            upto = state.positions[place]
            if stream in newest and entry_sort_key(newest[stream]) < entry_sort_key(upto):
                state.positions[place] = FIRST_ID
                if self._anew.get(stream) != upto:
                    self._anew[stream] = upto
                    self._me.log.warning("bars.stream_recreated", stream=stream, after=upto.decode())

    def _set_aside(self, symbol: str, error: Exception) -> None:
        """Log the error of a symbol's builder, and follow this symbol no longer.

        Its stored state stays as it is, with its position: nothing of it is lost when it is tried again.
        """
        self._me.log.error("bars.symbol_failed", symbol=symbol, exc_info=error)
        self._followed.pop(symbol, None)
        self._failed.add(symbol)

    async def _open_grid(self, code: str) -> Grid | None:
        """Return the intervals of a session, None if there is no such session."""
        try:
            session = await compute_session(code)
        except UnknownSessionError:
            self._unknown_sessions.add(code)
            return None
        self._me.progress()  # there may be many of them
        self._unknown_sessions.discard(code)
        return Grid(session)

    def _take(self, arrivals: Iterable[Arrival]) -> dict[str, Followed]:
        touched: dict[str, Followed] = {}
        now_ms = round(1000 * time.time())
        for arrival in arrivals:
            fields = arrival.fields
            symbol = fields.get(b"sym", b"").decode("utf-8", "replace")
            # a split is of the symbol, and so of all of its bars
            others = self._separate.get(symbol, ()) if arrival.kind is RecordKind.ACTIONS else ()
            for name in (symbol, *others):
                if (followed := self._followed.get(name)) is not None:
                    self._take_one(name, followed, arrival, touched, now_ms)
        return touched

    def _take_one(
        self, symbol: str, followed: Followed, arrival: Arrival, touched: dict[str, Followed], now_ms: int
    ) -> None:
        """Take an entry into the bars of one symbol, and it to `touched`, unless they have the entry."""
        fields = arrival.fields
        if fields.get(b"replay") == b"1" or fields.get(b"source") == b"replay":
            followed.record_time(fields, now_ms)
            self._due.add_played(symbol)
        place, position = KINDS.index(arrival.kind), entry_sort_key(arrival.id)
        if position <= followed.upto[place]:
            return
        try:
            followed.builder.take(arrival)
        except Exception as error:  # noqa: BLE001 - one symbol must not end the others
            self._set_aside(symbol, error)
            touched.pop(symbol, None)
            return
        followed.upto[place] = position
        followed.builder.state.positions[place] = arrival.id
        touched[symbol] = followed
        self._metrics.arrived.append(arrival.written_ms)

    def _schedule(self, symbol: str, followed: Followed) -> None:
        """Have a symbol looked at when the next of its bars is final by the clock."""
        builder = followed.builder
        self._due.schedule(symbol, LATEST_MS if builder.state.is_replay else builder.due_ms)

    def _find_suspects(self, symbol: str, followed: Followed) -> None:
        if followed.builder.state.suspects:
            self._suspicious.add(symbol)
        else:
            self._suspicious.discard(symbol)

    def _list_idle(self, now: float) -> dict[str, Followed]:
        """Return a page of symbols whose position is long behind what was read, after moving it there.

        `now` is in monotonic seconds. What is not behind is stored as it is, and counts as committed now.
        """
        idle: dict[str, Followed] = {}
        positions = self._reader.positions
        read = [entry_sort_key(each) for each in positions]
        after_sec = find_checkpoint_sec(len(self._followed))
        waiting = takewhile(lambda pair: now - pair[1].committed_at >= after_sec, self._followed.items())
        for symbol, followed in list(islice(waiting, IDLE_AT_ONCE)):
            # never back: while another symbol catches up, what is read is behind this one
            behind = [place for place in range(len(KINDS)) if followed.upto[place] < read[place]]
            for place in behind:
                followed.upto[place] = read[place]
                followed.builder.state.positions[place] = positions[place]
            if behind:
                idle[symbol] = followed
            else:
                followed.committed_at = now
                self._followed[symbol] = self._followed.pop(symbol)
            if len(idle) == SYMBOLS_AT_ONCE:
                break
        return idle

    async def _commit_all(self, touched: Mapping[str, Followed], now_ms: int) -> None:
        """Build what changed of these symbols, and commit it.

        In pages, so that the first symbols do not wait for the last, and beats are let through. A page ends
        early where an old correction changes thousands of indicators.
        """
        commits: list[SymbolCommit] = []
        entries = 0
        for symbol, followed in touched.items():
            builder = followed.builder
            try:
                outputs = builder.flush(self._find_clock(followed, now_ms))
                fields, deleted = builder.pack_changes()
            except Exception as error:  # noqa: BLE001 - one symbol must not end the others
                self._set_aside(symbol, error)
                continue
            commits.append(SymbolCommit(symbol, builder.state.version, outputs, fields, deleted))
            entries += len(outputs)
            if len(commits) == SYMBOLS_AT_ONCE or entries >= ENTRIES_AT_ONCE:
                await self._commit(commits)
                self._me.progress()
                commits, entries = [], 0
        await self._commit(commits)

    async def _commit(self, commits: list[SymbolCommit]) -> None:
        """Commit, and forget the symbols that another instance has committed: they are read again."""
        refused = await self._store.commit(commits, self._settings_now().settings)
        for each in commits:
            if each.symbol in refused:
                self._metrics.refused_total += 1
                self._me.log.info("bars.refused", symbol=each.symbol)
                del self._followed[each.symbol]
                self._in_force, self._looked_at = (*self._in_force[:2], None), float("-inf")
                continue
            followed = self._followed[each.symbol] = self._followed.pop(each.symbol)  # the last one now
            builder = followed.builder
            followed.committed_at = time.monotonic()
            followed.stored, followed.stored_upto = list(builder.state.positions), tuple(followed.upto)
            self._schedule(each.symbol, followed)
            self._find_suspects(each.symbol, followed)
            builder.state.version += 1
            self._metrics.count_committed(each.outputs, builder.counts, builder.findings)
            builder.counts.clear()
            builder.findings.clear()

    def _find_clock(self, followed: Followed, now_ms: int) -> int:
        """Return the time by which a symbol's bars are final: of a replay, how far it has played."""
        return followed.played_ms if followed.builder.state.is_replay else now_ms
