"""Publish bars of a symbol that changed or became final, and the indicators that follow from them. Pure."""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from typing import NamedTuple

from services.bars.bar_table import EARLIEST_MS, LATEST_MS, BarTable, Slot
from services.bars.corrections import BarKey, RestatementFinder, is_correction
from services.bars.indicators import IndicatorSeries, Values
from services.bars.live_indicators import LiveIndicators
from services.bars.outputs import EntryEncoder, Outputs
from services.bars.quality import HeldBar
from services.bars.settings import SymbolGroup
from services.bars.splits import SplitView
from services.bars.state import DAILY, OpenBar, SymbolState, past_field, series_field
from services.market.fields import Fields
from services.market.intervals import Grid
from services.market.records import PERIODS, TIMEFRAMES, Provenance, Timeframe

Origins = dict[int, Provenance]
"""By the start of a bar, where its last change came from."""
Changed = dict[Timeframe, Origins]
"""The bars that changed, by timeframe."""


class FinalDays(NamedTuple):
    """Hold the starts of the days that are final and new or changed, and which of these correct nothing."""

    starts: list[int]
    restated: set[int]


class BarPublisher:
    """Decide which bars and indicators of one symbol are published, with their revisions."""

    def __init__(
        self,
        state: SymbolState,
        group: SymbolGroup,
        grid: Grid,
        splits: SplitView,
        encoder: EntryEncoder,
        *,
        stored: Fields,
    ) -> None:
        self._state, self._group, self._grid, self._encoder = state, group, grid, encoder
        self._splits = splits
        self.live_indicators = {
            timeframe: LiveIndicators(
                state.tables[timeframe],
                splits,
                partial(IndicatorSeries, timeframe, grid.session, group.indicators),
                *(stored.get(name(timeframe).encode(), b"") for name in (series_field, past_field)),
            )
            for timeframe in (group.timeframes if group.indicators else ())
        }
        # what was stored of a timeframe whose bars may change now without its indicators
        self._outdated = [
            name(timeframe)
            for timeframe in TIMEFRAMES
            for name in (series_field, past_field)
            if timeframe not in self.live_indicators and name(timeframe).encode() in stored
        ]
        self._open_values: dict[tuple[Timeframe, int], Values] = {}
        self._has_new_day = False
        self._final_days = FinalDays([], set())
        self._moved_splits: set[date] = set()
        self._replaced: dict[BarKey, HeldBar] = {}
        """The bars that were final and are others now, as they were before."""
        self._restated: set[BarKey] = set()
        """Those of them that correct nothing."""
        self._restatements = RestatementFinder(state, splits)
        self.find_first_close()

    def note_replaced(self, timeframe: Timeframe, start_ms: int, held: HeldBar | None) -> None:
        """Note the shown bar that was published last and that another one replaces now.

        So the next `publish` sees if that corrects it.
        """
        key = timeframe, start_ms
        if held is not None and key not in self._state.open_bars:  # only of a final one is that asked
            self._replaced.setdefault(key, held)

    def note_rebuilt(
        self, timeframe: Timeframe, start_ms: int, held: HeldBar | None, *, is_restated: bool
    ) -> None:
        """Note the same of a bar that is built of others: `is_restated` if none is new or corrected."""
        self.note_replaced(timeframe, start_ms, held)
        if is_restated:
            self._restated.add((timeframe, start_ms))
        else:
            self._restated.discard((timeframe, start_ms))

    def find_restated(self) -> set[BarKey]:
        """Return the bars that correct nothing of those that were replaced since the last `publish`."""
        tables = self._state.tables
        self._restated = self._restatements.find(
            {
                (timeframe, start_ms): (before, held)
                for (timeframe, start_ms), before in self._replaced.items()
                if (held := tables[timeframe][start_ms].shown) is not None
            }
        )
        return set(self._restated)

    def publish(
        self, timeframes: Sequence[Timeframe], changed: Changed, border_ms: int, outputs: Outputs
    ) -> FinalDays:
        """Add the entries of the bars that changed, which are no longer changed then, and of those now final.

        All intervals that end at `border_ms` or before have ended. Return the days among them that are final.
        """
        self._final_days = FinalDays([], set())
        self._apply_splits()
        due: dict[Timeframe, list[int]] = {timeframe: [] for timeframe in timeframes}
        for (timeframe, start_ms), each in self._state.open_bars.items():
            is_due = timeframe in due and each.close_ms <= border_ms
            if is_due and start_ms not in changed[timeframe]:
                due[timeframe].append(start_ms)
        for timeframe in timeframes:
            live = self.live_indicators.get(timeframe)
            if changed[timeframe] or due[timeframe] or (live is not None and live.is_outdated):
                self._publish(timeframe, changed[timeframe], due[timeframe], border_ms, outputs)
        self.find_first_close()
        return self._final_days

    def is_outdated(self, timeframes: Sequence[Timeframe]) -> bool:
        """Return True if indicators of one of these timeframes are to be computed anew."""
        return any(live.is_outdated for name, live in self.live_indicators.items() if name in timeframes)

    def _apply_splits(self) -> None:
        """Have indicators and features computed anew if other splits are in effect than were before."""
        in_effect = self._splits.find_not_applied()
        if in_effect is None:
            return
        self._moved_splits |= {day for day, _ in set(in_effect) ^ set(self._state.applied)}
        self._state.applied, self._has_new_day = in_effect, True
        for live in self.live_indicators.values():
            live.restart()

    def take_moved_splits(self) -> set[date]:
        """Return the ex-days of the splits that came into effect, or no longer are, since the last call."""
        moved, self._moved_splits = self._moved_splits, set()
        return moved

    def pack_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Return the fields to store of indicators and final days that changed, and the fields to delete."""
        fields: dict[str, bytes] = {}
        if self._has_new_day:
            fields[DAILY] = b"%d" % (self._state.version + 1)
            self._has_new_day = False
        for timeframe, live in self.live_indicators.items():
            if (packed := live.pack()) is not None:
                fields[series_field(timeframe)] = packed
            if (packed := live.pack_past()) is not None:
                fields[past_field(timeframe)] = packed
        outdated, self._outdated = self._outdated, []
        return fields, outdated

    def find_first_close(self) -> None:
        """Find when the first of the open bars ends, after some of them changed."""
        closes = (each.close_ms for each in self._state.open_bars.values())
        self.first_close_ms = min(closes, default=LATEST_MS)

    def _publish(
        self, timeframe: Timeframe, changed: Origins, due: list[int], border_ms: int, outputs: Outputs
    ) -> None:
        """Add the entries of one timeframe: of the bars that changed, and of those due to be final."""
        open_bars, table = self._state.open_bars, self._state.tables[timeframe]
        is_wanted, has_indicators = timeframe in self._group.timeframes, timeframe in self.live_indicators
        shown: Origins = {}
        corrections: dict[int, int] = {}
        for start_ms in sorted([*changed, *due]):
            slot, opened = table[start_ms], open_bars.get((timeframe, start_ms))
            provenance = changed.get(start_ms) or (opened.provenance if opened else Provenance("unknown"))
            shown[start_ms] = provenance
            is_known = self._settle_correction(table, start_ms, corrections)
            close_ms = self._find_final(timeframe, start_ms, slot, opened)
            is_final = close_ms <= border_ms
            if is_final:
                open_bars.pop((timeframe, start_ms), None)
                if timeframe == "1d":
                    self._has_new_day = True
                    self._final_days.starts.append(start_ms)
                    if is_known:
                        self._final_days.restated.add(start_ms)
            else:
                open_bars[timeframe, start_ms] = OpenBar(close_ms, provenance)
            if is_wanted and (held := slot.shown) is not None:
                basis = self._splits.find_basis(held.adjustment, held.seen_ms)
                outputs.bars.append(
                    self._encoder.encode_bar(
                        held.bar,
                        basis,
                        provenance,
                        rev=slot.rev,
                        is_final=is_final,
                        volume_kind=held.volume_kind,
                        minutes=held.minutes,
                        is_other_hours=held.is_other_hours,
                        corrected_ms=slot.corrected_ms,
                    )
                )
                if not has_indicators:
                    slot.indicator_rev = max(slot.rev, slot.indicator_rev)
                    table.mark_changed(start_ms)
        for start_ms, known_ms in corrections.items():
            _note_known(table, start_ms, known_ms)
        if is_wanted and has_indicators:
            self._publish_indicators(timeframe, shown, changed, corrections, outputs)
        changed.clear()

    def _settle_correction(self, table: BarTable, start_ms: int, corrections: dict[int, int]) -> bool:
        """Note in its slot, and in `corrections`, if a bar that was final is another one by a correction.

        Return True if it was final and is not corrected.
        """
        key = table.timeframe, start_ms
        before, is_restated = self._replaced.pop(key, None), key in self._restated
        self._restated.discard(key)
        held = table[start_ms].shown
        if before is None or held is None:
            return False
        if is_restated or not is_correction(before.bar, held.bar):
            return True
        table.open_slot(start_ms).corrected_ms = corrections[start_ms] = held.seen_ms
        return False

    def _find_final(self, timeframe: Timeframe, start_ms: int, slot: Slot, opened: OpenBar | None) -> int:
        """Return the time at which a bar is final: EARLIEST_MS if it is now, LATEST_MS if that is unknown."""
        if slot.given is not None and slot.shown is slot.given:
            return EARLIEST_MS if slot.given.is_complete else LATEST_MS
        if opened is not None and opened.close_ms != LATEST_MS:
            return opened.close_ms
        if opened is None and slot.indicator_rev >= 0:  # what was final stays final
            return EARLIEST_MS
        return find_close(self._state, self._grid, timeframe, start_ms)

    def _publish_indicators(
        self,
        timeframe: Timeframe,
        shown: Origins,
        changed: Origins,
        corrections: Mapping[int, int],
        outputs: Outputs,
    ) -> None:
        """Add the indicators of bars that changed, of all later ones, and of those that became final.

        `corrections` are the bars that were final before, in order, each with when its correction was seen.
        """
        table, live = self._state.tables[timeframe], self.live_indicators[timeframe]
        found = live.update(sorted(changed)) if changed or live.is_outdated else {}
        values = {
            start_ms: each
            for start_ms, each in found.items()
            if start_ms in changed or each != self._open_values.get((timeframe, start_ms))
        }
        others, is_of_days = frozenset(values), timeframe == "1d" or timeframe in PERIODS
        for start_ms in () if shown.keys() == others else shown.keys() - others:
            # not among the open ones if another instance computed them
            known = self._open_values.get((timeframe, start_ms)) or live.recall(start_ms)
            if known is not None:
                values[start_ms] = known
        starts = sorted(values)
        if corrections:
            _note_corrections(table, starts, corrections)
        for start_ms in starts:
            slot, key = table.open_slot(start_ms), (timeframe, start_ms)
            is_final = key not in self._state.open_bars
            if start_ms in others:
                slot.indicator_rev = max(slot.rev, slot.indicator_rev + 1)
            if is_final:
                self._open_values.pop(key, None)
            else:
                self._open_values[key] = values[start_ms]
            provenance = shown.get(start_ms)
            if provenance is None:
                held = slot.shown
                is_replay = self._state.is_replay or (held is not None and held.is_replay)
                provenance = Provenance(held.source if held else "unknown", is_replay=is_replay)
            outputs.indicators.append(
                self._encoder.encode_values(
                    key,
                    values[start_ms],
                    provenance,
                    rev=slot.indicator_rev,
                    is_final=is_final,
                    is_other_hours=is_of_days and (bar := slot.shown) is not None and bar.is_other_hours,
                    corrected_ms=slot.known_ms,
                )
            )


def _note_corrections(table: BarTable, starts: Sequence[int], corrections: Mapping[int, int]) -> None:
    """Note in the slots of bars since when their indicators are known that a correction changed.

    It is stored with them: they stay known since then, also if they are computed anew. `corrections` are as
    of `_publish_indicators`; `starts` are those of the bars, in order.
    """
    coming, known_ms = deque(corrections.items()), 0
    for start_ms in starts:
        while coming and coming[0][0] <= start_ms:
            known_ms = max(known_ms, coming.popleft()[1])
        _note_known(table, start_ms, known_ms)


def _note_known(table: BarTable, start_ms: int, known_ms: int) -> None:
    """Note in the slot of a bar since when it or its indicators are known, unless that is later already."""
    slot = table.open_slot(start_ms)
    if known_ms > max(slot.known_ms, start_ms):  # a bar that begins later is known at its end
        slot.known_ms = known_ms


def is_period_whole(state: SymbolState, grid: Grid, timeframe: Timeframe, open_ms: int) -> bool:
    """Return True if a week or month was seen from its open, and its last trading day is final or has no bar.

    That it has none follows from a bar of a later day.
    """
    interval, covered = grid.find(open_ms, timeframe), state.covered.get("1d")
    last = None if interval is None else grid.find(interval.close_ms - 1, "1d")
    if interval is None or last is None or covered is None:
        return False

    def is_open(start_ms: int) -> bool:
        return ("1d", start_ms) in state.open_bars

    is_begun = covered.first_ms < open_ms or (covered.first_ms == open_ms and not is_open(open_ms))
    known = [day for day in (state.tables["1d"].newest_ms, state.newest_past_ms) if day is not None]
    newest_ms = max(known, default=EARLIEST_MS)
    is_over = newest_ms >= interval.close_ms or (newest_ms >= last.open_ms and not is_open(last.open_ms))
    return is_begun and is_over


def find_close(state: SymbolState, grid: Grid, timeframe: Timeframe, open_ms: int) -> int:
    """Return when a built bar has ended; LATEST_MS if it begins before the first minute.

    A week or a month has ended when its last trading day is final, or is known to have no bar.
    """
    if timeframe in PERIODS:
        return EARLIEST_MS if is_period_whole(state, grid, timeframe, open_ms) else LATEST_MS
    if state.first_ms is not None and open_ms < state.first_ms:
        return LATEST_MS
    interval = grid.find(open_ms, timeframe)
    return open_ms if interval is None else interval.close_ms
