"""Track which bars of each symbol may be missing on the stream, and when to request them. Pure.

A *mark* is the start of the newest bar up to which a symbol is complete: each bar until then is on the
stream, or never existed. Marks are stored beside the bars, so that the next process knows what was missed.
While a symbol has an open gap, newer bars are still published, but its mark stands still: a process that is
killed in between finds the gap again.

What is on the stream may change, too: the API has some bars late, and corrects others. So all that may still
change is requested again each hour, symbol by symbol.

Times are epoch milliseconds. A `GapTracker` serves one connection; the next connection makes a new one from
the marks that are stored on the bus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.market.massive import MAX_AHEAD_MS, UnreadBar
from services.market.records import MINUTE_MS, Bar

REVISE_EVERY_SEC = 3000.0
"""How often REST is asked for all bars of a symbol that may still change: at least once an hour."""
QUIET_MS = 10 * MINUTE_MS
"""The API sends a bar within seconds of its end; a bar that is missing after this time does not exist."""

NO_MARK = -1


@dataclass(frozen=True, slots=True)
class Mark:
    """Hold the new value of a mark: `sym` is complete up to the bar that began at `upto`.

    `previous` is the old value, NO_MARK if the symbol had none.
    """

    sym: str
    previous: int
    upto: int


@dataclass(frozen=True, slots=True)
class MissingBars:
    """Hold the missing bars of `sym`, which began from `first` to `last`, both included.

    `truncated` is True if more bars are missing than may be requested; `first` is after `last` if all are.
    """

    sym: str
    first: int
    last: int
    truncated: bool = False


class _ClockLook:
    """Measure how far the wall clock was set back since it was looked at last.

    What waits until a time is due earlier by as much: it waits neither longer than it was to, nor shorter.
    """

    def __init__(self) -> None:
        self._at_ms = 0.0

    def find_step_back(self, now_ms: float) -> float:
        """Return by how many milliseconds `now_ms` is before the last look, 0 if it is not; note this one."""
        step_ms, self._at_ms = max(0.0, self._at_ms - now_ms), now_ms
        return step_ms


@dataclass(slots=True)
class _SymbolState:
    """Hold a symbol's mark `upto`, and its open gap.

    The gap ends at `gap_end` (None: no gap) and may be requested from `due_ms` on; `failures` counts its
    failed requests. It begins after the mark, or at the bar `first_ms` if that is earlier.
    """

    upto: int
    gap_end: int | None = None
    first_ms: int | None = None
    due_ms: float = 0.0
    failures: int = 0


class GapTracker:
    """Track the marks and gaps of all symbols of one connection.

    Args:
        delay_ms: how long after its end the API sends a bar.
        settle_ms: how long a bar is left to become final, and how far our clock may be off.
        max_age_ms: how far back bars may be requested.
    """

    def __init__(self, delay_ms: float, settle_ms: float, max_age_ms: float) -> None:
        self._delay_ms, self._settle_ms, self._max_age_ms = delay_ms, settle_ms, max_age_ms
        self._symbols: dict[str, _SymbolState] = {}
        self._paused_until_ms = 0.0
        self._look = _ClockLook()

    @property
    def open_count(self) -> int:
        """How many symbols have a gap; another thread may read this."""
        return sum(state.gap_end is not None for state in self._symbols.copy().values())

    def start_symbol(self, sym: str, mark: int | None, now_ms: float, requested_ms: float) -> Mark | None:
        """Begin to track `sym`, whose bars the API sends from now on; return its first mark if it had none.

        `mark` is the stored one, if any. Bars that ended between it and now were missed; since our clock may
        be behind, a little later counts as now. Without a mark no bar before `requested_ms`, when the symbol
        was requested, is missing.
        """
        self._follow_clock(now_ms)
        if mark is None:
            upto = self._last_sent_bar(requested_ms - self._settle_ms)
            self._symbols[sym] = _SymbolState(upto)
            return Mark(sym, NO_MARK, upto)
        last = self._last_sent_bar(now_ms + self._settle_ms)
        # stored by a process whose clock was wrong: request all there may be
        if mark > now_ms + MAX_AHEAD_MS:
            mark = int((now_ms - self._max_age_ms) // MINUTE_MS) * MINUTE_MS - MINUTE_MS
        self._symbols[sym] = state = _SymbolState(mark)
        if last > mark:
            state.gap_end, state.due_ms = last, now_ms + 2 * self._settle_ms
        return None

    def open_gap(self, bar: UnreadBar, now_ms: float) -> None:
        """Have a bar requested that came and could not be read; if it names no start, the last one there is.

        A gap that is open becomes longer, and is due when it was. The stored mark of an older bar than that
        stays where it is: a process that is killed before the gap is closed leaves it to the next revision.
        """
        self._follow_clock(now_ms)
        state = self._symbols.get(bar.symbol)
        if state is None:
            return
        start = self._last_sent_bar(now_ms + self._settle_ms) if bar.start_ms is None else bar.start_ms
        if state.gap_end is None:
            state.gap_end, state.due_ms = start, now_ms + 2 * self._settle_ms
        state.gap_end = max(state.gap_end, start)
        state.first_ms = start if state.first_ms is None else min(state.first_ms, start)

    def record_bars(self, bars: Sequence[Bar]) -> list[Mark]:
        """Move the marks of symbols without a gap to their newest streamed bars; return these marks.

        Store them only when the bars are on the stream.
        """
        newest: dict[str, int] = {}
        for bar in bars:
            state = self._symbols.get(bar.symbol)
            if state is not None and state.gap_end is None and bar.start_ms > state.upto:
                newest[bar.symbol] = max(bar.start_ms, newest.get(bar.symbol, 0))
        return [self._move_mark(sym, upto) for sym, upto in newest.items()]

    def advance_quiet(self, now_ms: float) -> list[Mark]:
        """Move and return the marks of symbols without a gap whose bars are missing for QUIET_MS.

        Such symbols are hardly traded, or the market is closed.
        """
        upto = int((now_ms - self._delay_ms - QUIET_MS) // MINUTE_MS) * MINUTE_MS
        moved = [sym for sym, state in self._symbols.items() if state.gap_end is None and state.upto < upto]
        return [self._move_mark(sym, upto) for sym in moved]

    def due_gaps(self, now_ms: float) -> list[MissingBars]:
        """Return the gaps that may be requested now, the oldest first; none while requests are paused."""
        if self._is_paused(now_ms):
            return []
        earliest = int((now_ms - self._max_age_ms) // MINUTE_MS) * MINUTE_MS
        found = []
        for sym, state in self._symbols.items():
            if state.gap_end is not None and state.due_ms <= now_ms:
                after = state.upto + MINUTE_MS
                first = after if state.first_ms is None else min(after, state.first_ms)
                found.append(
                    MissingBars(sym, max(first, earliest), state.gap_end, truncated=first < earliest)
                )
        return sorted(found, key=lambda gap: gap.first)

    def list_complete(self, now_ms: float) -> dict[str, int]:
        """Return the marks of symbols without a gap; none while requests are paused."""
        if self._is_paused(now_ms):
            return {}
        return {sym: state.upto for sym, state in self._symbols.items() if state.gap_end is None}

    def close_gap(self, gap: MissingBars) -> list[Mark]:
        """Close a gap whose bars are all on the stream; return the mark that this moves.

        Nothing happens if the symbol was removed or restarted since the gap was requested, or the gap has
        become longer.
        """
        state = self._symbols.get(gap.sym)
        if state is None or state.gap_end != gap.last:
            return []
        if state.first_ms is not None and state.first_ms < gap.first and not gap.truncated:
            return []
        state.gap_end, state.first_ms, state.failures = None, None, 0
        return [self._move_mark(gap.sym, gap.last)] if gap.last > state.upto else []

    def postpone_gap(self, gap: MissingBars, now_ms: float, pause_sec: float) -> None:
        """Record that the request for a gap failed; it is due again after `pause_sec`."""
        self._follow_clock(now_ms)
        state = self._symbols.get(gap.sym)
        if state is not None:
            state.failures += 1
            state.due_ms = now_ms + 1000 * pause_sec

    def pause_requests(self, now_ms: float, pause_sec: float) -> None:
        """Let no gap be due for `pause_sec` after `now_ms`, because the API refuses all requests."""
        self._follow_clock(now_ms)
        self._paused_until_ms = max(self._paused_until_ms, now_ms + 1000 * pause_sec)

    def failures(self, gap: MissingBars) -> int:
        state = self._symbols.get(gap.sym)
        return state.failures if state is not None else 0

    def remove_symbols(self, symbols: Sequence[str]) -> None:
        """Stop tracking symbols; their marks stay on the bus."""
        for sym in symbols:
            self._symbols.pop(sym, None)

    def _is_paused(self, now_ms: float) -> bool:
        self._follow_clock(now_ms)
        return now_ms < self._paused_until_ms

    def _follow_clock(self, now_ms: float) -> None:
        if step_ms := self._look.find_step_back(now_ms):
            self._paused_until_ms -= step_ms
            for state in self._symbols.values():
                state.due_ms -= step_ms

    def _last_sent_bar(self, at_ms: float) -> int:
        """Return the start of the last bar that the API should have sent by `at_ms`."""
        return int((at_ms - self._delay_ms) // MINUTE_MS) * MINUTE_MS - MINUTE_MS

    def _move_mark(self, sym: str, upto: int) -> Mark:
        state = self._symbols[sym]
        previous, state.upto = state.upto, upto
        return Mark(sym, previous, upto)


class RevisionSchedule:
    """Decide whose known bars are requested again, and when; it serves all connections of a process.

    A symbol is due at once when it is new here: nobody knows when it was requested last.
    """

    def __init__(self) -> None:
        self._due_ms: dict[str, float] = {}
        self._look = _ClockLook()

    def find_due(self, marks: Mapping[str, int], now_ms: float, revise_ms: float) -> list[MissingBars]:
        """Return the bars to request now, from `revise_ms` ago up to the mark of each symbol in `marks`.

        The one that waits longest is first.
        """
        first = int((now_ms - revise_ms) // MINUTE_MS) * MINUTE_MS
        self._follow_clock(now_ms)
        times = {sym: self._due_ms.get(sym, 0.0) for sym in marks}
        due = sorted((sym for sym in marks if times[sym] <= now_ms), key=times.__getitem__)
        return [MissingBars(sym, first, marks[sym]) for sym in due if first <= marks[sym]]

    def postpone(self, sym: str, now_ms: float, pause_sec: float = REVISE_EVERY_SEC) -> None:
        """Have a symbol due again after a pause: by default the usual one, after its bars were published."""
        self._follow_clock(now_ms)
        self._due_ms[sym] = now_ms + 1000 * pause_sec

    def _follow_clock(self, now_ms: float) -> None:
        if step_ms := self._look.find_step_back(now_ms):
            self._due_ms = {sym: due_ms - step_ms for sym, due_ms in self._due_ms.items()}
