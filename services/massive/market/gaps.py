"""What of each symbol may be missing on the stream, and may be asked for by now. Pure.

A *mark* is the start of the newest bar up to which a symbol is whole: every bar until then is on the stream,
or never was. It is kept with the bars, so that who starts next knows what was missed. While a gap is open the
stream goes on, and the mark stands still: a process that is killed then finds the gap again.

Times are epoch milliseconds. The marks of one connection: whoever connects anew begins with those on the bus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.massive.market.bars import AHEAD_MS, MINUTE_MS, Bar

QUIET_MS = 10 * MINUTE_MS
"""A bar is told within seconds; what was not told so long after it would have been is not there."""

NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark that moves: `sym` is whole up to the bar that began at `upto`. It `was` there, or NOWHERE."""

    sym: str
    was: int
    upto: int


@dataclass(frozen=True, slots=True)
class Gap:
    """The bars of `sym` that began from `first` to `last`, with both. `cut`: more were missed than that."""

    sym: str
    first: int
    last: int
    cut: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether all that was missed is out of reach."""
        return self.first > self.last


@dataclass(slots=True)
class _Line:
    upto: int
    last: int | None = None  # of the open gap
    due: float = 0.0
    tries: int = 0


class Gaps:
    """The gaps of the symbols of one connection. `delay_ms`: how long after its end the API sends a bar."""

    def __init__(self, delay_ms: float, settle_ms: float, reach_ms: float) -> None:
        self._delay_ms, self._settle_ms, self._reach_ms = delay_ms, settle_ms, reach_ms
        self._lines: dict[str, _Line] = {}
        self._not_before = 0.0

    @property
    def open(self) -> int:
        """How many symbols have a gap."""
        return sum(line.last is not None for line in self._lines.values())

    def held(self, sym: str, mark: int | None, now_ms: float, asked_ms: float) -> Mark | None:
        """The bars of `sym` are told: since `asked_ms` or later. A mark to keep, if the bus had none.

        `mark` is the one that it had. What ended before now may have been told to nobody; our clock may be
        behind, so a little more. Of a new symbol all is owed that may have been told since we asked for it.
        """
        if mark is None:
            upto = self._ended(asked_ms - self._settle_ms)
            self._lines[sym] = _Line(upto)
            return Mark(sym, NOWHERE, upto)
        last = self._ended(now_ms + self._settle_ms)
        if mark > now_ms + AHEAD_MS:  # from a clock that was wrong: who knows what is there
            mark = int((now_ms - self._reach_ms) // MINUTE_MS) * MINUTE_MS - MINUTE_MS
        self._lines[sym] = line = _Line(mark)
        if last > mark:
            line.last, line.due = last, now_ms + 2 * self._settle_ms
        return None

    def heard(self, bars: Sequence[Bar]) -> list[Mark]:
        """Bars were told. The marks that these move, once they are on the stream."""
        newest: dict[str, int] = {}
        for bar in bars:
            line = self._lines.get(bar.sym)
            if line is not None and line.last is None and bar.start > line.upto:
                newest[bar.sym] = max(bar.start, newest.get(bar.sym, 0))
        return [self._move(sym, upto) for sym, upto in newest.items()]

    def quiet(self, now_ms: float) -> list[Mark]:
        """The marks that move because nothing was told: of what is hardly traded, and over a weekend."""
        upto = int((now_ms - self._delay_ms - QUIET_MS) // MINUTE_MS) * MINUTE_MS
        moved = [sym for sym, line in self._lines.items() if line.last is None and line.upto < upto]
        return [self._move(sym, upto) for sym in moved]

    def due(self, now_ms: float) -> list[Gap]:
        """The gaps that may be asked for now, the oldest first."""
        if now_ms < self._not_before:
            return []
        earliest = int((now_ms - self._reach_ms) // MINUTE_MS) * MINUTE_MS
        found = []
        for sym, line in self._lines.items():
            if line.last is not None and line.due <= now_ms:
                first = line.upto + MINUTE_MS
                found.append(Gap(sym, max(first, earliest), line.last, cut=first < earliest))
        return sorted(found, key=lambda gap: gap.first)

    def next_sec(self, now_ms: float) -> float | None:
        """In how many seconds something is due; `None` when there is no gap."""
        dues = [line.due for line in self._lines.values() if line.last is not None]
        return max(0.0, max(min(dues), self._not_before) - now_ms) / 1000 if dues else None

    def filled(self, gap: Gap) -> list[Mark]:
        """All that there is of it is on the stream. The mark that this moves; the next bar moves it on."""
        line = self._lines.get(gap.sym)
        if line is None or line.last != gap.last:
            return []  # no longer wanted, or held anew meanwhile
        line.last, line.tries = None, 0
        return [self._move(gap.sym, max(line.upto, gap.last))]

    def failed(self, gap: Gap, now_ms: float, pause_sec: float) -> None:
        """It could not be had; again after a pause, which the caller chose by `tries`."""
        line = self._lines.get(gap.sym)
        if line is not None:
            line.tries += 1
            line.due = now_ms + 1000 * pause_sec

    def put_off(self, now_ms: float, pause_sec: float) -> None:
        """They want to be asked for nothing at all for so long."""
        self._not_before = max(self._not_before, now_ms + 1000 * pause_sec)

    def tries(self, gap: Gap) -> int:
        """How often it failed in a row."""
        line = self._lines.get(gap.sym)
        return line.tries if line is not None else 0

    def forget(self, symbols: Sequence[str]) -> None:
        """These are no longer wanted; their marks stay on the bus."""
        for sym in symbols:
            self._lines.pop(sym, None)

    def _ended(self, at_ms: float) -> int:
        """The last bar that was due to be told by then."""
        return int((at_ms - self._delay_ms) // MINUTE_MS) * MINUTE_MS - MINUTE_MS

    def _move(self, sym: str, upto: int) -> Mark:
        line = self._lines[sym]
        was, line.upto = line.upto, upto
        return Mark(sym, was, upto)
