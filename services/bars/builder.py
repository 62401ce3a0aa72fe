"""Build the bars of one symbol: check what comes, build longer bars, and say what to publish. Pure.

`take` only changes the state. `flush` then builds every longer bar that a change touches, once, however many
of its minutes changed, and returns the entries to publish. So a long backlog costs little
more than its newest minutes would, and the result does not depend on how the entries were batched.

A revision counts the changes of all the minutes in a bar (and of what a source gave for the whole interval),
so it depends on what came, and not on when or in which order. It is counted on from what the bus has stored,
and a bus may lose its last seconds. So each entry has an epoch too, higher each time that the state is
read: of the entries of one bar, the highest revision of the highest epoch counts.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import date
from typing import Final

from services.bars.bar_table import EARLIEST_MS, LATEST_MS
from services.bars.outputs import Arrival, EntryEncoder, Outputs
from services.bars.publisher import BarPublisher, Changed, FinalDays, find_close
from services.bars.quality import (
    ATR_BARS,
    Candidate,
    Check,
    HeldBar,
    Known,
    Rejection,
    SuspectBar,
    check_jump,
    find_difference,
    find_rejection,
    is_before,
    is_confirmation,
    is_outranked,
    list_findings,
)
from services.bars.retention import Retention
from services.bars.settings import BarsOptions, SymbolGroup
from services.bars.splits import SplitView
from services.bars.state import SymbolState, TickTimes
from services.market.actions import find_day_ms
from services.market.adjust import AS_TRADED
from services.market.entries import encode_entry, parse_action, parse_bar, parse_provenance, parse_quote
from services.market.fields import MAX_MS, MAX_NUMBER, MIN_MS, EntryError, Fields
from services.market.intervals import Grid, Interval
from services.market.records import (
    DAY_MS,
    MINUTE_MS,
    PERIODS,
    SOURCE_TIMEFRAMES,
    TIMEFRAMES,
    Adjustment,
    AssetClass,
    Bar,
    Provenance,
    Quote,
    RecordKind,
    Timeframe,
    VolumeKind,
)
from services.market.separate import read_separate, split_source

RELEASED: Final = b"released"
"""The field of an entry that an operator released from the quarantine."""
OTHER_HOURS: Final = b"other_hours"
"""The field of the entry of a day that is not of the session's hours, but of UTC's."""
_MONTH_MS: Final = 32 * DAY_MS
WHOLE_SHARE: Final = 0.9
"""The share of its minutes with which a built day replaces one of other hours: a quiet night has few."""
KEPT_MINUTES: Final = 5
"""Ticks that are older than this many of the newest minutes are too late."""
_CHAIN: Final[Sequence[tuple[Timeframe, Timeframe]]] = (
    *(("1m", "5m"), ("5m", "15m"), ("15m", "30m")),
    *(("15m", "1h"), ("1h", "4h"), ("4h", "1d")),
)
"""Each timeframe with a longer one that is built of it."""


class BarBuilder:
    """Build the bars of one symbol; its series of indicators are read from its `stored` fields."""

    def __init__(
        self, state: SymbolState, group: SymbolGroup, grid: Grid, options: BarsOptions, stored: Fields
    ) -> None:
        self.state, self.group, self.options = state, group, options
        _, self._source = split_source(state.symbol)
        self.counts: Counter[tuple[str, str]] = Counter()
        """The outcome of the records since it was last read: by source, and a check, `taken` or `skipped`."""
        self.findings: Counter[tuple[str, str]] = Counter()
        """What was found about records that were taken, by source and check."""
        self._settle_ms = round(1000 * options.settle_sec)
        self._grid = grid
        self._encoder = EntryEncoder(state.symbol, group.asset, state.epoch, grid)
        self._splits = SplitView(state, grid)
        # by timeframe, the starts of the bars to publish, and of the bars that longer ones are built of; the
        # latter in the order of their last changes: a longer bar has the source of the last one
        self._changed: Changed = {timeframe: {} for timeframe in TIMEFRAMES}
        self._built: Changed = {timeframe: {} for timeframe in TIMEFRAMES}
        self._pending = Outputs()
        """What came of single entries since the last flush: a history, and what was rejected."""
        self._publisher = BarPublisher(state, group, grid, self._splits, self._encoder, stored=stored)
        self._retention = Retention(state, grid, options.revise_days)
        self._kept_from_ms = self._retention.find_oldest()["1d"]
        """From when on all days are kept that ever came."""
        self._known_days = self._find_known_days()
        self._past_days = FinalDays([], set())
        """The days of a history that were passed on since the last flush."""
        if state.tables["1w"].newest_ms is None:  # of a release that built no weeks
            self._past_days.starts.extend(bar.start_ms for bar in state.tables["1d"].list_since(EARLIEST_MS))

    def take(self, arrival: Arrival) -> None:
        """Check an entry and take it into the state, or put it aside for the quarantine."""
        is_bar, fields = arrival.kind is RecordKind.BARS, arrival.fields
        if arrival.kind is RecordKind.ACTIONS:
            self._take_action(fields)
            return
        if not is_bar and not self.group.quotes:
            return
        try:
            record = self._parse_bar(fields) if is_bar else parse_quote(fields)
            provenance = parse_provenance(fields)
        except EntryError as error:
            self._reject(arrival, _read_source(fields), Rejection(Check.SCHEMA, str(error)))
            return
        if isinstance(record, Quote):
            self._take_quote(arrival, record, provenance)
        elif record.timeframe not in SOURCE_TIMEFRAMES or (self.group.quotes and record.timeframe == "1m"):
            self.counts[provenance.source, "skipped"] += 1
        else:
            self._evaluate_bar(arrival, record, provenance)

    def _parse_bar(self, fields: Fields) -> Bar:
        """Return the bar of an entry, under the name that these bars have: `SPY`, or `SPY@massive`."""
        if self._source is None:
            return parse_bar(fields)
        plain, _, _ = read_separate(fields)
        return replace(parse_bar(plain), symbol=self.state.symbol)

    @property
    def due_ms(self) -> int:
        """The clock at which the first of the open bars is final, LATEST_MS if none is by the clock."""
        first_ms = self._publisher.first_close_ms
        return first_ms if first_ms == LATEST_MS else first_ms + self._settle_ms

    def find_due(self, clock_ms: int) -> bool:
        return self._publisher.first_close_ms <= self._find_border(clock_ms)

    def flush(self, clock_ms: int) -> Outputs:
        """Build what changed, and return what is to be published at this time."""
        outputs, self._pending = self._pending, Outputs()
        minutes = {start_ms for timeframe, start_ms in self._publisher.find_restated() if timeframe == "1m"}
        restated: dict[Timeframe, set[int]] = {"1m": minutes}
        for finer, timeframe in _CHAIN:
            restated[timeframe] = self._build(finer, timeframe, restated[finer])
        for built in self._built.values():
            built.clear()
        border_ms = self._find_border(clock_ms)
        final = self._publisher.publish(SOURCE_TIMEFRAMES, self._changed, border_ms, outputs)
        past, self._past_days = self._past_days, FinalDays([], set())
        days = past.starts + final.starts
        known = final.restated | past.restated.difference(final.starts)
        near = self._list_days_near(self._publisher.take_moved_splits())
        known.update(set(near).difference(days))
        days += near
        is_restarted = self._publisher.is_outdated(PERIODS)  # other splits are in effect
        if days or is_restarted or self._known_days != self._find_known_days():
            self._known_days = self._find_known_days()
            for timeframe in PERIODS:
                self._build_periods(timeframe, days, known)
            self._forget_past_days()
            self._publisher.publish(PERIODS, self._changed, border_ms, outputs)
        return outputs

    def pack_changes(self) -> tuple[dict[str, bytes], list[str]]:
        """Return the fields to store of what changed since the last call, and those to delete."""
        forgotten = self.state.forget_before(self._retention.take_moved())
        self._kept_from_ms = max(self._kept_from_ms, self._retention.find_oldest()["1d"])
        if self.state.past_days and any(each.startswith("1d:") for each in forgotten):
            self.state.past_days, self.state.has_new_past = (
                [],
                True,
            )  # what follows on them is not whole any more
        if forgotten:
            self._publisher.find_first_close()
        fields = self.state.pack_changes()
        changed, outdated = self._publisher.pack_changes()
        return fields | changed, forgotten + outdated

    def _take_action(self, fields: Fields) -> None:
        """Keep a split. What is no action is only counted: the archive has it among its dead letters."""
        try:
            self._splits.take(parse_action(fields))
        except EntryError:
            self.counts[_read_source(fields), Check.SCHEMA] += 1

    def _take_quote(self, arrival: Arrival, quote: Quote, provenance: Provenance) -> None:
        start_ms = quote.at_ms - quote.at_ms % MINUTE_MS
        ticks = self.state.ticks
        if not provenance.is_replay and arrival.fields.get(RELEASED) != b"1":
            first, _ = _merge_tick(quote, None, None)
            border_ms = _find_seen(first, provenance, arrival) + 1000 * self.group.checks.ahead_sec
            # minutes of quotes that a clock dated ahead, which was set back since
            for ahead_ms in [each for each in ticks if each > border_ms]:
                del ticks[ahead_ms]
        if ticks and start_ms not in ticks and start_ms < max(ticks):
            late = Rejection(Check.TOO_LATE, "its minute is over, and was built without it")
            self._reject(arrival, provenance.source, late)
            return
        # a minute that is too old may be forgotten already, or with the next commit
        is_kept = start_ms >= self._retention.find_oldest()["1m"]
        slot = self.state.tables["1m"].find(start_ms) if is_kept else None
        held = None if slot is None else slot.built
        bar, tick = _merge_tick(quote, None if held is None else held.bar, ticks.get(start_ms))
        if held is not None and bar == held.bar:
            ticks[start_ms] = tick
            self.counts[provenance.source, "taken"] += 1
        elif self._evaluate_bar(arrival, bar, provenance, EARLIEST_MS if held is None else held.seen_ms):
            ticks[start_ms] = tick
            for old_ms in sorted(ticks)[:-KEPT_MINUTES]:
                del ticks[old_ms]

    def _evaluate_bar(
        self, arrival: Arrival, bar: Bar, provenance: Provenance, least_seen_ms: int = EARLIEST_MS
    ) -> bool:
        """Evaluate a bar by the checks; take it and return True, or put it aside and return False.

        `least_seen_ms` is when the latest part of it was seen that we have already.
        """
        timeframe: Timeframe = bar.timeframe  # type: ignore[assignment]
        interval = self._grid.place(bar.start_ms, timeframe)
        if interval is not None and interval.open_ms != bar.start_ms:
            bar = replace(bar, start_ms=interval.open_ms)
        candidate = Candidate(
            bar,
            provenance.source,
            max(least_seen_ms, _find_seen(bar, provenance, arrival)),
            interval,
            provenance.rank,
            is_other_hours=arrival.fields.get(OTHER_HOURS) == b"1",
            may_be_negative=self.group.asset is AssetClass.COMMODITIES,
            adjustment=provenance.adjustment,
        )
        known = self._find_known(candidate, timeframe)
        is_history = self._is_history(candidate, timeframe, known)
        if is_history:
            known = Known(bar.start_ms)
        if not self._passes(arrival, candidate, timeframe, known, provenance):
            return False
        self._settle_suspect(candidate, timeframe, known)
        if timeframe == "1m":
            for finding in list_findings(candidate, known, self.group.checks):
                self.findings[provenance.source, finding] += 1
        if is_history:
            self._pass_on(candidate, timeframe, provenance)
        else:
            self._hold(candidate, timeframe, provenance)
        self.counts[provenance.source, "taken"] += 1
        return True

    def _passes(
        self,
        arrival: Arrival,
        candidate: Candidate,
        timeframe: Timeframe,
        known: Known,
        provenance: Provenance,
    ) -> bool:
        """Return True if a bar passes the checks; otherwise count it, and maybe quarantine it."""
        is_released = arrival.fields.get(RELEASED) == b"1"
        bar = candidate.bar
        is_unplaced = candidate.interval is None and bar.timeframe != "1d" and not is_released
        if is_unplaced and self._grid.find_day(bar.start_ms) is None:
            # most sources send the hours before the open and after the close: hundreds of minutes a day
            self.counts[provenance.source, Check.WRONG_SESSION] += 1
            return False
        compared = self._splits.compare(candidate)
        rejection = find_rejection(compared, known, self.group.checks, is_released=is_released)
        if rejection is not None:
            if rejection.check is Check.JUMP:
                self.state.suspects[timeframe] = SuspectBar(bar, candidate.seen_ms, provenance)
            self._reject(arrival, provenance.source, rejection)
            return False
        if not is_released and arrival.kind is RecordKind.BARS:
            if is_outranked(candidate, known.held):
                self.counts[provenance.source, "skipped"] += 1
                return False
            self._quarantine_replaced(arrival, compared, known)
        return True

    def _quarantine_replaced(self, arrival: Arrival, candidate: Candidate, known: Known) -> None:
        """Quarantine the held bar if a source before its own replaces it with very different prices."""
        held = known.held
        if held is None or not is_before(candidate, held):
            return
        if (why := find_difference(candidate, known, self.group.checks)) is None:
            return
        rejection = Rejection(Check.SOURCE_DISAGREEMENT, f"a source before it replaced it: {why}")
        origin = Provenance(
            held.source,
            held.seen_ms / 1000,
            is_replay=held.is_replay,
            rank=held.rank,
            volume_kind=held.volume_kind,
        )
        fields = encode_entry(held.bar, self.group.asset, origin)
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        self._reject(replace(arrival, fields=raw), held.source, rejection)

    def _is_history(self, candidate: Candidate, timeframe: Timeframe, known: Known) -> bool:
        """Return True if a source gives a bar from before what is kept, and none of its interval ever was.

        So it is if minutes are known before a history that is longer than what may be revised. A source that
        adjusts its bars gives its whole past again after a split: that is taken in place of what was.
        """
        start_ms, interval = candidate.bar.start_ms, candidate.interval
        if timeframe == "1m" or interval is None or start_ms >= known.oldest_ms:
            return False
        covered = self.state.covered.get(timeframe)
        is_new = covered is None or not covered.has(start_ms)
        is_taken = is_new or candidate.adjustment is not Adjustment.RAW
        return is_taken and candidate.seen_ms >= interval.close_ms

    def _pass_on(self, candidate: Candidate, timeframe: Timeframe, provenance: Provenance) -> None:
        """Publish a bar of an old history, without keeping it: no minute and no correction of it is taken."""
        bar, covered = candidate.bar, self.state.covered.get(timeframe)
        # the revision of what was published before is forgotten, so an epoch from after it goes before it
        is_again = covered is not None and covered.has(bar.start_ms)
        again = {"epoch": str(max(self.state.epoch, candidate.seen_ms))} if is_again else {}
        if is_again:  # so is since when it was known, which a reader that still has it keeps
            again["restated"] = "1"
        self.state.cover(timeframe, bar.start_ms)
        if timeframe == "1d":
            self._record_past_day(candidate, provenance)
            self._past_days.starts.append(bar.start_ms)
            if is_again:  # what it was is forgotten, so nothing says that it is corrected
                self._past_days.restated.add(bar.start_ms)
        if timeframe in self.group.timeframes:
            basis = self._splits.find_basis(candidate.adjustment, candidate.seen_ms)
            kind = provenance.volume_kind
            fields = self._encoder.encode_bar(
                bar,
                basis,
                provenance,
                rev=0,
                is_final=True,
                volume_kind=kind,
                is_other_hours=candidate.is_other_hours,
            )
            self._pending.bars.append(fields | again)
        live = self._publisher.live_indicators.get(timeframe)
        (seen,) = self._splits.adjust([candidate], self._splits.find_current())
        if live is not None and (values := live.append_past(seen)) is not None:
            key = timeframe, bar.start_ms
            is_other_hours = candidate.is_other_hours
            found = self._encoder.encode_values(
                key, values, provenance, rev=0, is_final=True, is_other_hours=is_other_hours
            )
            self._pending.indicators.append(found | again)

    def _record_past_day(self, candidate: Candidate, provenance: Provenance) -> None:
        """Keep a day that was passed on until its week and its month are over, which are built of it."""
        state, bar = self.state, candidate.bar
        opens = [interval.open_ms for each in PERIODS if (interval := self._grid.find(bar.start_ms, each))]
        newest_ms, from_ms = state.newest_past_ms, min(opens, default=bar.start_ms)
        if newest_ms is not None and bar.start_ms <= newest_ms:
            state.past_days.clear()  # another history, which is older
        # those of before are pruned once they are built, and a gap in a history hides none
        state.past_from_ms = from_ms if not state.past_days else min(state.past_from_ms, from_ms)
        held = HeldBar(
            bar,
            1,
            provenance.source,
            candidate.seen_ms,
            is_complete=True,
            is_replay=provenance.is_replay,
            is_other_hours=candidate.is_other_hours,
            adjustment=candidate.adjustment,
            volume_kind=provenance.volume_kind,
        )
        state.past_days.append(held)
        state.has_new_past = True

    def _settle_suspect(self, candidate: Candidate, timeframe: Timeframe, known: Known) -> None:
        """Forget the suspect after a later bar passed; take it in before, if that one confirms it."""
        suspect = self.state.suspects.get(timeframe)
        if known.suspect is None or suspect is None or candidate.bar.start_ms < suspect.bar.start_ms:
            return
        del self.state.suspects[timeframe]
        bar, provenance = suspect.bar, suspect.provenance
        if bar.start_ms < known.oldest_ms:
            return
        slot = self.state.tables[timeframe].find(bar.start_ms)
        before = None if slot is None else slot.built if timeframe == "1m" else slot.given
        # a source that has adjusted its past gives a bar again that we hold of it
        is_free = (timeframe != "1m" or slot is None) if before is None else _is_restated(before, suspect)
        interval = self._grid.find(bar.start_ms, timeframe)
        taken = Candidate(bar, provenance.source, suspect.seen_ms, interval, adjustment=provenance.adjustment)
        if is_free and (
            is_confirmation(self._splits.compare(candidate), known, self.group.checks)
            or self._is_jump_no_more(taken, timeframe)
        ):
            self._hold(taken, timeframe, provenance)

    def _is_jump_no_more(self, suspect: Candidate, timeframe: Timeframe) -> bool:
        """Return True if bars have come since, right before a suspect, from which it is no jump.

        One that came first after a hole was compared with a close from before the hole.
        """
        known = replace(self._find_known(suspect, timeframe), suspect=None)
        if len(known.before) < ATR_BARS:
            return False
        return check_jump(self._splits.compare(suspect), known, self.group.checks) is None

    def _find_known(self, candidate: Candidate, timeframe: Timeframe) -> Known:
        """Return what is known about the symbol by which a candidate is evaluated."""
        state, start_ms = self.state, candidate.bar.start_ms
        table = state.tables[timeframe]
        newest_ms = table.newest_ms
        oldest_ms = self._retention.find_oldest()[timeframe]
        slot = table.find(start_ms)
        built = None
        if timeframe == "1m":
            held = None if slot is None else slot.built
            is_final = held is not None and (newest_ms != start_ms or held.is_complete)
        else:
            held = None if slot is None else slot.given
            is_final = held is not None and held.is_complete
            is_open = slot is None or (timeframe, start_ms) in state.open_bars
            built = None if slot is None or is_open else self._find_whole(slot.built, candidate.interval)
        suspect = state.suspects.get(timeframe)
        before = [] if candidate.interval is None else table.list_before(start_ms, ATR_BARS)
        if before and before[0].bar.start_ms < oldest_ms:  # some of these may be forgotten already
            before = [each for each in before if each.bar.start_ms >= oldest_ms]
        last_ms = before[-1].bar.start_ms if before else None
        known = Known(
            oldest_ms,
            newest_ms,
            held,
            is_final,
            built,
            before=self._splits.adjust(before, self._splits.find_as_of(start_ms)) if before else (),
            is_after_break=last_ms is not None and self._grid.is_break_between(last_ms, start_ms),
            missing=0 if last_ms is None else self._grid.count_missing(last_ms, start_ms),
            suspect=suspect,
        )
        earliest_ms = min(start_ms, start_ms if suspect is None else suspect.bar.start_ms)
        return known if self._splits.is_quiet(earliest_ms) else self._compare_known(known, start_ms)

    def _find_whole(self, built: HeldBar | None, interval: Interval | None) -> HeldBar | None:
        """Return a built bar; None if so few of its minutes came that it says little of the whole one."""
        if built is None or interval is None or not built.minutes:
            return built
        least = self.group.day_share * self._grid.count_minutes(interval)
        return built if built.minutes >= least else None

    def _compare_known(self, known: Known, start_ms: int) -> Known:
        """Return what is known of a bar's start with prices as traded, and the suspect as of its day."""
        splits, suspect = self._splits, known.suspect
        if suspect is not None:
            origin = suspect.provenance
            given = Candidate(suspect.bar, origin.source, suspect.seen_ms, None, adjustment=origin.adjustment)
            (bar,) = splits.adjust([given], splits.find_as_of(start_ms))
            suspect = replace(suspect, bar=bar)

        def compare(held: HeldBar | None) -> HeldBar | None:
            return held and replace(held, bar=splits.adjust([held], AS_TRADED)[0])

        return replace(known, held=compare(known.held), built=compare(known.built), suspect=suspect)

    def _hold(self, candidate: Candidate, timeframe: Timeframe, provenance: Provenance) -> None:
        """Store a bar that passed the checks in its table, and mark what is to be published."""
        state, bar, interval = self.state, candidate.bar, candidate.interval
        slot = state.tables[timeframe].open_slot(bar.start_ms)
        before, shown = slot.built if timeframe == "1m" else slot.given, slot.shown
        held = HeldBar(
            bar,
            1 + (before.changes if before else 0),
            provenance.source,
            candidate.seen_ms,
            interval is None or candidate.seen_ms >= interval.close_ms,
            provenance.is_replay,
            provenance.rank,
            candidate.is_other_hours,
            adjustment=candidate.adjustment,
            volume_kind=provenance.volume_kind,
        )
        if timeframe == "1m":
            slot.built = held
            self._built[timeframe].pop(bar.start_ms, None)
            self._built[timeframe][bar.start_ms] = provenance
            self._record_minute(bar.start_ms)
        else:
            slot.given = held
            state.cover(timeframe, bar.start_ms)
            if timeframe in self._publisher.live_indicators:
                reaches_table = state.reaches_table(timeframe)
                self._publisher.live_indicators[timeframe].end_past(reaches_table=reaches_table)
        state.is_replay = provenance.is_replay
        if slot.shown is not shown:
            if bar.start_ms not in self._changed[timeframe]:
                self._publisher.note_replaced(timeframe, bar.start_ms, shown)
            self._changed[timeframe][bar.start_ms] = provenance

    def _record_minute(self, start_ms: int) -> None:
        """Note a minute that was taken, if it is the newest one, or the oldest one of all that ever came.

        A longer bar that begins before the first one is not final, however long it has ended, because its
        beginning is unknown. An older minute may say now that it was seen from its open.
        """
        state = self.state
        state.newest_ms = start_ms if state.newest_ms is None else max(state.newest_ms, start_ms)
        if state.first_ms is not None and state.first_ms <= start_ms:
            return
        state.first_ms = start_ms
        for (timeframe, open_ms), each in state.open_bars.items():
            slot = state.tables[timeframe][open_ms]
            if slot.shown is slot.built:
                each.close_ms = find_close(state, self._grid, timeframe, open_ms)

    def _reject(self, arrival: Arrival, source: str, rejection: Rejection) -> None:
        self.counts[source, rejection.check] += 1
        self._pending.quarantine.append(self._encoder.encode_rejected(arrival, source, rejection))

    def _build(self, finer: Timeframe, timeframe: Timeframe, restated: Collection[int]) -> set[int]:
        """Build each longer bar again in which a shorter one changed.

        `restated` are the starts of the shorter ones that changed and correct nothing; return those of the
        longer ones.
        """
        touched: dict[int, tuple[Interval, Provenance]] = {}
        found: set[int] = set()
        others: set[int] = set()
        for start_ms, provenance in self._built[finer].items():
            if (interval := self._grid.find(start_ms, timeframe)) is not None:
                touched.pop(interval.open_ms, None)
                touched[interval.open_ms] = (interval, provenance)
                (found if start_ms in restated else others).add(interval.open_ms)
        for open_ms, (interval, provenance) in touched.items():
            parts = self.state.tables[finer].list_built(interval.open_ms, interval.close_ms)
            slot = self.state.tables[timeframe].open_slot(open_ms)
            adjustment = self._splits.find_common(parts)
            given = [part.bar for part in parts]
            bars = self._splits.adjust(parts, AS_TRADED) if adjustment is Adjustment.RAW else given
            changes, seen_ms, is_replay = 0, EARLIEST_MS, False
            for part in parts:
                changes += part.changes
                seen_ms = max(seen_ms, part.seen_ms)
                is_replay = is_replay or part.is_replay
            bar, volume_kind = settle_volume(merge_bars(bars, timeframe, open_ms), parts)
            minutes, shown = len(parts) if finer == "1m" else _add_minutes(parts), slot.shown
            slot.built = built = HeldBar(
                bar,
                changes,
                provenance.source,
                seen_ms,
                is_complete=self._is_seen_whole(interval, minutes),
                is_replay=is_replay,
                minutes=minutes,
                adjustment=adjustment,
                volume_kind=volume_kind,
            )
            self._built[timeframe][open_ms] = provenance
            self.state.cover(timeframe, open_ms)
            if slot.shown is built:
                known = None if open_ms in self._changed[timeframe] else shown
                self._publisher.note_rebuilt(timeframe, open_ms, known, is_restated=open_ms not in others)
                self._changed[timeframe][open_ms] = provenance
        return found - others

    def _is_seen_whole(self, interval: Interval, minutes: int) -> bool:
        """Return True if a built bar was seen from its open, and of a day nearly all of its minutes.

        A bar of an unknown number of minutes (0) was built by a release that did not count them.
        """
        first_ms = self.state.first_ms
        if first_ms is None or interval.open_ms < first_ms:
            return False
        if interval.timeframe != "1d" or not minutes:
            return True
        return minutes >= WHOLE_SHARE * self._grid.count_minutes(interval)

    def _build_periods(self, timeframe: Timeframe, days: Sequence[int], known_days: Collection[int]) -> None:
        """Build each week or month again in which a final day is new or changed, of all of its final days.

        One of which some days are kept no more stays as it is. Those that are whole by now become final. The
        source of a bar is that of its last day. `known_days` are those of the days that correct nothing.
        """
        state = self.state
        touched: dict[int, Interval] = {}
        others: set[int] = set()
        for start_ms in days:
            if (interval := self._grid.find(start_ms, timeframe)) is not None:
                touched[interval.open_ms] = interval
                if start_ms not in known_days:
                    others.add(interval.open_ms)
        for open_ms, interval in touched.items():
            parts = self._list_final_days(interval)
            changes = sum(part.changes for part in parts)
            slot = state.tables[timeframe].find(open_ms)
            known = None if slot is None else slot.built
            is_older = known is not None and known.changes >= changes
            if not parts or (is_older and open_ms < self._kept_from_ms):
                continue  # some of its days were forgotten since
            last, is_replay = parts[-1], any(part.is_replay for part in parts)
            bars, adjustment = self._splits.adjust_to_last(parts)
            bar, volume_kind = settle_volume(merge_bars(bars, timeframe, open_ms), parts)
            if known is not None and is_older:
                if bar == known.bar:
                    continue
                changes = known.changes + 1  # of the same days, with a split that was not known before
            self._publisher.note_rebuilt(timeframe, open_ms, known, is_restated=open_ms not in others)
            state.tables[timeframe].open_slot(open_ms).built = HeldBar(
                bar,
                changes,
                last.source,
                max(part.seen_ms for part in parts),
                is_complete=True,
                is_replay=is_replay,
                is_other_hours=last.is_other_hours,
                minutes=_add_minutes(parts),
                adjustment=adjustment,
                volume_kind=volume_kind,
            )
            origin = Provenance(last.source, last.seen_ms / 1000, is_replay=is_replay)
            self._changed[timeframe][open_ms] = origin
        for (frame, open_ms), each in state.open_bars.items():
            if frame == timeframe and open_ms not in touched:
                each.close_ms = find_close(state, self._grid, timeframe, open_ms)

    def _find_known_days(self) -> tuple[int | None, int | None]:
        """Return the start of the newest day, and of the first day ever."""
        covered = self.state.covered.get("1d")
        return self.state.tables["1d"].newest_ms, None if covered is None else covered.first_ms

    def _list_final_days(self, interval: Interval) -> list[HeldBar]:
        """Return the final days of a week or month in order, each with its changes; none if some are lost."""
        state, table = self.state, self.state.tables["1d"]
        past = [held for held in state.past_days if interval.open_ms <= held.bar.start_ms < interval.close_ms]
        if interval.open_ms < self._kept_from_ms and not (past and state.past_from_ms <= interval.open_ms):
            return []
        # whole chunks are forgotten, so a day that was passed on may be in the table, too: as it was before
        given = {held.bar.start_ms for held in past}
        return past + [
            replace(held, changes=table[held.bar.start_ms].rev + 1)
            for held in table.list_shown(interval.open_ms, interval.close_ms)
            if ("1d", held.bar.start_ms) not in state.open_bars
            and held.bar.start_ms not in given
            # one that an operator released, though the market was closed, is of no week
            and self._grid.find_day(held.bar.start_ms) is not None
        ]

    def _list_days_near(self, dates: Iterable[date]) -> list[int]:
        """Return the starts of the kept days of all weeks and months that these dates are in."""
        found: set[int] = set()
        for middle_ms in map(find_day_ms, dates):
            near = self.state.tables["1d"].list_shown(middle_ms - _MONTH_MS, middle_ms + _MONTH_MS)
            found.update(held.bar.start_ms for held in near)
        return sorted(found)

    def _forget_past_days(self) -> None:
        """Forget the days that were passed on before the newest one's week and month."""
        state = self.state
        if (newest_ms := state.newest_past_ms) is None:
            return
        opens = [interval.open_ms for each in PERIODS if (interval := self._grid.find(newest_ms, each))]
        from_ms = min(opens, default=newest_ms)
        state.past_days = [held for held in state.past_days if held.bar.start_ms >= from_ms]
        state.past_from_ms = max(state.past_from_ms, from_ms)

    def _find_border(self, clock_ms: int) -> int:
        """Return the time up to which all intervals have ended."""
        newest_ms = self.state.newest_ms
        by_clock = clock_ms - self._settle_ms
        return by_clock if newest_ms is None else max(by_clock, newest_ms)


