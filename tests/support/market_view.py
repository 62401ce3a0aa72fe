"""Show a market as one source shows it at one time, with the vices of that source. Pure.

A vice is a fault of a source. Some are faults of its data, which are made here; the others are faults of its
answers, which `market_server` makes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeVar

from services.market.records import DAY_MS, MINUTE_MS, TIMEFRAME_SEC, Bar, Observation, Quote
from support.market_prices import (
    Action,
    Instrument,
    Market,
    Vintage,
    begin_bar,
    make_vintages,
    published_ms,
    session_hours,
    session_spans,
)


class ViceKind(StrEnum):
    """Name the vices of a source."""

    # of its answers
    LIMITED = "limited"  # 429, with Retry-After if `retry_after` says what
    TEAPOT = "teapot"  # 418
    BROKEN = "broken"  # 500
    REFUSED = "refused"  # its own notice of too many requests, mostly with status 200
    HANG = "hang"  # no answer
    CUT = "cut"  # the connection ends in the middle of the body
    REDIRECT = "redirect"
    HTML = "html"  # a page for people, with status 200
    WRONG_JSON = "wrong_json"  # a document that ends too early
    OTHER_SHAPE = "other_shape"  # a document with other names than documented
    HUGE = "huge"  # 25 MB
    DEEP = "deep"  # lists in lists, 100,000 deep
    # of its data
    FROZEN = "frozen"  # the price stays what it was at `since_ms`
    LATE = "late"  # what is younger than `minutes` will be corrected
    PARTIAL = "partial"  # the bars of the last `minutes` are there in half
    SPLIT = "split"  # prices from `since_ms` on are halved
    WRONG_ZONE = "wrong_zone"  # times are `hours` off
    OFF_MINUTE = "off_minute"  # one stamp in `every` is seven seconds late
    NEGATIVE = "negative"  # one row in `every` has prices below zero
    CROSSED = "crossed"  # one row in `every` has its high below its low
    MISSING = "missing"  # one row in `every` is not there
    HELD = "held"  # one row in `every` is not there until it is `minutes` old
    REVISED = "revised"  # one row in `every` has another close until it is `minutes` old
    NOT_A_NUMBER = "not_a_number"  # one row in `every` has no number for its close until it is `minutes` old
    DUPLICATED = "duplicated"  # each row is there twice
    UNORDERED = "unordered"  # every second row comes first


@dataclass(frozen=True, slots=True)
class Vice:
    """Hold a vice, from `since_ms` until `until_ms` of the market's time (None: always)."""

    kind: ViceKind
    since_ms: int | None = None
    until_ms: int | None = None
    retry_after: str | None = None
    minutes: int = 10
    hours: int = 5
    every: int = 10

    def is_active(self, now_ms: int) -> bool:
        """Return True if the source has this vice now."""
        return (self.since_ms is None or self.since_ms <= now_ms) and (
            self.until_ms is None or now_ms < self.until_ms
        )


Row = TypeVar("Row", Bar, Observation)
_WIDEST_SHIFT_MS: Final = 26 * 3_600_000


