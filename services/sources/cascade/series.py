"""Define a series: what to ask a source for, which records count, and until when they are fresh. Pure.

A series is fresh while no newer record can be overdue: while its market is open, the newest one may be as old
as its own length and `max_age_sec` more; while it is closed, the last one before the close will do. Bars that
are not over yet are left out, so that a bar is what it is when it appears. All times are epoch milliseconds,
unless a name says otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from math import log
from typing import Final

from services.market.actions import find_action_fault, find_day_ms
from services.market.intervals import Grid, find_utc_end
from services.market.records import (
    DAY_MS,
    KEPT_DAYS,
    MINUTE_MS,
    SOURCE_TIMEFRAMES,
    TIMEFRAME_SEC,
    AssetClass,
    Bar,
    CorporateAction,
    Quote,
    Record,
    RecordKind,
)
from services.market.separate import join_source
from services.market.sessions import FOREX, ROUND_THE_CLOCK, US_FUTURES, OutsideCalendarError, Session
from services.sources.catalog.request import Question
from services.sources.settings import QUOTE_DAYS, SourcesSettings

OVERLAP_BARS: Final = 10
"""The number of bars that are asked for again, since sources correct what they said."""
REVISED_DAYS: Final = 400.0
"""The age up to which observations are asked for again, unless the source's file says less.

Most statistics are revised within a year."""
ANSWER_AGE_SEC: Final = 2 * 86_400.0
"""How old the last answer may be where it is not known when the next record is due."""
UNSCHEDULED: Final = frozenset({RecordKind.OBSERVATIONS, RecordKind.ACTIONS})
MAX_AHEAD_MS: Final = 120_000
"""The milliseconds by which a record may be ahead of our clock; a later one is wrong."""
NOT_POSITIVE: Final = "a price that is not positive"
AHEAD: Final = "a time that lies ahead"
WRONG_SHARE: Final = 0.1
"""The share of wrong records above which a whole answer is wrong."""
FEW_WRONG: Final = 3
"""So many wrong ones cost themselves alone, also in a short answer, if more than as many are right."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RECENT, _BEFORE = 5, 60  # the bars of now, and those that they are compared with
_QUIET, _VOLATILE = 0.5, 2.0
DAY_DELAY_MS: Final = 20 * MINUTE_MS
"""How long after the close the day of an exchange is complete, unless the source's file says otherwise: many
feeds are 15 minutes late, and the auction at the close takes minutes."""
LATE_LOOK_MS: Final = 300 * MINUTE_MS
"""How long after its close a day is asked for once more: sources correct it in the evening."""


class Pace(StrEnum):
    """Name how fast the prices of a series move, compared with a while ago."""

    QUIET = "quiet"
    NORMAL = "normal"
    VOLATILE = "volatile"


@dataclass(frozen=True, slots=True)
class DayEnd:
    """Say when a source has the whole day, for bars of `1d`.

    Attributes:
        delay_ms: how long after the end of the day.
        is_utc: whether its days end at midnight of UTC, and not with the session.
    """

    delay_ms: int = 0
    is_utc: bool = False

    def find(self, close_ms: int) -> int:
        """Return when the day whose session closes then is complete."""
        return (find_utc_end(close_ms) if self.is_utc else close_ms) + self.delay_ms


AT_CLOSE: Final = DayEnd()


@dataclass(frozen=True, slots=True)
class Series:
    """Hold what is loaded: the records of one kind of one symbol.

    Attributes:
        sources: in the order in which they may serve.
        max_age_sec: how late the newest record may be, beyond its own length.
        every_sec: the time between two loads while the market is open; None: by the refresh alone.
        history_days: how far back the first load goes.
        may_stream: whether a source's stream may bring its records.
        is_separate: whether its bars are those of its one source, and no part of the symbol's.
    """

    symbol: str
    kind: RecordKind
    timeframe: str
    asset: AssetClass
    session: str
    sources: tuple[str, ...]
    max_age_sec: float
    history_days: float
    every_sec: float | None = None
    critical: bool = False
    group: str | None = None
    may_stream: bool = True
    is_separate: bool = False

    @property
    def id(self) -> str:
        """The name of the series: `SPY:bars:1m`, `EUR/USD:quotes`, `SPY:bars:1m@massive` if separate."""
        name = ":".join(filter(None, (self.symbol, self.kind, self.timeframe)))
        return join_source(name, self.sources[0]) if self.is_separate else name

    def name_entry(self, symbol: str) -> str:
        """Return the `sym` of an entry whose record has a symbol: the same, or `SPY@massive` if separate.

        It need not be the symbol of the series: the quotes of a chain have those of its options.
        """
        return join_source(symbol, self.sources[0]) if self.is_separate else symbol

    @property
    def length_ms(self) -> int:
        """How long each record is; 0 for quotes and observations."""
        return 1000 * TIMEFRAME_SEC[self.timeframe] if self.timeframe else 0