def _is_restated(held: HeldBar, suspect: SuspectBar) -> bool:
    """Return True if a suspect is a later answer of the source of a bar that we hold."""
    return held.source == suspect.provenance.source and held.seen_ms < suspect.seen_ms


def _read_source(fields: Fields) -> str:
    try:
        return parse_provenance(fields).source
    except EntryError:
        return "unknown"


def _find_seen(bar: Bar, provenance: Provenance, arrival: Arrival) -> int:
    """Return when a bar was seen, in epoch ms: as its source says; without that, when it was written."""
    as_of_ms = round(1000 * provenance.as_of)
    if provenance.is_replay:
        as_of_ms = as_of_ms or bar.start_ms + MINUTE_MS
    # a source is asked before its answer is written, and the future can't be recorded; of an entry that says
    # nothing the id alone does, which its writer may have chosen
    return max(MIN_MS, min(as_of_ms or arrival.written_ms, arrival.written_ms, MAX_MS))


def _merge_tick(quote: Quote, held: Bar | None, tick: TickTimes | None) -> tuple[Bar, TickTimes]:
    """Return the minute of a tick with the tick in it, and when its first and last ticks were.

    `held` and `tick` are the minute so far, None if this is its first tick. A tick has no volume, so the
    volume, the vwap and the trades of such a minute are unknown. Its ticks may come in any order.
    """
    price, at_ms = quote.price, quote.at_ms
    if held is None or tick is None:
        start_ms = at_ms - at_ms % MINUTE_MS
        return Bar(quote.symbol, "1m", start_ms, price, price, price, price), TickTimes(at_ms, at_ms)
    merged = replace(
        held,
        open=price if at_ms < tick.first_ms else held.open,
        high=max(held.high, price),
        low=min(held.low, price),
        # of two ticks of one moment the later one to come is the close
        close=price if at_ms >= tick.last_ms else held.close,
    )
    return merged, TickTimes(min(tick.first_ms, at_ms), max(tick.last_ms, at_ms))