class MarketView:
    """Show what a source shows of the market at `now_ms` (epoch milliseconds), with these vices."""

    def __init__(self, market: Market, now_ms: int, vices: Iterable[Vice] = ()) -> None:
        self.market, self.now_ms = market, now_ms
        self._vices = {each.kind: each for each in vices if each.is_active(now_ms)}

    def find_symbol(self, spelled: str, spell: Callable[[Instrument], str | None]) -> Instrument:
        """Return the instrument that a source spells so. Raise KeyError if there is none."""
        for instrument in self.market.instruments.values():
            if spell(instrument) == spelled:
                return instrument
        raise KeyError(spelled)

    def find_bars(
        self,
        symbol: str,
        timeframe: str,
        start_ms: int | None = None,
        end_ms: int | None = None,
        *,
        first: int | None = None,
        last: int | None = None,
    ) -> list[Bar]:
        """Return the bars from `start_ms` to `end_ms`, both included, or so many of them.

        The oldest comes first, unless the source is unordered. The last one may not be over yet.
        """
        begin = self.market.begin_ms if start_ms is None else start_ms
        end = self.now_ms if end_ms is None else end_ms
        known = self.market.find_known(symbol, timeframe, self.now_ms)
        edges = (begin - _WIDEST_SHIFT_MS, end + _WIDEST_SHIFT_MS)
        near = known[slice(*(bisect_left(known, edge, key=lambda bar: bar.start_ms) for edge in edges))]
        spoiled = self._drop_missing(self._spoil_bars(symbol, near))
        rows = [self._spoil_close(bar) for bar in spoiled if begin <= bar.start_ms <= end]
        rows = rows if first is None else rows[:first]
        return self._spoil_order(rows if last is None else rows[-last:])

    def find_observations(self, symbol: str, start_ms: int, end_ms: int) -> list[Observation]:
        """Return the values of a series from `start_ms` to `end_ms`, both included, that are published."""
        series = self.market.series[symbol]
        known = [
            each
            for each in self.market.observations(symbol)
            if start_ms <= each.start_ms <= end_ms and published_ms(each, series) <= self.now_ms
        ]
        if (frozen := self._vices.get(ViceKind.FROZEN)) is not None and frozen.since_ms is not None:
            held = [each.value for each in known if each.start_ms < frozen.since_ms]
            known = [
                replace(each, value=held[-1]) if held and each.start_ms >= frozen.since_ms else each
                for each in known
            ]
        if (vice := self._vices.get(ViceKind.NEGATIVE)) is not None:
            known = [replace(each, value=-each.value) if _is_hit(each, vice) else each for each in known]
        return self._spoil_order(self._drop_missing(known))

    def find_vintages(self, symbol: str, start_ms: int, end_ms: int) -> list[Vintage]:
        """Return the values that the periods between two times ever had, and that are shown now."""
        series = self.market.series[symbol]
        known = (
            vintage
            for each in self.market.observations(symbol)
            if start_ms <= each.start_ms <= end_ms
            for vintage in make_vintages(each, series)
        )
        return [each for each in known if each.shown_ms <= self.now_ms]

    def find_actions(self, symbol: str) -> list[Action]:
        """Return the splits and dividends of a symbol that are named now."""
        named = self.market.list_actions(symbol)
        return [each for each in named if each.until_ms is None or self.now_ms < each.until_ms]

    def find_quote(self, symbol: str) -> Quote | None:
        """Return the latest price; None if nothing was traded yet."""
        bars = self._spoil_bars(symbol, self.market.find_known(symbol, "1m", self.now_ms)[-1:])
        if not bars:
            return None
        bar, instrument = bars[0], self.market.instruments[symbol]
        tick = 10.0**-instrument.decimals
        shift = self.shift_ms
        return Quote(
            symbol,
            min(self.now_ms + shift, bar.start_ms + MINUTE_MS - 1),
            bar.close,
            round(bar.close - tick, instrument.decimals),
            round(bar.close + tick, instrument.decimals),
            None if bar.volume is None else self._find_day_volume(instrument),
        )

    def find_opening(self, bar: Bar) -> int:
        """Return when the market opened on the day of a daily bar, in epoch milliseconds."""
        instrument = self.market.instruments[bar.symbol]
        day = datetime.fromtimestamp(bar.start_ms / 1000, instrument.zone).date()
        hours = session_hours(instrument.session, day)
        return bar.start_ms if hours is None else hours[0]

    def find_quiet_minutes(self, symbol: str, start_ms: int, end_ms: int) -> list[int]:
        """Return the minutes between two times of one day in which the market was open and nobody traded."""
        if end_ms - start_ms <= MINUTE_MS:
            return []
        instrument = self.market.instruments[symbol]
        day = datetime.fromtimestamp(start_ms / 1000, instrument.zone).date()
        spans = session_spans(instrument.session, day)
        quiet = range(start_ms + MINUTE_MS, end_ms, MINUTE_MS)
        return [minute for minute in quiet if any(begin <= minute < end for begin, end in spans)]

    def _find_day_volume(self, instrument: Instrument) -> float:
        """Return what was traded on the latest day."""
        return self.market.find_known(instrument.symbol, "1d", self.now_ms)[-1].volume or 0.0

    @property
    def shift_ms(self) -> int:
        """By how much all times are wrong."""
        zone = self._vices.get(ViceKind.WRONG_ZONE)
        return 0 if zone is None else 3_600_000 * zone.hours

    def _spoil_bars(self, symbol: str, bars: Iterable[Bar]) -> list[Bar]:
        """Return bars with what is wrong in their values and times."""
        shift, spoiled = self.shift_ms, []
        held = self._find_frozen_price(symbol)
        for true in bars:
            bar = self._spoil_values(true, held)
            if (vice := self._vices.get(ViceKind.OFF_MINUTE)) is not None and _is_hit(true, vice):
                bar = replace(bar, start_ms=bar.start_ms + 7_000)
            spoiled.append(replace(bar, start_ms=bar.start_ms + shift) if shift else bar)
        return spoiled

    def _spoil_values(self, bar: Bar, held: float | None) -> Bar:
        """Return a bar with what is wrong in its values; `held` is the price at which the market froze."""
        end = bar.start_ms + 1000 * TIMEFRAME_SEC[bar.timeframe]
        for kind, vice in self._vices.items():
            is_after = vice.since_ms is None or bar.start_ms >= vice.since_ms
            is_young = self.now_ms < end + MINUTE_MS * vice.minutes
            if kind is ViceKind.FROZEN and is_after and held is not None:
                bar = scale_prices(bar, 0.0, held)
            elif kind is ViceKind.SPLIT and is_after:
                bar = scale_prices(bar, 0.5)
            elif kind is ViceKind.LATE and is_young:
                bar = replace(bar, close=bar.low if bar.close > bar.low else bar.high)
            elif kind is ViceKind.PARTIAL and is_young and end <= self.now_ms:
                bar = begin_bar(bar, 0.5)
            elif kind is ViceKind.NEGATIVE and _is_hit(bar, vice):
                bar = scale_prices(bar, -1.0)
            elif kind is ViceKind.REVISED and self._is_young_hit(bar, kind):
                bar = replace(bar, close=bar.low if bar.close > bar.low else bar.high)
            elif kind is ViceKind.CROSSED and _is_hit(bar, vice):
                bar = replace(bar, high=bar.low, low=bar.high + 0.01)
        return bar

    def _spoil_close(self, bar: Bar) -> Bar:
        """Return a bar without a close that is a number, if its source has that vice."""
        return replace(bar, close=float("nan")) if self._is_young_hit(bar, ViceKind.NOT_A_NUMBER) else bar

    def _is_young_hit(self, bar: Bar, kind: ViceKind) -> bool:
        """Return True if a bar is one of those that a source has late or wrong, and not old enough yet."""
        vice = self._vices.get(kind)
        if vice is None or not _is_hit(bar, vice):
            return False
        return self.now_ms < bar.start_ms + 1000 * TIMEFRAME_SEC[bar.timeframe] + MINUTE_MS * vice.minutes

    def _find_frozen_price(self, symbol: str) -> float | None:
        """Return the price at which the source froze; None if it did not."""
        vice = self._vices.get(ViceKind.FROZEN)
        if vice is None:
            return None
        since = self.market.begin_ms + 1 if vice.since_ms is None else vice.since_ms
        before = self.market.find_known(symbol, "1m", since)
        return before[-1].close if before else None

    def _drop_missing(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows without those that a source with that vice does not have."""
        vice = self._vices.get(ViceKind.MISSING)
        return [
            row
            for row in rows
            if not (vice is not None and _is_hit(row, vice))
            and not (isinstance(row, Bar) and self._is_young_hit(row, ViceKind.HELD))
        ]

    def _spoil_order(self, rows: list[Row]) -> list[Row]:
        """Return rows as often and in such an order as a source with those vices has them."""
        if ViceKind.DUPLICATED in self._vices:
            rows = [row for row in rows for _ in range(2)]
        return rows[1::2] + rows[::2] if ViceKind.UNORDERED in self._vices else rows


def scale_prices(bar: Bar, factor: float, offset: float = 0.0) -> Bar:
    """Return a bar with other prices: each times `factor` and plus `offset`."""
    prices = {name: getattr(bar, name) for name in ("open", "high", "low", "close", "vwap")}
    return replace(
        bar,
        **{name: round(each * factor + offset, 6) for name, each in prices.items() if each is not None},
    )


def _is_hit(row: Bar | Observation, vice: Vice) -> bool:
    """Return True for one row in `vice.every`, by its time, so that it is the same one at each question."""
    length = 1000 * TIMEFRAME_SEC[row.timeframe] if isinstance(row, Bar) else DAY_MS
    return row.start_ms // length % vice.every == 0