def list_series(settings: SourcesSettings) -> tuple[Series, ...]:
    """Return the series that the truth names, in its order, without those of disabled symbols."""
    found, disabled = [], set(settings.settings.disabled)
    for entry in settings.endpoints:
        age_sec = ANSWER_AGE_SEC if entry.kind in UNSCHEDULED else settings.settings.gate.fresh_sec
        for symbol in entry.all_symbols:
            if symbol in disabled:
                continue
            series = Series(
                symbol,
                entry.kind,
                entry.timeframe if entry.kind is RecordKind.BARS else "",
                entry.asset,
                entry.find_session(symbol),
                entry.sources,
                entry.max_age_sec or age_sec,
                entry.days,
                entry.every_sec,
                entry.critical,
                entry.group,
                entry.stream and not entry.separate,
                entry.separate,
            )
            found.append(series)
    return tuple(found)


# -- what is asked


def make_question(series: Series, session: Session, newest_ms: int | None, now_ms: int) -> Question:
    """Return the question for what is missing since the newest record, or for the history if there is none.

    Some records before the newest one are asked for again, as sources correct them. A history of bars begins
    with a whole trading day: of a part of one, the bar of that day would be wrong. Of actions all are asked
    for each time: what a source has withdrawn shows in a whole list alone.
    """
    oldest_ms = find_oldest(series, session, now_ms)
    if series.kind is RecordKind.ACTIONS:
        return make_older_question(series, oldest_ms, now_ms)
    overlap_days = REVISED_DAYS if series.kind is RecordKind.OBSERVATIONS else QUOTE_DAYS
    is_bars = series.kind is RecordKind.BARS
    overlap_ms = OVERLAP_BARS * series.length_ms if is_bars else round(overlap_days * DAY_MS)
    start_ms = oldest_ms if newest_ms is None else max(oldest_ms, newest_ms - overlap_ms)
    question = make_older_question(series, min(start_ms, now_ms), now_ms)
    return question if newest_ms is None else replace(question, known_until=_to_datetime(newest_ms))


def find_revised(series: Series, session: Session, newest_ms: int, now_ms: int, revise_days: float) -> int:
    """Return from when on bars of a series may still be corrected, in epoch milliseconds.

    `revise_days` is how long minutes may; the longer bars of others are kept longer.
    """
    kept_ms = round(max(revise_days, KEPT_DAYS.get(series.timeframe, 0)) * DAY_MS)
    return max(find_oldest(series, session, now_ms), newest_ms - kept_ms)


def make_older_question(series: Series, start_ms: int, end_ms: int) -> Question:
    """Return the question for a part of the history, up to what is known."""
    start, end = _to_datetime(start_ms), _to_datetime(end_ms)
    return Question(series.symbol, series.asset, series.kind, start, end, series.timeframe)