def _add_minutes(parts: Sequence[HeldBar]) -> int:
    """Return of how many minutes the parts of a bar were built; 0 if that is unknown of one of them."""
    minutes = [part.minutes for part in parts]
    return sum(minutes) if all(minutes) else 0


def settle_volume(bar: Bar, parts: Sequence[HeldBar]) -> tuple[Bar, VolumeKind | None]:
    """Return a bar that was merged of parts without a volume that makes no sum, and whose volume it has.

    The trades of one venue are a part of those of all, so parts of two kinds have no sum: volume, vwap and
    trades are None. One part of unknown kind makes that of the whole unknown.
    """
    kinds = {part.volume_kind for part in parts}
    if len(kinds) == 1:
        return bar, kinds.pop()
    if len(kinds - {None}) > 1:
        bar = replace(bar, volume=None, vwap=None, trades=None)
    return bar, None


def merge_bars(parts: Sequence[Bar], timeframe: str, start_ms: int) -> Bar:
    """Return the bar of an interval made of the bars in it, which are in order of time.

    The volume, the trades and the vwap are None unless every part has them; a part in which nothing was
    traded needs no vwap. A sum beyond MAX_NUMBER, which no entry can hold, is None, too. Raise IndexError if
    there are no parts.
    """
    first, last = parts[0], parts[-1]
    volume: float | None = 0.0
    turnover: float | None = 0.0
    trades: int | None = 0
    high, low = max([part.high for part in parts]), min([part.low for part in parts])
    for part in parts:
        if part.volume is None:
            volume = turnover = None
        elif volume is not None:
            volume += part.volume
            if part.vwap is None:
                turnover = turnover if part.volume == 0 else None
            elif turnover is not None:
                turnover += part.vwap * part.volume
        trades = None if trades is None or part.trades is None else trades + part.trades
    if volume is not None and volume > MAX_NUMBER:
        volume = turnover = None
    if trades is not None and trades > MAX_NUMBER:
        trades = None
    vwap = turnover / volume if turnover is not None and volume else None
    if vwap is not None:
        vwap = min(max(vwap, low), high)  # the sums are rounded, and an average lies within
    return Bar(first.symbol, timeframe, start_ms, first.open, high, low, last.close, volume, vwap, trades)