def _to_datetime(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


def find_oldest(series: Series, session: Session, now_ms: int) -> int:
    """Return where the history begins: that of bars with the open of a trading day, if there is one then."""
    oldest_ms = now_ms - round(series.history_days * DAY_MS)
    if series.kind is not RecordKind.BARS:
        return oldest_ms
    try:
        day = session.find_day(oldest_ms)
    except OutsideCalendarError:
        return oldest_ms
    return oldest_ms if day is None else day.open_ms


# -- which records count


def time_of(record: Record) -> int:
    """Return by what records are sorted: a bar's open, a quote's time, the start of a period or a day."""
    if isinstance(record, CorporateAction):
        return find_day_ms(record.ex_day)
    return record.at_ms if isinstance(record, Quote) else record.start_ms


def find_day_end(series: Series, *, delay_sec: float | None = None, is_utc: bool = False) -> DayEnd:
    """Return when a source has a whole day of a series, by what its file says.

    Where the market never pauses, a day is complete when it ends; days of UTC are only another thing than
    those of a session if that has days of its own.
    """
    if series.timeframe != "1d":
        return AT_CLOSE
    is_continuous = series.session in (ROUND_THE_CLOCK, FOREX)
    usual_ms = 0 if is_continuous else DAY_DELAY_MS
    delay_ms = usual_ms if delay_sec is None else round(1000 * delay_sec)
    return DayEnd(delay_ms, is_utc and series.session in (FOREX, US_FUTURES))


def keep_finished(
    series: Series, session: Session, records: Sequence[Record], now_ms: int, day_end: DayEnd = AT_CLOSE
) -> list[Record]:
    """Leave out bars that are not over yet."""
    if series.kind is not RecordKind.BARS or not records:
        return list(records)
    return [record for record in records if find_end(series, session, time_of(record), day_end) <= now_ms]


def place_bars(series: Series, session: Session, records: Sequence[Record]) -> tuple[list[Record], int]:
    """Return the records that the service bars can take, and how many of the others have a wrong time.

    A wrong time is one within a trading day at which no bar of the timeframe begins, because some sources end
    their answer with the price of this moment, as a bar that begins now, and some count hours from midnight.
    What begins while the market is closed is left out.
    """
    timeframe = next((each for each in SOURCE_TIMEFRAMES if each == series.timeframe), None)
    if series.kind is not RecordKind.BARS or timeframe is None:
        return list(records), 0
    grid = Grid(session)
    placed = [record for record in records if grid.place(time_of(record), timeframe) is not None]
    if len(placed) == len(records):
        return placed, 0
    within = sum(grid.find_day(time_of(record)) is not None for record in records)
    return placed, within - sum(grid.find_day(time_of(record)) is not None for record in placed)


def find_end(series: Series, session: Session, start_ms: int, day_end: DayEnd = AT_CLOSE) -> int:
    """Return when a source has the whole bar: a day as `day_end` says, others by their length."""
    if series.timeframe == "1d":
        try:
            return day_end.find((session.find_day(start_ms) or session.next_day(start_ms)).close_ms)
        except OutsideCalendarError:
            return start_ms + DAY_MS
    return start_ms + series.length_ms


def sort_out(
    asset: AssetClass, records: Sequence[Record], now_ms: int
) -> tuple[list[Record], list[str], str | None]:
    """Return the records that keep the rules, why each other one does not, and why all of them are wrong.

    The last is None unless the newest of them lies ahead: that is most often a wrong zone, which shifts all.
    """
    kept, faults = list[Record](), list[str]()
    for record in records:
        fault = _find_fault_of(asset, record, now_ms)
        if fault is None:
            kept.append(record)
        else:
            faults.append(fault)
    newest_ms = max(map(time_of, records), default=0)
    return kept, faults, AHEAD if newest_ms > now_ms + MAX_AHEAD_MS else None


def is_wrong_as_whole(faults: int, rows: int) -> bool:
    """Return True if so many rows of an answer are wrong that the others are not to be trusted, either."""
    return 2 * faults > rows or faults > max(FEW_WRONG, WRONG_SHARE * rows)


def _find_fault_of(asset: AssetClass, record: Record, now_ms: int) -> str | None:
    if time_of(record) > now_ms + MAX_AHEAD_MS:
        return AHEAD
    may_be_negative = asset is AssetClass.COMMODITIES
    if isinstance(record, Bar):
        if not record.low <= min(record.open, record.close) <= max(record.open, record.close) <= record.high:
            return "a price outside of low and high"
        if record.low <= 0 and not may_be_negative:
            return NOT_POSITIVE
        return "a negative volume" if record.volume is not None and record.volume < 0 else None
    if isinstance(record, Quote):
        is_free = record.price == 0 and asset is AssetClass.OPTIONS  # one that is not traded
        if record.price <= 0 and not is_free and not may_be_negative:
            return NOT_POSITIVE
        # where one side is 0, there is no offer on that side
        return "a bid above the ask" if record.bid and record.ask and record.bid > record.ask else None
    return find_action_fault(record) if isinstance(record, CorporateAction) else None


def measure_pace(records: Sequence[Record]) -> Pace:
    """Return how much prices moved in the last few bars, compared with those before."""
    closes = [record.close for record in records if isinstance(record, Bar) and record.close > 0]
    logs = [log(close) for close in closes[-_RECENT - _BEFORE - 1 :]]  # a quotient of prices may be 0
    moves = [abs(after - before) for before, after in pairwise(logs)]
    recent, before = moves[-_RECENT:], moves[:-_RECENT]
    if len(before) < _BEFORE // 2:
        return Pace.NORMAL
    usual, now = sum(before) / len(before), sum(recent) / len(recent)
    if now > _VOLATILE * usual:
        return Pace.VOLATILE
    return Pace.QUIET if now < _QUIET * usual else Pace.NORMAL


# -- until when they are fresh


def fresh_until(
    series: Series, session: Session, newest_ms: int | None, answered_ms: int, day_end: DayEnd = AT_CLOSE
) -> int:
    """Return until when a series is fresh whose newest record is of `newest_ms`; 0 without a record.

    `answered_ms` is when a source answered last: the freshness of observations and actions counts from
    there, since it is unknown when the next one is published.
    """
    if newest_ms is None:
        return 0
    age_ms = round(1000 * series.max_age_sec)
    if series.kind in UNSCHEDULED:
        return answered_ms + age_ms
    try:
        if series.timeframe == "1d":
            day = session.find_day(newest_ms) or session.next_day(newest_ms)
            return day_end.find(session.next_day(day.open_ms).close_ms) + age_ms
        end_ms = find_end(series, session, newest_ms)
        return _fresh_until_next(session, end_ms, age_ms + series.length_ms)
    except OutsideCalendarError:
        return newest_ms + 2 * series.length_ms + age_ms


def _fresh_until_next(session: Session, end_ms: int, age_ms: int) -> int:
    """Return until when a record that ended at `end_ms` is fresh; closed hours of the market don't count.

    Neither is a lunch break.
    """
    day = session.find_day(end_ms)
    if day is not None and day.break_ms is not None:
        pauses, resumes = day.break_ms
        if end_ms < resumes and end_ms + age_ms > pauses:
            age_ms += resumes - max(pauses, end_ms)
    if session.find_day(end_ms + age_ms) is not None and session.find_day(end_ms) is None:
        return _find_open_time(session, end_ms, age_ms)
    return _find_open_time(session, end_ms + age_ms, age_ms)


def _find_open_time(session: Session, at_ms: int, after_ms: int) -> int:
    return at_ms if session.find_day(at_ms) is not None else session.next_day(at_ms).open_ms + after_ms


def find_next_record(
    series: Series,
    session: Session,
    newest_ms: int | None,
    answered_ms: int,
    now_ms: int,
    *,
    day_end: DayEnd = AT_CLOSE,
) -> int | None:
    """Return when the next record can be complete, if nothing can change before that; None otherwise.

    Nothing can while the market is closed, once a source has answered late enough: the last records of a
    session are there when the longest of them has ended, and `max_age_sec` has passed since the close. A day
    is asked for once more late in the evening, and then when the next one is complete.
    """
    if series.kind in UNSCHEDULED or newest_ms is None:
        return None
    is_within_day = series.length_ms < DAY_MS
    wait_ms = max(round(1000 * series.max_age_sec), series.length_ms if is_within_day else 0)
    try:
        if session.find_day(now_ms) is not None:
            return None
        closed_ms = day_end.find(session.previous_day(now_ms).close_ms)
        following = session.next_day(now_ms)
    except OutsideCalendarError:
        return None
    if answered_ms < closed_ms + wait_ms:
        return None
    if is_within_day:
        return following.open_ms + series.length_ms
    late_ms = closed_ms + LATE_LOOK_MS
    if answered_ms < late_ms < following.open_ms:
        return late_ms if late_ms > now_ms else None
    return day_end.find(following.close_ms)
